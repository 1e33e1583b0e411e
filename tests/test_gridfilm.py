"""The animated grid: every cell at the same part of its way, labelled as the still one is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from core import compare, grid, gridfilm
from core.contest import Contest
from core.contests import Contests
from core.engine import Engine
from core.errors import LoomError
from core.jobs import Jobs
from core.models.catalogue import Catalogue
from core.request import Preview
from tests.fakes import FakeRunner, picture
from tests.test_contests import SPEC, finished, until


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Jobs]:
    queue = Jobs(lambda: FakeRunner(0), tmp_path / "outputs", tmp_path / "frames")
    yield queue
    queue.close()


def filmed(contests: Contests, contest: Contest, kind: str = "webp") -> Path:
    contests.animate(contest, kind)
    film = contest.film
    until(lambda: film and film.over)
    assert film and film.error == "" and film.path and contest.settled
    assert film.made == film.total > 1
    return film.path


def stills(path: Path) -> list[np.ndarray]:
    with Image.open(path) as film:
        return [np.asarray(still.convert("RGB")).astype(int) for still in ImageSequence.Iterator(film)]


@pytest.mark.parametrize("kind", ["webp", "gif", "mp4"])
def test_every_cell_is_seen_at_the_same_part_of_its_way(queue: Jobs, kind: str) -> None:
    contests = Contests(queue)
    contest = finished(contests.start(compare.plan({**SPEC, "samplers": ["Euler"], "steps": [2, 4]})))
    path = filmed(contests, contest, kind)
    assert path.name == f"grid.{kind}" and contest.files[-1] == path
    if kind == "mp4":
        assert path.stat().st_size > 1000
        return
    seen = stills(path)
    with Image.open(contest.folder / "grid.png") as still:
        assert seen[0].shape[:2] == (still.height, still.width)
        assert np.abs(seen[-1] - np.asarray(still)).mean() < 6  # lossy; 256 colours
    assert len(seen) == 5  # four steps of the longer run, and the results
    top, size = grid.MARGIN + grid.HEAD, 64
    for column, (cell, parts) in enumerate(zip((0, 1), ((0.5, 0.5, 1, 1), (0.25, 0.5, 0.75, 1)), strict=True)):
        left = grid.LEFT + column * (size + grid.GAP)
        for frame, part in zip(seen, parts, strict=False):
            shown = frame[top:top + size, left:left + size]
            wanted = [np.abs(shown - picture(contest.request(cell), 0, p).astype(int)).mean()
                      for p in (0.25, 0.5, 0.75, 1)]
            assert int(np.argmin(wanted)) == round(4 * part) - 1


def test_it_is_made_from_the_kept_steps_where_there_were_no_previews(tmp_path: Path, catalogue: Catalogue) -> None:
    real = Jobs(lambda: Engine(catalogue, "cpu"), tmp_path / "outputs", tmp_path / "frames")
    try:
        contests = Contests(real)
        spec = {**SPEC, "model": "eps", "precision": "fp32", "samplers": ["Euler"], "steps": [3, 5]}
        contest = finished(contests.start(compare.plan(spec), Preview("none")))
        assert not any(job and job.frame(0).exists() for job in contest.jobs)
        seen = stills(filmed(contests, contest))
        assert len(seen) == 6 and all(np.abs(a - b).max() > 20 for a, b in zip(seen, seen[1:], strict=False))
    finally:
        real.close()


def test_only_a_comparison_at_rest_with_a_finished_cell_is_filmed(queue: Jobs) -> None:
    contests = Contests(queue)
    contest = contests.start(compare.plan({**SPEC, "prompt": "fail at step 1"}))
    with pytest.raises(LoomError):
        contests.animate(contest, "avi")
    with pytest.raises(LoomError, match="film: choose"):
        contests.animate(contest, "sheet")
    finished(contest)
    contests.animate(contest, "webp")
    until(lambda: contest.film and contest.film.over)
    assert contest.film and "No cell is finished" in contest.film.error and contest.film.path is None


def test_resume_takes_the_film_of_fewer_cells_away(queue: Jobs) -> None:
    contests = Contests(queue)
    contest = finished(contests.start(compare.plan(SPEC)))
    path = filmed(contests, contest)
    contest.jobs[1] = None
    contests.resume(contest)
    finished(contest)
    assert not path.exists() and contest.film is None and path not in contest.files and contest.missing() == []


@pytest.mark.parametrize("axes", [{"steps": list(range(1, 60))}, {"seeds": list(range(150))}, {"steps": [150]}])
def test_sides_and_frames_are_bounded(axes: dict[str, Any]) -> None:
    comparison = compare.plan({"prompt": "a", "samplers": ["Euler"], "width": 512, "height": 512, **axes})
    contest = Contest("x", comparison, Preview(), Path("x"))
    ends: list[np.ndarray | None] = [np.zeros((512, 512, 3), np.uint8)] * len(comparison.cells)
    side = gridfilm.side_of(contest, ends)
    size = grid.sheet_size(comparison, grid.cell_size(ends, side))
    assert side == grid.LEAST or max(size) <= gridfilm.LONGEST
    moments = gridfilm.moments_of(150, size)
    assert len(moments) <= gridfilm.MOST_FRAMES and moments[-2:] == [1.0, 2.0] and moments == sorted(moments)
    assert len(moments) * size[0] * size[1] <= gridfilm.PIXELS + 2 * size[0] * size[1]
