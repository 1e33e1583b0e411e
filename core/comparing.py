"""Making a comparison: every cell a run through the engine, saved the moment it is done; then figures and a grid.

    DIR/cells/007-Heun-10.png, .npy (final latents), .json (request, evaluations, seconds, the weights' fingerprint)
    DIR/grid.png, results.csv, results.json; sets.csv, sets.json where there are sets of pictures

A comparison that was stopped goes on where it was: a cell whose .json holds the same request and weights is not made
again.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from core import compare, grid, metadata, metrics, sets
from core.compare import Cell, Comparison, reference_of
from core.errors import LoomError
from core.files import disk_errors, writable, write_text
from core.models.catalogue import Catalogue
from core.models.fingerprint import fingerprint
from core.prompts.reading import last_words
from core.request import Done, Preview, Request, Step
from core.tuning import Tuning

if TYPE_CHECKING:
    from core.scorer import Scorer

log = logging.getLogger(__name__)

FIGURES = ("evaluations", "seconds", "seconds_per_evaluation", "distance", "psnr", "ssim", "score")
Score = Callable[[np.ndarray, str], float]  # picture (H, W, 3) uint8, prompt -> how well they fit
Weights = Callable[[str], str]  # a model's name -> what tells its weights from others
References = dict[Request, "Result | None"]  # by their requests; None: it could not be made


class Runner(Protocol):
    """What a comparison needs of an engine."""

    def generate(self, request: Request, preview: Preview, cancel: threading.Event) -> Iterator[Step | Done]: ...


@dataclass
class Result:
    """A cell that was made, or could not be. path: its PNG (of the first picture of a batch)."""

    cell: Cell
    path: Path | None = None
    latents: np.ndarray | None = None  # (B, C, h, w)
    evaluations: int = 0
    seconds: float = 0.0
    precision: str = ""
    error: str = ""

    @property
    def files(self) -> list[Path]:
        """The PNGs of the whole batch."""
        if self.path is None or self.cell.request is None:
            return []
        return _files(self.path, self.cell.request.batch)

    def row(self) -> dict[str, Any]:
        """What the tables hold of it, figures of comparison aside."""
        each = self.seconds / self.evaluations if self.evaluations else None
        return {"number": self.cell.number, **self.cell.values,
                "steps_taken": self.cell.request.steps if self.cell.request else None,
                "evaluations": self.evaluations, "seconds": round(self.seconds, 4),
                "seconds_per_evaluation": None if each is None else round(each, 5),
                "picture": self.path.name if self.path else "", "error": self.error}


def make(comparison: Comparison, runner: Runner, folder: Path, cancel: threading.Event,
         weights: Weights = lambda model: "") -> Iterator[Result]:
    """Makes what is missing and yields every cell's result in order; ends early once `cancel` is set.

    weights: cells that were made with others are made anew. A cell that fails yields its error, and the next one is
    made. Raises OutputError when nothing can be written.
    """
    store = Store(folder / "cells", weights)
    writable(store.folder)
    for cell in comparison.cells:
        if cancel.is_set():
            return
        if cell.request is None:
            yield Result(cell, error=cell.error)
        elif kept := store.load(cell):
            yield kept
        else:
            try:
                result = _run(cell, cell.request, runner, store, cancel)
            except LoomError as error:
                yield Result(cell, error=str(error))
                continue
            if result is None:  # stopped in the middle: it is made anew when the comparison goes on
                return
            yield result


def table(comparison: Comparison, results: list[Result], runner: Runner, folder: Path, cancel: threading.Event,
          score: Score | None = None, weights: Weights = lambda model: "",
          references: References | None = None) -> list[dict[str, Any]]:
    """Rows with every figure that can be had: to the reference where one is asked for, to the first cell elsewhere.

    distance: of the final latents to the reference's (see metrics.latent_distance). psnr, ssim: of the picture to that
    of the reference, or of the first cell with the same prompt, seed and size. score: prompt against picture.
    references: the reference runs, to which those that are made here are added.
    """
    references = {} if references is None else references
    store = Store(folder / "cells", weights)
    rows = []
    for result in results:
        row, request = result.row(), result.cell.request
        if request is not None and result.path is not None:
            if comparison.reference_steps:
                other = reference_run(comparison, request, references, runner, store, cancel)
            else:
                alike = (r for r in results if r.cell.request and r.path and same_start(r.cell.request, request))
                other = next(alike, None)
            row |= figures(result, other, comparison.reference_steps > 0, score)
        rows.append(row)
    return rows


def figures(result: Result, other: Result | None, exact: bool, score: Score | None = None) -> dict[str, float]:
    """Those of FIGURES that compare a cell with another, or with its prompt. exact: the other is the reference."""
    found: dict[str, float] = {}
    if result.path is None or result.cell.request is None:
        return found
    picture = _pixels(result.path)
    if other is not None and other.path is not None:
        if exact and result.latents is not None and other.latents is not None:
            found["distance"] = round(metrics.latent_distance(result.latents, other.latents), 5)
        wanted = _pixels(other.path)
        found |= {"psnr": round(metrics.psnr(picture, wanted), 3), "ssim": round(metrics.ssim(picture, wanted), 4)}
    if score is not None:
        found["score"] = round(score(picture, last_words(result.cell.request.prompt)), 4)
    return found


def set_rows(catalogue: Catalogue, comparison: Comparison, results: Sequence[Result], references: References,
             scorer: Scorer | None) -> list[dict[str, Any]]:
    """`sets_by` of what was made."""
    there = {result.cell.number: result for result in results}
    exact = [references.get(reference_of(cell.request, comparison.reference_steps))
             if cell.request and comparison.reference_steps else None for cell in comparison.cells]
    pictures = [there[cell.number].files if cell.number in there else [] for cell in comparison.cells]
    return sets_by(catalogue, comparison, pictures, [one.files if one else [] for one in exact], scorer)


def write_tables(rows: list[dict[str, Any]], folder: Path, name: str = "results") -> None:
    """results.json and results.csv, or of another name. Raises OutputError."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    with disk_errors("tables", folder):
        write_text(folder / f"{name}.csv", text.getvalue())
        plain = [{k: None if v == float("inf") else v for k, v in row.items()} for row in rows]  # JSON has no infinity
        write_text(folder / f"{name}.json", json.dumps(plain, indent=1, ensure_ascii=False))


def _run(cell: Cell, request: Request, runner: Runner, store: Store, cancel: threading.Event) -> Result | None:
    """One cell through the engine and onto the disk; None when it was stopped."""
    for event in runner.generate(request, Preview("none"), cancel):
        if isinstance(event, Done):
            return None if event.stopped else store.save(cell, request, event)
    raise AssertionError("a run ends with Done")


@dataclass(frozen=True)
class Store:
    """Cells on the disk."""

    folder: Path
    weights: Weights

    def save(self, cell: Cell, request: Request, done: Done) -> Result:
        """Pictures, latents, and last the record that says they are there. Raises OutputError."""
        path = self.folder / f"{cell.file_name}.png"
        with disk_errors("pictures", self.folder):
            for k, file in enumerate(_files(path, len(done.pictures))):
                metadata.save_png(done.pictures[k], file, request.single(k).replace(precision=done.precision))
            np.save(path.with_suffix(".npy"), done.latents)
            record = {"request": request.to_dict(), "evaluations": done.evaluations, "seconds": done.seconds,
                      "precision": done.precision, "weights": self._weights_of(request)}
            write_text(path.with_suffix(".json"), json.dumps(record, indent=1))
        return Result(cell, path, done.latents, done.evaluations, done.seconds, done.precision)

    def load(self, cell: Cell) -> Result | None:
        """The cell as an earlier run left it; None if it is not there, or was another one."""
        path, request = self.folder / f"{cell.file_name}.png", cell.request
        assert request is not None
        try:
            record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            if Request.parse(record["request"]) != request or record.get("weights", "") != self._weights_of(request):
                return None
            for file in _files(path, request.batch):
                with Image.open(file) as image:
                    image.verify()
            return Result(cell, path, np.load(path.with_suffix(".npy")), int(record["evaluations"]),
                          float(record["seconds"]), str(record["precision"]))
        except (OSError, ValueError, KeyError, TypeError, LoomError):
            return None

    def _weights_of(self, request: Request) -> str:
        """The model's, and those of its refiner."""
        return " ".join(self.weights(name) for name in (request.model, request.refiner) if name)


def _files(first: Path, batch: int) -> list[Path]:
    return [first, *(first.with_name(f"{first.stem}-{k}{first.suffix}") for k in range(2, batch + 1))]


def reference_run(comparison: Comparison, request: Request, known: References, runner: Runner, store: Store,
                  cancel: threading.Event) -> Result | None:
    """The reference run of a cell, made once for all cells that share it and kept; None if there is none."""
    wanted = reference_of(request, comparison.reference_steps)
    if wanted not in known:
        cell = Cell(0, {"": f"reference-{len(known) + 1}"}, wanted)
        known[wanted] = None
        if not cancel.is_set():
            try:
                known[wanted] = store.load(cell) or _run(cell, wanted, runner, store, cancel)
            except LoomError as error:
                log.warning("The reference of %d steps could not be made: %s", comparison.reference_steps, error)
    return known[wanted]


def same_start(one: Request, other: Request) -> bool:
    """Whether two runs begin with the same noise and ask for the same picture."""
    return all(getattr(one, name) == getattr(other, name)
               for name in ("prompt", "negative_prompt", "seed", "width", "height", "batch", "model"))


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def command(options: Any) -> bool:
    """`python -m core compare SPEC.json --out DIR`: cells, tables and grid -> whether it was stopped.

    Raises LoomError for what cannot be compared or written.
    """
    spec = compare.read(options.spec)
    catalogue = Catalogue(options.models_dir, str(spec.get("model", "storybook")), options.also_models)
    comparison = compare.prepare(spec, catalogue)
    writable(options.out)
    for line in compare.warnings(comparison.cells):
        print(line, file=sys.stderr)

    from core.engine import Engine  # torch and diffusers: only now that the comparison is known to be good

    engine, cancel = Engine(catalogue, options.device, Tuning.of(options)), threading.Event()
    weights = weights_of(catalogue)
    previous = signal.signal(signal.SIGINT, lambda *_: cancel.set())
    results: list[Result] = []
    try:
        for result in make(comparison, engine, options.out, cancel, weights):
            results.append(result)
            said = result.error or f"{result.evaluations} evaluations, {result.seconds:.2f} s"
            print(f"{result.cell.number} of {len(comparison.cells)}: {result.cell.label}: {said}", flush=True)
        scorer, references = judge_of(catalogue, comparison), References()
        rows = table(comparison, results, engine, options.out, cancel, scorer.clip_score if scorer else None, weights,
                     references)
    finally:
        signal.signal(signal.SIGINT, previous)
    if of_sets := set_rows(catalogue, comparison, results, references, scorer):
        write_tables(of_sets, options.out, "sets")
        print("\n".join(_said(row) for row in of_sets))
        numbers = {comparison.cells[k].number: number for number, one in enumerate(sets.sets_of(comparison), 1)
                   for k in one.cells}
        rows = [{"set": numbers[row["number"]], **row} for row in rows]
    write_tables(rows, options.out)
    grid.save(sheet(comparison, results), options.out / "grid.png")
    print(options.out / "grid.png")
    return cancel.is_set()


def sheet(comparison: Comparison, results: Sequence[Result]) -> Image.Image:
    """The labelled grid of the cells that there are."""
    there = {result.cell.number: result for result in results}
    cells = [there.get(cell.number, Result(cell)) for cell in comparison.cells]
    return grid.draw(comparison, [_pixels(r.path) if r.path else None for r in cells], [r.error for r in cells])


def weights_of(catalogue: Catalogue) -> Weights:
    """The fingerprints of a catalogue's models."""
    return lambda model: fingerprint(catalogue.get(model))


def scorer_of(catalogue: Catalogue, comparison: Comparison) -> Score | None:
    """How well a picture fits its prompt; None as in judge_of."""
    scorer = judge_of(catalogue, comparison)
    return scorer.clip_score if scorer else None


def sets_by(catalogue: Catalogue, comparison: Comparison, pictures: Sequence[Sequence[Path]],
            references: Sequence[Sequence[Path]], scorer: Scorer | None = None) -> list[dict[str, Any]]:
    """The figures of a comparison's sets, as `core.sets.figures`; none without sets, or without a scorer.

    scorer: `judge_of`, where somebody has it already.
    """
    if not sets.sets_of(comparison) or (scorer := scorer or judge_of(catalogue, comparison)) is None:
        return []
    classes = sets.classes_of(catalogue.get(_models(comparison)[0]), comparison)
    return sets.figures(comparison, pictures, references, scorer, classes)


def judge_of(catalogue: Catalogue, comparison: Comparison) -> Scorer | None:
    """The scorer that came with the model; None if it brings none, or if several models are compared, whose scorers
    could not be told apart in one column."""
    models = _models(comparison)
    folder = Path(catalogue.get(models[0]).path) / "scorer"
    if len(models) != 1 or not (folder / "config.json").is_file():
        return None
    from core.scorer import Scorer  # torch and transformers: only where there is one

    try:
        return Scorer.load(folder)
    except LoomError as error:  # scores are an extra: the comparison goes without
        log.warning("%s", error)
        return None


def _models(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(cell.request.model for cell in comparison.cells if cell.request))


def _said(row: dict[str, Any]) -> str:
    """A set in one line."""
    parts = [f"{row['pictures']} pictures"]
    parts += [f"{name} {row[name]:g}" for name in ("fid_scorer", "is_scorer") if row[name] is not None]
    return f"set {row['set']}: {', '.join(parts)}"
