"""The course of a run: which solver takes which step, and how one takes over from another."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from core import denoise, samplers
from core.errors import BadRequest
from core.estimates import as_epsilon, clean_estimate
from core.layout import parts_of, prompts_of
from core.models.catalogue import ModelInfo
from core.models.fingerprint import fingerprint
from core.models.sd import StableDiffusion
from core.record import Leg, Outline, Parent
from core.regions import predictor_for
from core.request import Request
from core.samplers.build import build, first_levels, last_steps, noise_levels, solver_scale, step_options
from core.trajectory import Past, other_weights

SAME_LEVEL = 1e-4  # noise levels closer than this are one: solvers that mean the same level round it differently


@dataclass(eq=False)
class Lane:
    """One picture of a batch: its latents, solver and random numbers are its own, so that no batch changes it."""

    x: Tensor  # (1, C, h, w) float32, as the solver scales it
    scheduler: Any
    options: dict[str, Any]  # for scheduler.step: the generator
    predictor: denoise.Predictor
    generator: torch.Generator = field(default_factory=torch.Generator)
    refined: denoise.Predictor | None = None  # what takes the predictor's place where a refiner takes over


@dataclass(eq=False)
class DdimMove:
    """One exact DDIM step between any two noise levels, in the shape of a diffusers scheduler.

    Source: Song et al. 2020, arXiv:2010.02502, eq. 12 with no fresh noise; with an unguided output that of CFG++, Chung
    et al. 2024, arXiv:2406.08070, which puts back the unguided noise.
    """

    timesteps: Tensor  # (1)
    sigmas: Tensor  # (2): from, to
    prediction: str
    needs_unguided: bool = False  # as the solver that it leads to, see Sampler
    init_noise_sigma = 1.0

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor:
        return sample

    def step(self, output: Tensor, timestep: Tensor, sample: Tensor, return_dict: bool = False,
             unguided: Tensor | None = None) -> tuple[Tensor]:
        start, end = (float(sigma) for sigma in self.sigmas)
        x0 = clean_estimate(sample, output, start, self.prediction)
        free = x0 if unguided is None else clean_estimate(sample, unguided, start, self.prediction)
        signal = 1 / (1 + end**2) ** 0.5
        return (signal * x0 + end * signal * as_epsilon(sample, free, start),)


def outline_of(model: StableDiffusion, request: Request, device: str, past: Past | None,
               refiner: ModelInfo | None = None) -> Outline:
    """Raises BadRequest for a change that this past cannot take, TrajectoryError for a past with other weights."""
    weights, refining = fingerprint(model.info), fingerprint(refiner) if refiner else ""
    if past is not None:
        if weights != past.run.outline.model:
            raise other_weights(past.run.path.name, request.model)
        if request.refiner == past.run.request.refiner and refining != past.run.outline.refiner:
            raise other_weights(past.run.path.name, request.refiner)
        if past.changes is None:
            return past.run.outline
    visible = sorted({k for part in parts_of(request, model.info) for k in part.visible})
    guided = all(prompts_of(request, k).both for k in visible)
    legs: tuple[Leg, ...] = (Leg.whole(request),)
    parent = None
    if past is not None:
        legs = _forked(model, request, past)
        guided = guided or past.run.outline.guided and past.steps > 0
        parent = Parent(past.run.path.name, past.steps, past.changes or {})
    return Outline(request.replace(precision=model.precision), weights, device, model.prediction, legs,
                   tuple(visible) if request.regions else (), guided, parent, refining)


def _forked(model: StableDiffusion, request: Request, past: Past) -> tuple[Leg, ...]:
    """The past's legs, and one more when the solver or the noise is another from here on."""
    at, wanted = past.steps, Leg.whole(request)
    legs = tuple(leg for leg in past.run.outline.legs if leg.start < at)
    if not legs:
        return (wanted,)
    last = legs[-1]
    if wanted.seed != past.run.request.seed and not samplers.SAMPLERS[wanted.sampler].stochastic:
        raise BadRequest(f"{wanted.sampler} draws no noise after the first: from step {at} on another seed changes "
                         "nothing. Change the prompt, or take a sampler that does, like Euler a.", "seed")
    if wanted.solver == last.solver:
        taken = at - last.start - last.moved + last.skipped
        return legs if wanted.seed == last.seed else (*legs, last._replace(start=at, seed=wanted.seed, skipped=taken,
                                                                            moved=False))
    sigma = _levels(model, last)[at - last.start - last.moved]
    levels = _levels(model, wanted)
    skipped = next((k for k, level in enumerate(levels) if level <= sigma * (1 + SAME_LEVEL)), None)
    if skipped is None:
        raise BadRequest(f"{wanted.sampler} {wanted.schedule} with {wanted.steps} steps goes down to sigma "
                         f"{levels[-1]:.3g}; at step {at} the run is at {sigma:.3g} already: fork earlier, or take "
                         "more steps.", "sampler")
    return (*legs, wanted._replace(start=at, skipped=skipped, moved=levels[skipped] < sigma * (1 - SAME_LEVEL)))


def lane_of(model: StableDiffusion, outline: Outline, k: int, refiner: StableDiffusion | None = None) -> Lane:
    """Picture k of a run, at its starting noise: that of diffusers' pipelines for seed + k, drawn on the CPU."""
    leg = outline.legs[0]
    seed = _seed(outline, leg, k)
    scheduler, generator = _scheduler(model, leg, seed), torch.Generator("cpu").manual_seed(seed)
    noise = _noise(model, outline, generator)
    own = outline.request.single(k).seed
    return Lane(noise * scheduler.init_noise_sigma, scheduler, step_options(scheduler, generator),
                predictor_for(model, outline.request, noise, own), generator,
                predictor_for(model, outline.request, noise, own, refiner) if refiner else None)


def take_over(model: StableDiffusion, outline: Outline, lane: Lane, k: int, index: int, call: int) -> bool:
    """Make lane k ready for step `index`; whether another solver takes it from here. call: those of its solver so far.
    """
    changed = False
    for before, leg in pairwise(outline.legs):
        seed = _seed(outline, leg, k)
        if leg.start == index and leg.seed != before.seed:
            lane.generator = torch.Generator("cpu").manual_seed(seed)
            _noise(model, outline, lane.generator)  # what follows is not what a run of that seed starts from
        if leg.solver == before.solver:
            if leg.start == index:
                _reseed(lane, seed)
        elif index in (leg.start, leg.start + leg.moved):
            timestep = lane.scheduler.timesteps[min(call, len(lane.scheduler.timesteps) - 1)]
            x = lane.scheduler.scale_model_input(lane.x, timestep)
            if index < leg.start + leg.moved:
                sigma = _levels(model, before)[index - before.start - before.moved]
                lane.scheduler = DdimMove(timestep[None], torch.tensor([sigma, _levels(model, leg)[0]]),
                                          _training(model)["prediction_type"],
                                          samplers.SAMPLERS[leg.sampler].needs_unguided)
            else:
                lane.scheduler = _scheduler(model, leg, seed)
            lane.x = x * solver_scale(lane.scheduler, noise_levels(lane.scheduler)[0])
            lane.options = step_options(lane.scheduler, lane.generator)
            changed, call = True, 0
    return changed


def refine(model: StableDiffusion, outline: Outline, lane: Lane, k: int, index: int) -> None:
    """Lane k goes on from step `index` with what its refiner predicts, by the same solver without memory: what another
    network said is no history of this one's. So too diffusers' pipelines, with denoising_end and denoising_start.
    """
    assert lane.refined is not None
    lane.predictor = lane.refined
    leg = next(leg for leg in reversed(outline.legs) if leg.start <= index)
    if index >= leg.start + leg.moved:  # else it is a DDIM step, which has no memory
        skipped = leg.skipped + index - leg.start - leg.moved
        lane.scheduler = _scheduler(model, leg._replace(skipped=skipped), _seed(outline, leg, k),
                                    once=outline.calls[index] == 1)
        lane.options = step_options(lane.scheduler, lane.generator)


def _reseed(lane: Lane, seed: int) -> None:
    """The same solver goes on with other noise."""
    lane.options = step_options(lane.scheduler, lane.generator)
    if hasattr(lane.scheduler, "noise_sampler_seed"):  # DPM++ SDE draws its own
        lane.scheduler.noise_sampler, lane.scheduler.noise_sampler_seed = None, seed


def _levels(model: StableDiffusion, leg: Leg) -> tuple[float, ...]:
    """sigma at each step of a leg's solver, from the first that the leg takes with it."""
    return _whole_levels(*leg.solver, json.dumps(_training(model), sort_keys=True))[leg.skipped:]


@lru_cache(maxsize=64)  # diffusers takes a second to set up DPM2
def _whole_levels(sampler: str, schedule: str, steps: int, training: str) -> tuple[float, ...]:
    entry = samplers.SAMPLERS[sampler]
    return tuple(first_levels(build(entry, schedule, steps, json.loads(training), seed=0), entry, steps))


def _scheduler(model: StableDiffusion, leg: Leg, seed: int = 0, once: bool = False) -> Any:
    entry = samplers.SAMPLERS[leg.sampler]
    scheduler = build(entry, leg.schedule, leg.steps, _training(model), seed)
    return last_steps(scheduler, entry, leg.steps, leg.skipped, once) if leg.skipped else scheduler


def _training(model: StableDiffusion) -> dict[str, Any]:
    """What schedulers are told of the model. Not every one knows "sample"; all know epsilon, so that is made of it."""
    return model.training | {"prediction_type": "epsilon" if model.prediction == "sample" else model.prediction}


def _seed(outline: Outline, leg: Leg, k: int) -> int:
    return outline.request.replace(seed=leg.seed).single(k).seed


def _noise(model: StableDiffusion, outline: Outline, generator: torch.Generator) -> Tensor:
    shape = model.latent_shape(outline.request.width, outline.request.height)
    return torch.randn(shape, generator=generator).to(model.device)
