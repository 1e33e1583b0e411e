"""Every sampler at equal work, from the same noise, and what its pictures are worth: the figures of the samplers' page.

One comparison for each prompt (core/comparing.py), its seeds as a batch, in a folder of its own; what is there already
is not made again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core import compare, comparing, metrics, samplers, sets
from core.comparing import References, Result, Runner, Store
from core.models.catalogue import Catalogue
from core.report.pace import Pace, paces
from core.scorer import Scorer

PROMPTS = ("a red sofa in a living room", "a blue boat on the sea at sunset", "an orange cat on a meadow, watercolour",
           "a snowy field with a big pine tree")
CALLS = (5, 10, 20, 40)
SEEDS = 2  # pictures of each prompt
REFERENCE = 100  # Heun steps
NOTHING = np.zeros(0)


@dataclass(frozen=True)
class Plan:
    """What the page is measured on."""

    model: str = "storybook"
    samplers: tuple[str, ...] = ()  # () all there are
    prompts: tuple[str, ...] = PROMPTS
    seeds: int = SEEDS  # 1, 2, ... of each prompt
    calls: tuple[int, ...] = CALLS
    reference: int = REFERENCE

    @property
    def names(self) -> tuple[str, ...]:
        return self.samplers or tuple(samplers.SAMPLERS)

    @property
    def pictures(self) -> int:
        """For every sampler and number of calls."""
        return len(self.prompts) * self.seeds

    def comparison(self, prompt: str, catalogue: Catalogue) -> compare.Comparison:
        """In full precision, so that a distance is the solver's error and no rounding of the machine at hand."""
        return compare.prepare({"model": self.model, "prompt": prompt, "seed": 1, "batch": self.seeds,
                                "precision": "fp32", "samplers": list(self.names), "steps": list(self.calls),
                                compare.EQUAL: True, compare.REFERENCE: self.reference}, catalogue)


@dataclass
class Mark:
    """A sampler at one number of network calls. Arrays: a value for each picture, prompts first."""

    sampler: str
    calls: int  # that it may ask for
    steps: int = 0
    asked: int = 0  # what it asked for
    distance: np.ndarray = field(default_factory=lambda: NOTHING)
    psnr: np.ndarray = field(default_factory=lambda: NOTHING)
    ssim: np.ndarray = field(default_factory=lambda: NOTHING)
    score: np.ndarray = field(default_factory=lambda: NOTHING)
    fid: float | None = None
    classes: float | None = None
    files: list[Path] = field(default_factory=list)
    error: str = ""

    @property
    def exact(self) -> bool:
        """Whether it solves the equation that the reference solves, so that a distance to it is an error. CFG++ is
        deterministic too, and guides another way: its equation is another."""
        entry = samplers.SAMPLERS[self.sampler]
        return entry.order is not None and not entry.needs_unguided


@dataclass
class Measured:
    """Everything the page says. marks: samplers in their order, calls rising. reference: of the long runs."""

    plan: Plan
    marks: list[Mark]
    reference: Mark
    paces: dict[str, Pace]
    precision: str
    seconds: float  # of all runs, as they were made

    def at(self, calls: int) -> list[Mark]:
        """The samplers that made pictures with so many calls."""
        return [mark for mark in self.marks if mark.calls == calls and not mark.error]

    def of(self, sampler: str) -> list[Mark]:
        return [mark for mark in self.marks if mark.sampler == sampler and not mark.error]


def measure(plan: Plan, catalogue: Catalogue, engine: Runner, folder: Path, cancel: threading.Event,
            tell: Callable[[str], None] = lambda line: None) -> Measured | None:
    """Makes what is missing in `folder` and measures it all; None when it was stopped."""
    weights = comparing.weights_of(catalogue)
    runs: list[tuple[compare.Comparison, list[Result], Result]] = []
    for number, prompt in enumerate(plan.prompts, 1):
        comparison, place = plan.comparison(prompt, catalogue), folder / f"prompt-{number}"
        results = []
        for result in comparing.make(comparison, engine, place, cancel, weights):
            results.append(result)
            said = result.error or f"{result.evaluations} evaluations, {result.seconds:.2f} s"
            tell(f"{prompt}: {result.cell.number} of {len(comparison.cells)}: {result.cell.label}: {said}")
        known: References = {}
        start = next(cell.request for cell in comparison.cells if cell.request)  # all begin alike
        store = Store(place / "cells", weights)
        exact = comparing.reference_run(comparison, start, known, engine, store, cancel)
        if cancel.is_set() or exact is None:
            return None
        tell(f"{prompt}: reference of {plan.reference} steps, {exact.seconds:.2f} s")
        runs.append((comparison, results, exact))
    alone = start.replace(batch=1)
    found = paces(plan, alone, engine, folder, weights(alone.model), cancel)
    if found is None:
        return None
    scorer = comparing.judge_of(catalogue, runs[0][0])
    looked = _Looked(plan, scorer, sets.classes_of(catalogue.get(plan.model), runs[0][0]))
    marks = [_mark(name, calls, runs) for name in plan.names for calls in plan.calls]
    reference = Mark("reference", 0, files=[file for *_, exact in runs for file in exact.files])
    for mark in (reference, *(mark for mark in marks if not mark.error)):
        looked.judge(mark, reference)
    everything = [r for _, results, exact in runs for r in (*results, exact)]
    return Measured(plan, marks, reference, found, everything[0].precision,
                    sum(result.seconds for result in everything))


def _mark(name: str, calls: int, runs: Sequence[tuple[compare.Comparison, list[Result], Result]]) -> Mark:
    """A sampler's pictures of all prompts against their references'."""
    mark = Mark(name, calls)
    values: dict[str, list[float]] = {"distance": [], "psnr": [], "ssim": []}
    for comparison, results, exact in runs:
        result = result_of(comparison, results, name, calls)
        request = result.cell.request
        if request is None or result.latents is None or exact.latents is None:
            mark.error = result.error or "not made"
            return mark
        mark.steps, mark.asked = request.steps, samplers.SAMPLERS[name].network_calls(request.steps)
        mark.files += result.files
        for k, (file, wanted) in enumerate(zip(result.files, exact.files, strict=True)):
            picture, other = pixels(file), pixels(wanted)
            values["distance"].append(metrics.latent_distance(result.latents[k], exact.latents[k]))
            values["psnr"].append(metrics.psnr(picture, other))
            values["ssim"].append(metrics.ssim(picture, other))
    if mark.exact:
        mark.distance, mark.psnr, mark.ssim = (np.array(values[name]) for name in ("distance", "psnr", "ssim"))
    return mark


def result_of(comparison: compare.Comparison, results: Sequence[Result], name: str, calls: int) -> Result:
    """The cell of a sampler at a number of calls; it may be the same for two numbers."""
    across = len(comparison.axes[1].values)
    row, column = comparison.axes[0].values.index(name), comparison.axes[1].values.index(calls)
    return results[comparison.grid[row * across + column]]


@dataclass
class _Looked:
    """What the scorer makes of pictures."""

    plan: Plan
    scorer: Scorer | None
    classes: tuple[str, ...]
    seen: dict[tuple[Path, ...], Any] = field(default_factory=dict)

    def judge(self, mark: Mark, reference: Mark) -> None:
        """Fills in score, fid and classes, as far as there is a scorer and there are pictures enough."""
        if self.scorer is None:
            return
        own, exact = self._features(mark.files), self._features(reference.files)
        said = self.scorer.read([prompt for prompt in self.plan.prompts for _ in range(self.plan.seeds)])
        mark.score = 100 * np.clip((own * said).sum(1), 0, None)
        if len(own) >= sets.LEAST_FOR_FID and mark is not reference:
            mark.fid = metrics.frechet_distance(own, exact)
        if len(own) >= sets.LEAST_FOR_CLASSES and self.classes:
            mark.classes = metrics.class_score(self.scorer.sorted(own, self.scorer.read(self.classes)))

    def _features(self, files: Sequence[Path]) -> np.ndarray:
        assert self.scorer is not None
        key = tuple(files)
        if key not in self.seen:
            self.seen[key] = self.scorer.see([pixels(file) for file in files])
        return self.seen[key]


def pixels(path: Path) -> np.ndarray:
    """A picture file as (H, W, 3) uint8."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
