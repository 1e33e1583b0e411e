"""A runner without a network, for tests of the queue and the page."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterator

import numpy as np

from core.errors import LoomError
from core.models.catalogue import STORYBOOK, Catalogue, ModelInfo
from core.previewer import Show
from core.record import Leg, Outline, Record
from core.request import Done, Preview, Request, Step
from core.trajectory import Past


class FakeRunner:
    """Paints a disc that comes out of noise, another colour for every seed. pause: seconds per step.

    records: whether its steps can be kept, and a run gone on with. A prompt "fail at step K" breaks there with a
    message for people.
    """

    device, precision, tuned = "cpu", "fp32", ""

    def __init__(self, pause: float = 0.05, records: bool = False):
        self.pause, self.records = pause, records
        self.loaded: list[str] = []

    def load(self, name: str) -> None:
        self.loaded.append(name)

    def generate(self, request: Request, preview: Preview, cancel: threading.Event,
                 past: Past | None = None) -> Iterator[Step | Done]:
        assert past is None or past.request == request
        kept = past.steps if past else 0
        began = time.perf_counter() - (past.run.steps[kept - 1].seconds if past and kept else 0)
        outline = past.run.outline if past and past.changes is None else outline_of(request)
        latents = np.zeros((request.batch, 4, request.height // 8, request.width // 8), np.float32)
        reached = 0.0
        for index in range(request.steps):
            if cancel.is_set():
                pictures = self.pictures(request, reached) if index else ()
                yield Done(pictures, latents, time.perf_counter() - began, 2 * index, index, True, "fp32")
                return
            time.sleep(self.pause if index >= kept else 0)
            if request.prompt == f"fail at step {index + 1}":
                raise LoomError("The network gave no numbers at this step: try another sampler.")
            reached = (index + 1) / request.steps
            sigma = 14.6 * (1 - index / request.steps) ** 3
            timestep, x0 = 999 * (1 - index / request.steps), latents + np.float32(reached)
            record = functools.partial(_record, outline, outline.calls[index], timestep, sigma, latents, x0)
            yield Step(index, request.steps, timestep, sigma, time.perf_counter() - began, 2 * (index + 1), latents, x0,
                       (), {k: latents + k for k in range(len(request.regions) + 1)} if request.regions else {},
                       record if self.records else None)
        yield Done(self.pictures(request, reached), latents, time.perf_counter() - began, 2 * request.steps,
                   request.steps, False, "fp32")

    def scores(self, done: Done, request: Request) -> list[dict[int, float]]:
        """The first region surest, none without regions."""
        numbers = range(1, len(request.regions) + 1)
        return [{k: 1 / k for k in numbers} for _ in done.pictures] if request.regions else []

    def pictures(self, request: Request, part: float) -> tuple[np.ndarray, ...]:
        return tuple(picture(request, k, part) for k in range(request.batch))

    def shows(self, request: Request, decoder: str) -> dict[str, Show]:
        """The clean estimate's value says how far the run has come."""
        def show(x0: np.ndarray) -> tuple[np.ndarray, ...]:
            return self.pictures(request, float(x0.mean()))

        return {name: show for name in (("linear", "tiny") if decoder == "auto" else (decoder,))}

    def decode(self, latents: np.ndarray, request: Request, decoder: str,
               weights: str | None = None) -> tuple[np.ndarray, ...]:
        """Grey pictures, lighter for higher values."""
        shape = (request.height, request.width, 3)
        return tuple(np.full(shape, np.clip(40 * z.mean(), 0, 255), np.uint8) for z in latents)


def outline_of(request: Request) -> Outline:
    """Of a model whose output is x0 itself."""
    regions = tuple(range(len(request.regions) + 1)) if request.regions else ()
    return Outline(request.replace(precision="fp32"), "fake", "cpu", "sample", (Leg.whole(request),), regions, False)


def _record(outline: Outline, calls: int, timestep: float, sigma: float, latents: np.ndarray, x0: np.ndarray) -> Record:
    return Record(outline, [timestep] * calls, [sigma] * calls, np.stack([latents] * calls), np.stack([x0] * calls),
                  None)


def picture(request: Request, k: int, part: float) -> np.ndarray:
    """(H, W, 3) uint8: a disc on a sky, `part` of the way out of noise."""
    rng = np.random.default_rng(request.seed + k)
    sky, disc = rng.integers(40, 220, 3), rng.integers(40, 255, 3)
    y, x = np.mgrid[: request.height, : request.width]
    fade = (y / request.height)[..., None]
    clean = sky * (1 - 0.5 * fade) + 30
    radius = 0.3 * min(request.width, request.height)
    inside = (x - request.width / 2) ** 2 + (y - request.height / 2) ** 2 < radius**2
    clean = np.where(inside[..., None], disc, clean)
    noise = rng.normal(128, 60, (request.height // 8, request.width // 8, 3)).repeat(8, 0).repeat(8, 1)
    return np.clip(clean * part + noise * (1 - part), 0, 255).astype(np.uint8)


class FakeCatalogue(Catalogue):
    """Storybook and another model by name only: what the page needs of them without their weights."""

    def names(self) -> list[str]:
        return ["storybook", "other"]

    def get(self, name: str) -> ModelInfo:
        if name == "storybook":
            return ModelInfo("storybook", str(STORYBOOK), "sd", 256, 256, 8, 77, True, 38.0)
        if name == "other":
            return ModelInfo("other", "models/other", "sd", 512, 512, 8, 77, False, 1_700.0)
        return super().get(name)
