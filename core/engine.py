"""The loop. Text to image, regions, comparisons and forks all run through `Engine.generate`, nothing else denoises."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from core import denoise, previews
from core.checks import check
from core.course import Lane, lane_of, outline_of, refine, take_over
from core.estimates import as_epsilon, clean_estimate
from core.models import tune
from core.models.catalogue import Catalogue, ModelInfo
from core.models.device import free, memory_errors, pick_device, pick_precision
from core.models.extras import Extras
from core.models.fingerprint import fingerprint
from core.models.parts import verify
from core.models.sd import StableDiffusion
from core.prompts.reading import last_words
from core.record import Outline, Record
from core.refining import refiner_of, refuse_alone, takes_over
from core.request import Done, Preview, Request, Step
from core.samplers.build import noise_levels, solver_scale
from core.scorer import Scores
from core.trajectory import Past, Recorded, other_weights
from core.tuning import Tuning

log = logging.getLogger(__name__)


class Engine:
    """Takes Requests to pictures on one device, with one model in memory. Use it from one thread.

    Raises StartError for a device or a tuning that this machine lacks.
    """

    def __init__(self, catalogue: Catalogue | None = None, device: str = "auto", tuning: Tuning | None = None):
        self.catalogue = catalogue or Catalogue()
        self.device, self.tuning = pick_device(device), tuning or Tuning()
        tune.check(self.tuning, self.device)
        self._model: StableDiffusion | None = None
        self._refiner: StableDiffusion | None = None  # of that model
        self._scores = Scores()

    @property
    def precision(self) -> str:
        """That of the model in memory; before there is one, what "auto" becomes on this device."""
        return self._model.precision if self._model else pick_precision("auto", self.device)

    @property
    def tuned(self) -> str:
        """How memory and speed were chosen otherwise than by default, in words, or what the memory made of it."""
        offload = self._model.thrift.offload if self._model else "none"
        now = self.tuning if offload == "none" else dataclasses.replace(self.tuning, offload=offload, compile=False)
        return now.words

    def load(self, name: str = "storybook", precision: str = "auto") -> StableDiffusion:
        """The model of that name, kept until another is asked for. Raises ModelError, BadRequest, OutOfMemory."""
        info = self.catalogue.get(name)
        refuse_alone(info)
        chosen = pick_precision(precision, self.device)
        if not _is(self._model, info, chosen):
            freed = sum(model.bytes for model in (self._model, self._refiner) if model)
            offload = verify(info, self.device, chosen, self.tuning, freed)  # what is broken costs nobody
            self._model = self._refiner = None  # the old one goes first: two at once may not fit
            self._model = self._read(info, chosen, offload)
        assert self._model is not None
        return self._model

    def _load_refiner(self, info: ModelInfo, model: StableDiffusion) -> StableDiffusion:
        """The refiner beside the model in memory, in its precision, kept as that one is. Raises as `load`."""
        if not _is(self._refiner, info, model.precision):
            freed = self._refiner.bytes if self._refiner else 0
            offload = verify(info, self.device, model.precision, self.tuning, freed, beside=model.thrift.retreat)
            self._refiner = None
            self._refiner = self._read(info, model.precision, offload)
        assert self._refiner is not None
        return self._refiner

    def _read(self, info: ModelInfo, precision: str, offload: str) -> StableDiffusion:
        free()
        family = importlib.import_module(f"core.models.{info.family}")
        model: StableDiffusion = family.load(info, self.device, precision, self.tuning, offload)
        return model

    def scores(self, done: Done, request: Request) -> list[dict[int, float]]:
        """For each picture: region number -> how surely its prompt's thing is there; empty without regions or scorer.

        See Scorer.region_scores. The pictures stay as they are.
        """
        regions = [dataclasses.replace(r, prompt=last_words(r.prompt).strip() or r.prompt) for r in request.regions]
        return self._scores.of_regions(self.catalogue.get(request.model).path, done.pictures, regions)

    @torch.inference_mode()
    def decode(self, latents: np.ndarray, request: Request, decoder: str,
               weights: str | None = None) -> tuple[np.ndarray, ...]:
        """(n, C, h, w) latents of a request's model -> n pictures (H, W, 3) uint8. decoder: as in Preview.

        weights: the fingerprint of those that made the latents; raises TrajectoryError when these here are others.
        """
        model = self.load(request.model, request.precision)
        if weights is not None and weights != fingerprint(model.info):
            raise other_weights("The run", request.model)
        show = previews.make(decoder, model) or previews.make("vae", model)
        return _decode(show, torch.from_numpy(latents).to(model.device))

    def shows(self, request: Request, decoder: str) -> dict[str, Callable[[np.ndarray], tuple[np.ndarray, ...]]]:
        """How x0 (B, C, h, w) of a request become B pictures (H, W, 3) uint8, for a thread beside its run: by the
        decoder of that name, or all that "auto" may choose from. Call this in the engine's own thread.

        Raises BadRequest for a decoder that the model lacks, and what `load` raises.
        """
        model = self.load(request.model, request.precision)
        stream = torch.cuda.Stream(model.device) if model.device.type == "cuda" else None
        if decoder != "auto":
            previews.make(decoder, model)  # what is missing is told now

        def shown_by(name: str) -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
            @torch.inference_mode()
            def show(x0: np.ndarray) -> tuple[np.ndarray, ...]:
                with torch.cuda.stream(stream) if stream else contextlib.nullcontext():
                    return _decode(previews.make(name, model), torch.from_numpy(x0).to(model.device))

            return show

        return {name: shown_by(name) for name in previews.names_for(decoder, model)}

    @torch.inference_mode()
    def generate(self, request: Request, preview: Preview | None = None, cancel: threading.Event | None = None,
                 past: Past | None = None) -> Iterator[Step | Done]:
        """Yields a Step after each solver step and one Done at the end; stops before the next network call once
        `cancel` is set. Same request, same pictures, whatever the preview and the batch.

        past: steps that were taken before; the request is then the past's. They are taken again from their record,
        without the network, so that solvers and random numbers come to where they were: a run that is resumed ends in
        the bits of one that was never stopped (on the same device), a fork without a change likewise.

        Raises BadRequest, ModelError, TrajectoryError or OutOfMemory, before or between steps.
        """
        preview, cancel = preview or Preview(), cancel or threading.Event()
        assert past is None or request == past.request
        info, extras = self.catalogue.get(request.model), Extras.of(self.catalogue)
        refining = refiner_of(request, info, self.catalogue)
        check(request, info, extras, refining)
        model = self.load(request.model, request.precision)
        refiner = self._load_refiner(refining, model) if refining else None
        used = model, refiner
        for reader in filter(None, used):
            reader.learn(extras.learned(info))
        if loras := extras.files(request, info):
            model.adapters.fetch(loras)
        outline = outline_of(model, request, self.device.type, past, refining)
        kept = past.steps if past else 0
        earlier = past.run.steps[kept - 1] if past and kept else None
        show = previews.make(preview.decoder, model)
        began = time.perf_counter() - (earlier.seconds if earlier else 0)
        tune.reconcile(model.unet)
        network = denoise.Batches(model.predict, retreat=model.thrift.retreat, adapt=model.adapt)
        network.evaluations = earlier.evaluations if earlier else 0
        lanes = [lane_of(model, outline, k, refiner) for k in range(request.batch)]
        solver = _Solver(lanes, network, model.prediction, len(outline.calls), cancel)
        pictures: tuple[np.ndarray, ...] = ()
        seen = None
        for index, calls in enumerate(outline.calls):
            recorded = past.run.recorded(index) if past and index < kept else None
            if any([take_over(model, outline, lane, k, index, solver.call) for k, lane in enumerate(lanes)]):
                solver.start()
            if refiner and takes_over(request, solver.timestep):
                for k, lane in enumerate(lanes):
                    refine(model, outline, lane, k, index)
                network = denoise.Batches(refiner.predict, retreat=partial(_retreat, used),
                                          evaluations=network.evaluations, halved=network.halved)
                solver.start(network)
                refiner = None  # it has taken over, for good
            with memory_errors(f"{request.width}x{request.height} pixels"):
                estimate = solver.advance(index, calls, recorded)
                if estimate is None:
                    break
                seen = estimate
                pictures = _decode(show, seen.x0)
            regions_x0 = {name: _array(own) for name, own in seen.regions_x0.items()}
            if recorded and past and past.request.regions == past.run.request.regions:
                regions_x0 = recorded.regions_x0
            yield Step(index, solver.total, seen.timestep, seen.sigma,
                       recorded.seconds if recorded else time.perf_counter() - began,
                       recorded.evaluations if recorded else network.evaluations, _array(seen.x_t), _array(seen.x0),
                       pictures, regions_x0, partial(_record, outline, seen))
        stopped = estimate is None
        latents = torch.cat([lane.x for lane in lanes]) if not stopped else seen.x0 if seen else None
        if latents is None:
            yield Done((), np.zeros((0, *lanes[0].x.shape[1:]), np.float32), time.perf_counter() - began,
                       network.evaluations, 0, True, model.precision, _note(network, used))
            return
        if preview.decoder != "vae" or seen is None or not torch.equal(latents, seen.x0):
            pictures = _decode(previews.make("vae", model), latents)
        yield Done(pictures, _array(latents), time.perf_counter() - began, network.evaluations,
                   index + (not stopped), stopped, model.precision, _note(network, used))


def _is(model: StableDiffusion | None, info: ModelInfo, precision: str) -> bool:
    return model is not None and (model.info, model.precision) == (info, precision)


def _retreat(models: Sequence[StableDiffusion | None]) -> bool:
    """Make room: the one that waits goes first."""
    return any(model.thrift.retreat() for model in models if model)


def _note(network: denoise.Batches, models: Sequence[StableDiffusion | None]) -> str:
    """What was done because the memory did not suffice."""
    halved = f"The memory did not suffice for larger batches: the network was asked {network.size} at a time."
    notes = dict.fromkeys(note for model in models if model for note in model.thrift.take_notes())
    return " ".join([*([halved] if network.halved else []), *notes])


class _Asked(NamedTuple):
    """One network call for one picture, and what it told."""

    sample: Tensor  # (1, C, h, w)
    output: Tensor
    x0: Tensor
    regions_x0: dict[int, Tensor]
    unguided: Callable[[], Tensor] | None


@dataclass(eq=False)
class _Estimate:
    timesteps: list[float]  # of each call
    sigmas: list[float]
    asked: list[list[_Asked]]  # [call][lane]

    @property
    def timestep(self) -> float:
        return self.timesteps[0]

    @property
    def sigma(self) -> float:
        return self.sigmas[0]

    @property
    def x_t(self) -> Tensor:  # (B, C, h, w)
        return torch.cat([one.sample for one in self.asked[0]])

    @property
    def x0(self) -> Tensor:  # (B, C, h, w)
        return torch.cat([one.x0 for one in self.asked[0]])

    @property
    def regions_x0(self) -> dict[int, Tensor]:
        """Region -> (B, C, h, w); 0: the background."""
        first = self.asked[0]
        return {name: torch.cat([one.regions_x0[name] for one in first]) for name in first[0].regions_x0}


def _record(outline: Outline, seen: _Estimate) -> Record:
    """What a trajectory keeps of a step beside the Step itself; only now do the arrays leave the device."""
    unguided = [one.unguided() for one in seen.asked[0] if one.unguided]
    return Record(outline, seen.timesteps, seen.sigmas,
                  np.stack([_array(torch.cat([one.sample for one in call])) for call in seen.asked]),
                  np.stack([_array(torch.cat([one.output for one in call])) for call in seen.asked]),
                  _array(torch.cat(unguided)) if len(unguided) == len(seen.asked[0]) else None)


class _Solver:
    """Steps all lanes together. Nothing here knows what the predictor is made of."""

    def __init__(self, lanes: list[Lane], network: denoise.Batches, prediction: str, total: int,
                 cancel: threading.Event):
        self.lanes, self.network, self.prediction, self.total, self.cancel = lanes, network, prediction, total, cancel
        self.start()

    def start(self, network: denoise.Batches | None = None) -> None:
        """Begin with the lanes' schedulers at their first network call. network: who is asked from now on."""
        self.network = network or self.network
        self.timesteps = self.lanes[0].scheduler.timesteps
        self.sigmas = noise_levels(self.lanes[0].scheduler)
        self.call = 0

    @property
    def timestep(self) -> float:
        """Of the next network call."""
        return float(self.timesteps[self.call])

    def advance(self, index: int, calls: int, recorded: Recorded | None = None) -> _Estimate | None:
        """Solver step `index`, of `calls` network calls; None when it was cancelled before its end.

        recorded: what the network was asked and answered when the step was first taken; it is not asked again.
        """
        seen = _Estimate([], [], [])
        for number in range(calls):
            moment = denoise.Moment(self.timesteps[self.call], self.sigmas[self.call], index, self.total)
            asked = []
            for k, lane in enumerate(self.lanes):
                if self.cancel.is_set():
                    return None
                told = _told(recorded, number, k, lane) if recorded else None
                asked.append(self._step(lane, moment, told))
            seen.timesteps.append(float(moment.timestep))
            seen.sigmas.append(moment.sigma)
            seen.asked.append(asked)
            self.call += 1
        return seen

    def _step(self, lane: Lane, moment: denoise.Moment, told: denoise.Prediction | None) -> _Asked:
        """One network call and one scheduler step of one picture."""
        t, sigma = moment.timestep, moment.sigma
        x = lane.scheduler.scale_model_input(lane.x, t)
        prediction = told or denoise.evaluate(lane.predictor, self.network, x, moment)
        x0 = clean_estimate(prediction.sample, prediction.output, sigma, self.prediction)
        options = lane.options
        if getattr(lane.scheduler, "needs_unguided", False) and prediction.unguided:
            options = options | {"unguided": self._for_solver(prediction, prediction.unguided(), sigma)}
        output = self._for_solver(prediction, prediction.output, sigma)
        # With soft masks while bootstrapping, step from what was seen. By value, so that a record says the same.
        if prediction.sample is not x and not torch.equal(prediction.sample, x):
            lane.x = prediction.sample * solver_scale(lane.scheduler, sigma)
        lane.x = lane.scheduler.step(output, t, lane.x, return_dict=False, **options)[0]
        parts = {name: clean_estimate(seen, out, sigma, self.prediction)
                 for name, (seen, out) in prediction.parts.items()}
        return _Asked(prediction.sample, prediction.output, x0, parts, prediction.unguided)

    def _for_solver(self, prediction: denoise.Prediction, output: Tensor, sigma: float) -> Tensor:
        """An output as schedulers take it: not every one knows "sample"; all know epsilon."""
        if self.prediction != "sample":
            return output
        return as_epsilon(prediction.sample, clean_estimate(prediction.sample, output, sigma, self.prediction), sigma)


def _told(recorded: Recorded, number: int, k: int, lane: Lane) -> denoise.Prediction:
    """Call `number` of a recorded step for picture k, as the network's answer."""
    def tensor(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values[k:k + 1]).to(lane.x.device)

    unguided = recorded.unguided
    return denoise.Prediction(tensor(recorded.outputs[number]), tensor(recorded.samples[number]),
                              unguided=None if unguided is None else partial(tensor, unguided))


def _decode(show: previews.Show | None, latents: Tensor) -> tuple[np.ndarray, ...]:
    """One picture at a time: what it looks like must not hang on its neighbours, nor must the memory."""
    return tuple(picture for z in latents for picture in show(z[None])) if show else ()


def _array(latents: Tensor) -> np.ndarray:
    return latents.float().cpu().numpy()
