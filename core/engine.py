"""The loop. Text to image, regions, comparisons and forks all run through `Engine.generate`, nothing else denoises."""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core import denoise, previews, samplers
from core.checks import check
from core.estimates import as_epsilon, clean_estimate
from core.models.catalogue import Catalogue
from core.models.device import memory_errors, pick_device, pick_precision
from core.models.sd import StableDiffusion
from core.regions import predictor_for
from core.request import Done, Preview, Request, Step
from core.samplers.build import build, noise_levels, solver_scale, step_options

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Lane:
    """One picture of a batch: its latents, solver and random numbers are its own, so that no batch changes it."""

    x: Tensor  # (1, C, h, w) float32, as the solver scales it
    scheduler: Any
    options: dict[str, Any]  # for scheduler.step: the generator
    predictor: denoise.Predictor


class Engine:
    """Takes Requests to pictures on one device, with one model in memory. Use it from one thread."""

    def __init__(self, catalogue: Catalogue | None = None, device: str = "auto"):
        self.catalogue = catalogue or Catalogue()
        self.device = pick_device(device)
        self._model: StableDiffusion | None = None

    @property
    def precision(self) -> str:
        """That of the model in memory; before there is one, what "auto" becomes on this device."""
        return self._model.precision if self._model else pick_precision("auto", self.device)

    def load(self, name: str = "storybook", precision: str = "auto") -> StableDiffusion:
        """The model of that name, kept until another is asked for. Raises ModelError, BadRequest, OutOfMemory."""
        info = self.catalogue.get(name)
        chosen = pick_precision(precision, self.device)
        if self._model is None or (self._model.info, self._model.precision) != (info, chosen):
            self._model = None  # the old one goes first: two at once may not fit
            family = importlib.import_module(f"core.models.{info.family}")
            self._model = family.load(info, self.device, chosen)
        return self._model

    @torch.inference_mode()
    def decode(self, latents: np.ndarray, request: Request, decoder: str) -> tuple[np.ndarray, ...]:
        """(n, C, h, w) latents of a request's model -> n pictures (H, W, 3) uint8. decoder: as in Preview."""
        model = self.load(request.model, request.precision)
        show = previews.make(decoder, model) or previews.make("vae", model)
        return _decode(show, torch.from_numpy(latents).to(model.device))

    @torch.inference_mode()
    def generate(self, request: Request, preview: Preview | None = None,
                 cancel: threading.Event | None = None) -> Iterator[Step | Done]:
        """Yields a Step after each solver step and one Done at the end; stops before the next network call once
        `cancel` is set. Same request, same pictures, whatever the preview and the batch.

        Raises BadRequest, ModelError or OutOfMemory, before or between steps.
        """
        preview, cancel = preview or Preview(), cancel or threading.Event()
        check(request, self.catalogue.get(request.model))
        model = self.load(request.model, request.precision)
        entry, schedule = samplers.resolve(request.sampler, request.schedule, request.steps)
        show = previews.make(preview.decoder, model)
        began = time.perf_counter()
        network = denoise.Batches(model.predict)
        lanes = [_lane(model, entry, schedule, request, k) for k in range(request.batch)]
        solver = _Solver(lanes, network, model.prediction, request.steps, cancel)
        pictures: tuple[np.ndarray, ...] = ()
        seen = None
        for index, calls in enumerate(entry.call_counts(request.steps)):
            with memory_errors(f"{request.width}x{request.height} pixels"):
                estimate = solver.advance(index, calls)
                if estimate is None:
                    break
                seen = estimate
                pictures = _decode(show, seen.x0)
            yield Step(index, request.steps, seen.timestep, seen.sigma, time.perf_counter() - began,
                       network.evaluations, _array(seen.x_t), _array(seen.x0), pictures,
                       {name: _array(own) for name, own in seen.regions_x0.items()})
        stopped = estimate is None
        latents = torch.cat([lane.x for lane in lanes]) if not stopped else seen.x0 if seen else None
        if latents is None:
            yield Done((), np.zeros((0, *lanes[0].x.shape[1:]), np.float32), time.perf_counter() - began,
                       network.evaluations, 0, True, model.precision)
            return
        if preview.decoder != "vae" or seen is None or not torch.equal(latents, seen.x0):
            pictures = _decode(previews.make("vae", model), latents)
        yield Done(pictures, _array(latents), time.perf_counter() - began, network.evaluations,
                   index + (not stopped), stopped, model.precision)


@dataclass(eq=False)
class _Estimate:
    timestep: float
    sigma: float
    x_t: Tensor  # (B, C, h, w)
    x0: Tensor  # (B, C, h, w)
    regions_x0: dict[int, Tensor]  # region -> (B, C, h, w); 0: the background


class _Solver:
    """Steps all lanes together. Nothing here knows what the predictor is made of."""

    def __init__(self, lanes: list[Lane], network: denoise.Batches, prediction: str, total: int,
                 cancel: threading.Event):
        self.lanes, self.network, self.prediction, self.total, self.cancel = lanes, network, prediction, total, cancel
        self.timesteps = lanes[0].scheduler.timesteps
        self.sigmas = noise_levels(lanes[0].scheduler)
        self.call = 0

    def advance(self, index: int, calls: int) -> _Estimate | None:
        """Solver step `index`, of `calls` network calls; None when it was cancelled before its end."""
        first: list[tuple[Tensor, Tensor, dict[int, Tensor]]] = []
        start = self.call
        for _ in range(calls):
            moment = denoise.Moment(self.timesteps[self.call], self.sigmas[self.call], index, self.total)
            for lane in self.lanes:
                if self.cancel.is_set():
                    return None
                seen = self._step(lane, moment)
                if self.call == start:
                    first.append(seen)
            self.call += 1
        x_t, x0s, parts = zip(*first, strict=True)
        by_region = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return _Estimate(float(self.timesteps[start]), self.sigmas[start], torch.cat(x_t), torch.cat(x0s), by_region)

    def _step(self, lane: Lane, moment: denoise.Moment) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
        """One network call and one scheduler step of one picture -> what was seen, x0, and each region's x0."""
        t, sigma = moment.timestep, moment.sigma
        x = lane.scheduler.scale_model_input(lane.x, t)
        prediction = denoise.evaluate(lane.predictor, self.network, x, moment)
        output = prediction.output
        x0 = clean_estimate(prediction.sample, output, sigma, self.prediction)
        if self.prediction == "sample":  # not every solver knows it; all know epsilon
            output = as_epsilon(prediction.sample, x0, sigma)
        if prediction.sample is not x:  # soft masks while bootstrapping: step from what was seen
            lane.x = prediction.sample * solver_scale(lane.scheduler, sigma)
        lane.x = lane.scheduler.step(output, t, lane.x, return_dict=False, **lane.options)[0]
        parts = {name: clean_estimate(seen, out, sigma, self.prediction)
                 for name, (seen, out) in prediction.parts.items()}
        return prediction.sample, x0, parts


def _lane(model: StableDiffusion, entry: samplers.Sampler, schedule: str, request: Request, k: int) -> Lane:
    """Picture k of a request, at its starting noise: that of diffusers' pipelines for seed + k, drawn on the CPU."""
    seed = request.single(k).seed
    training = model.training | ({"prediction_type": "epsilon"} if model.prediction == "sample" else {})
    scheduler = build(entry, schedule, request.steps, training, seed)
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn(model.latent_shape(request.width, request.height), generator=generator).to(model.device)
    return Lane(noise * scheduler.init_noise_sigma, scheduler, step_options(scheduler, generator),
                predictor_for(model, request, noise, seed))


def _decode(show: previews.Show | None, latents: Tensor) -> tuple[np.ndarray, ...]:
    """One picture at a time: what it looks like must not hang on its neighbours, nor must the memory."""
    return tuple(picture for z in latents for picture in show(z[None])) if show else ()


def _array(latents: Tensor) -> np.ndarray:
    return latents.float().cpu().numpy()
