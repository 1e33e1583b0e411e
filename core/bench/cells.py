"""A comparison as the page makes it, through the queue, against the same runs in a row; and what a browser fetches."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from core import compare, comparing, grid, metadata
from core.bench.measure import Bench, Row, named
from core.compare import Comparison
from core.comparing import Result
from core.contests import Contests
from core.files import save_jpeg
from core.jobs import Jobs
from core.request import Done, Preview, Step

SAMPLERS = ["Euler", "DPM++ 2M", "UniPC", "Euler a"]  # one call a step each
STEPS, SEEDS = [6, 10], [1, 2]


def comparison(bench: Bench) -> Iterator[Row]:
    """16 cells by Contests, frames on, until the last frame is there / the same runs in a row through the engine.

    Both sides leave the same behind: a JPEG of every step, PNGs with their settings, figures by scorer too, tables, the
    grid. In a row every step is decoded in the loop, by the decoder that "auto" prefers; Contests may decode some by a
    cheaper one, and keeps trajectories besides.
    """
    planned = compare.prepare({"model": bench.request.model, "prompt": bench.request.prompt, "samplers": SAMPLERS,
                               "steps": STEPS, "seeds": SEEDS}, bench.engine.catalogue)
    score = comparing.scorer_of(bench.engine.catalogue, planned)
    sizes: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        jobs = Jobs(lambda: bench.engine, Path(folder) / "outputs", Path(folder) / "frames")
        with contextlib.closing(jobs):
            contests = Contests(jobs, lambda one: score)

            def queued() -> float:
                began = time.perf_counter()
                contest = contests.start(planned)
                while not (contest.over and all(job.settled for job in contest.runs())):
                    time.sleep(0.005)
                took = time.perf_counter() - began
                assert contest.state == "done", contest.error
                sizes.extend(file.stat().st_size for job in contest.runs() for file in job.frames_dir.glob("*.jpg"))
                return took

            def in_a_row() -> None:
                with tempfile.TemporaryDirectory() as own:
                    one_by_one(bench, planned, score, Path(own))

            row = bench.ratios(in_a_row, {"queued": queued})["queued"]
    count = len(planned.cells)
    yield named(row, f"a comparison of {count} cells, frames on / the {count} runs in a row", 1.05)
    yield Row("a frame of a cell, as the browser fetches it", statistics.mean(sizes) / 2**10, "KiB")


def one_by_one(bench: Bench, planned: Comparison, score: comparing.Score | None, folder: Path) -> None:
    """Every run through the engine, its frames decoded in the loop; then figures, tables and grid."""
    results: list[Result] = []
    for cell in planned.cells:
        assert cell.request is not None
        frames = folder / str(cell.number)
        frames.mkdir(parents=True)
        for event in bench.engine.generate(cell.request, Preview()):
            if isinstance(event, Step):
                save_jpeg(event.pictures[0], frames / f"{event.index:03d}.jpg")
            elif isinstance(event, Done):
                path = folder / f"{cell.file_name}.png"
                metadata.save_png(event.pictures[0], path, cell.request)
                results.append(Result(cell, path, event.latents, event.evaluations, event.seconds))
    rows = []
    for result in results:
        request = result.cell.request
        first = next(r for r in results if r.cell.request and request and comparing.same_start(r.cell.request, request))
        rows.append(result.row() | comparing.figures(result, first, False, score))
    comparing.write_tables(rows, folder)
    grid.save(comparing.sheet(planned, results), folder / "grid.png")
