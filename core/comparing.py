"""Making a comparison: every cell a run through the engine, saved the moment it is done; then figures and a grid.

    DIR/cells/007-Heun-10.png, .npy (final latents), .json (request, evaluations, seconds)
    DIR/grid.png, results.csv, results.json

A comparison that was stopped goes on where it was: a cell whose .json holds the same request is not made again.
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
from typing import Any, Protocol

import numpy as np
from PIL import Image

from core import compare, grid, metadata, metrics
from core.compare import Cell, Comparison, reference_of
from core.errors import LoomError
from core.files import disk_errors, writable, write_text
from core.models.catalogue import Catalogue
from core.request import Done, Preview, Request, Step

log = logging.getLogger(__name__)

FIGURES = ("evaluations", "seconds", "seconds_per_evaluation", "distance", "psnr", "ssim", "score")
Score = Callable[[np.ndarray, str], float]  # picture (H, W, 3) uint8, prompt -> how well they fit


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

    def row(self) -> dict[str, Any]:
        """What the tables hold of it, figures of comparison aside."""
        each = self.seconds / self.evaluations if self.evaluations else None
        return {"number": self.cell.number, **self.cell.values,
                "steps_taken": self.cell.request.steps if self.cell.request else None,
                "evaluations": self.evaluations, "seconds": round(self.seconds, 4),
                "seconds_per_evaluation": None if each is None else round(each, 5),
                "picture": self.path.name if self.path else "", "error": self.error}


def make(comparison: Comparison, runner: Runner, folder: Path, cancel: threading.Event) -> Iterator[Result]:
    """Makes what is missing and yields every cell's result in order; ends early once `cancel` is set.

    A cell that fails yields its error, and the next one is made. Raises OutputError when nothing can be written.
    """
    cells = folder / "cells"
    writable(cells)
    for cell in comparison.cells:
        if cancel.is_set():
            return
        if cell.request is None:
            yield Result(cell, error=cell.error)
        elif kept := _kept(cell, cells):
            yield kept
        else:
            try:
                result = _run(cell, cell.request, runner, cells, cancel)
            except LoomError as error:
                yield Result(cell, error=str(error))
                continue
            if result is None:  # stopped in the middle: it is made anew when the comparison goes on
                return
            yield result


def table(comparison: Comparison, results: list[Result], runner: Runner, folder: Path, cancel: threading.Event,
          score: Score | None = None) -> list[dict[str, Any]]:
    """Rows with every figure that can be had: to the reference where one is asked for, to the first cell elsewhere.

    distance: of the final latents to the reference's (see metrics.latent_distance). psnr, ssim: of the picture to that
    of the reference, or of the first cell with the same prompt, seed and size. score: prompt against picture.
    """
    references: dict[Request, Result | None] = {}
    rows = []
    for result in results:
        row, request = result.row(), result.cell.request
        if request is not None and result.path is not None:
            other = _reference(comparison, request, results, references, runner, folder, cancel)
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
        found["score"] = round(score(picture, result.cell.request.prompt), 4)
    return found


def write_tables(rows: list[dict[str, Any]], folder: Path) -> None:
    """results.json and results.csv. Raises OutputError."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    with disk_errors("tables", folder):
        write_text(folder / "results.csv", text.getvalue())
        plain = [{k: None if v == float("inf") else v for k, v in row.items()} for row in rows]  # JSON has no infinity
        write_text(folder / "results.json", json.dumps(plain, indent=1, ensure_ascii=False))


def _run(cell: Cell, request: Request, runner: Runner, cells: Path, cancel: threading.Event) -> Result | None:
    """One cell through the engine and onto the disk; None when it was stopped."""
    for event in runner.generate(request, Preview("none"), cancel):
        if isinstance(event, Done):
            if event.stopped:
                return None
            result = Result(cell, cells / f"{cell.file_name}.png", event.latents, event.evaluations, event.seconds,
                            event.precision)
            _save(result, request, event, cells)
            return result
    raise AssertionError("a run ends with Done")


def _save(result: Result, request: Request, done: Done, cells: Path) -> None:
    """Picture, latents, and last the record that says both are there. Raises OutputError."""
    stem = result.cell.file_name
    with disk_errors("pictures", cells):
        for k, picture in enumerate(done.pictures):
            path = cells / (f"{stem}-{k + 1}.png" if k else f"{stem}.png")
            metadata.save_png(picture, path, request.single(k).replace(precision=done.precision))
        np.save(cells / f"{stem}.npy", done.latents)
        record = {"request": request.to_dict(), "evaluations": done.evaluations, "seconds": done.seconds,
                  "precision": done.precision}
        write_text(cells / f"{stem}.json", json.dumps(record, indent=1))


def _kept(cell: Cell, cells: Path) -> Result | None:
    """The cell as an earlier run left it; None if it is not there, or was another one."""
    stem, request = cell.file_name, cell.request
    assert request is not None
    try:
        record = json.loads((cells / f"{stem}.json").read_text(encoding="utf-8"))
        if Request.parse(record["request"]) != request:
            return None
        with Image.open(cells / f"{stem}.png") as image:
            image.verify()
        return Result(cell, cells / f"{stem}.png", np.load(cells / f"{stem}.npy"), int(record["evaluations"]),
                      float(record["seconds"]), str(record["precision"]))
    except (OSError, ValueError, KeyError, TypeError, LoomError):
        return None


def _reference(comparison: Comparison, request: Request, results: list[Result], known: dict[Request, Result | None],
               runner: Runner, folder: Path, cancel: threading.Event) -> Result | None:
    """What a cell is measured against, made once for all cells that share it and kept; None if there is none."""
    if not comparison.reference_steps:
        alike = (r for r in results if r.cell.request and r.path and same_start(r.cell.request, request))
        return next(alike, None)
    wanted = reference_of(request, comparison.reference_steps)
    if wanted not in known:
        cell = Cell(0, {"": f"reference-{len(known) + 1}"}, wanted)
        known[wanted] = None
        if not cancel.is_set():
            try:
                known[wanted] = _kept(cell, folder / "cells") or _run(cell, wanted, runner, folder / "cells", cancel)
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
    catalogue = Catalogue(options.models_dir, extra=str(spec.get("model", "storybook")))
    comparison = compare.prepare(spec, catalogue)
    writable(options.out)
    for line in compare.warnings(comparison.cells):
        print(line, file=sys.stderr)

    from core.engine import Engine  # torch and diffusers: only now that the comparison is known to be good

    engine, cancel = Engine(catalogue, options.device), threading.Event()
    previous = signal.signal(signal.SIGINT, lambda *_: cancel.set())
    results: list[Result] = []
    try:
        for result in make(comparison, engine, options.out, cancel):
            results.append(result)
            said = result.error or f"{result.evaluations} evaluations, {result.seconds:.2f} s"
            print(f"{result.cell.number} of {len(comparison.cells)}: {result.cell.label}: {said}", flush=True)
        score = scorer_of(catalogue, comparison)
        rows = table(comparison, results, engine, options.out, cancel, score)
    finally:
        signal.signal(signal.SIGINT, previous)
    write_tables(rows, options.out)
    grid.save(sheet(comparison, results), options.out / "grid.png")
    print(options.out / "grid.png")
    return cancel.is_set()


def sheet(comparison: Comparison, results: Sequence[Result]) -> Image.Image:
    """The labelled grid of the cells that there are."""
    there = {result.cell.number: result for result in results}
    cells = [there.get(cell.number, Result(cell)) for cell in comparison.cells]
    return grid.draw(comparison, [_pixels(r.path) if r.path else None for r in cells], [r.error for r in cells])


def scorer_of(catalogue: Catalogue, comparison: Comparison) -> Score | None:
    """How well a picture fits its prompt, by the scorer that came with the model; None if it brings none, or if
    several models are compared, whose scorers could not be told apart in one column."""
    models = {cell.request.model for cell in comparison.cells if cell.request}
    if len(models) != 1:
        return None
    folder = Path(catalogue.get(models.pop()).path) / "scorer"
    if not (folder / "config.json").is_file():
        return None
    from core.scorer import Scorer  # torch and transformers: only where there is one

    try:
        return Scorer.load(folder).clip_score
    except LoomError as error:  # scores are an extra: the comparison goes without
        log.warning("%s", error)
        return None
