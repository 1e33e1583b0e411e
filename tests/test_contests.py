"""Comparisons in the queue: stopped and gone on with, other people's runs in between, errors in their place."""

from __future__ import annotations

import asyncio
import csv
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core import compare, contests
from core.contests import Contest, Contests
from core.engine import Engine
from core.errors import BadRequest, LoomError
from core.job import Job
from core.jobs import Jobs
from core.models.catalogue import Catalogue
from core.request import Done, Preview, Request, Step
from tests.fakes import FakeRunner

SPEC: dict[str, Any] = {"prompt": "a red boat", "width": 64, "height": 64, "samplers": ["Euler", "DDIM"],
                        "steps": [3, 5]}
PATIENCE = 30  # seconds; only a hang takes that long


class Watched(FakeRunner):
    """Tells what it began; run number `stalls` waits at its second step until the gate is open; one sampler fails while
    `broken` names it."""

    def __init__(self) -> None:
        super().__init__(pause=0)
        self.began: list[Request] = []
        self.gate = threading.Event()
        self.broken, self.stalls = "", 0

    def generate(self, request: Request, preview: Preview, cancel: threading.Event) -> Iterator[Step | Done]:
        self.began.append(request)
        number = len(self.began)
        if request.sampler == self.broken:
            raise LoomError("The network gave no numbers.")
        for event in super().generate(request, preview, cancel):
            while number == self.stalls and isinstance(event, Step) and event.index == 1 and not cancel.is_set():
                if self.gate.wait(0.01):
                    break
            yield event


@pytest.fixture
def runner() -> Watched:
    return Watched()


@pytest.fixture
def queue(runner: Watched, tmp_path: Path) -> Iterator[Jobs]:
    queue = Jobs(lambda: runner, tmp_path / "outputs", tmp_path / "frames")
    yield queue
    runner.gate.set()
    queue.close()


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it hangs"
        time.sleep(0.005)


def finished(contest: Contest) -> Contest:
    until(lambda: contest.over)
    return contest


def taken(contest: Contest, k: int) -> int:
    job = contest.jobs[k]
    return len(job.steps) if job else 0


def test_every_cell_is_a_job_with_its_frames_and_its_picture(queue: Jobs) -> None:
    contest = finished(Contests(queue).start(compare.plan(SPEC)))
    assert contest.state == "done" and contest.missing() == [] and contest.error == ""
    for cell, job in zip(contest.comparison.cells, contest.jobs, strict=True):
        assert job and job.request == cell.request and queue.get(job.id) is job
        assert job.frame(len(job.steps) - 1).is_file() and job.results[0].is_file()


def test_sets_of_pictures_are_measured_once_there_are_some(queue: Jobs) -> None:
    asked: list[Any] = []

    def measure(comparison: Any, pictures: Any, references: Any) -> list[dict[str, Any]]:
        asked.append((pictures, references))
        return [{"set": 1, "pictures": sum(map(len, pictures))}]

    studio = Contests(queue, sets=measure)
    contest = finished(studio.start(compare.plan({**SPEC, "seeds": [1, 2]})))
    ((pictures, references),) = asked
    assert [list(own) for own in pictures] == [job.results for job in contest.jobs if job]
    assert [list(own) for own in references] == [[]] * len(pictures)
    assert contest.files[-1].name == "sets.csv" and contest.files[-1].read_text().split() == ["set,pictures", "1,8"]


def test_other_peoples_runs_come_between(queue: Jobs, runner: Watched) -> None:
    runner.stalls = 1
    contest = Contests(queue).start(compare.plan({**SPEC, "seeds": list(range(5))}))
    until(lambda: runner.began)
    other = queue.submit(Request(prompt="mine", width=64, height=64, steps=2))
    runner.gate.set()
    queue.wait(other, PATIENCE)
    finished(contest)
    place = [request.prompt for request in runner.began].index("mine")
    assert place <= contests.AHEAD and len(runner.began) == 21


def test_stop_keeps_finished_cells_and_resume_makes_only_what_is_missing(queue: Jobs, runner: Watched) -> None:
    studio = Contests(queue)
    runner.stalls = 2
    contest = studio.start(compare.plan(SPEC))
    until(lambda: taken(contest, 1))
    studio.stop(contest)
    finished(contest)
    kept = contest.jobs[0]
    assert contest.state == "stopped" and contest.missing() == [1, 2, 3] and kept and kept.state == "done"
    assert [row["error"] for row in contest.rows()][:2] == ["", "stopped"] and contest.rows()[0]["evaluations"] == 6
    assert contest.files[1].is_file()  # tables of what there is
    studio.resume(contest)
    finished(contest)
    assert contest.state == "done" and contest.missing() == [] and contest.jobs[0] is kept
    assert [r.steps for r in runner.began] == [3, 5, 5, 3, 5]


def test_a_stopped_cell_goes_on_from_its_kept_steps(tmp_path: Path, catalogue: Catalogue) -> None:
    queue = Jobs(lambda: Engine(catalogue, "cpu"), tmp_path / "outputs", tmp_path / "frames")
    try:
        studio = Contests(queue)
        values = {**SPEC, "model": "eps", "precision": "fp32", "samplers": ["Euler"], "steps": [100]}
        contest = studio.start(compare.plan(values), Preview("none"))
        until(lambda: taken(contest, 0) > 2)
        studio.stop(contest)
        finished(contest)
        before = contest.jobs[0]
        assert before and before.state == "stopped" and 2 < len(before.steps) < 100
        studio.resume(contest)
        finished(contest)
        after = contest.jobs[0]
        assert after and after.resumes and after.state == "done" and len(after.steps) == 100
        assert after.steps[1].seconds == before.steps[1].seconds  # taken from the record, not made again
        assert len(contest.changes[0]) == 99 and all(change > 0 for change in contest.changes[0])
    finally:
        queue.close()


def test_a_failing_cell_says_why_in_its_place_and_is_tried_again_on_resume(queue: Jobs, runner: Watched) -> None:
    studio = Contests(queue)
    runner.broken = "DDIM"
    contest = finished(studio.start(compare.plan(SPEC)))
    assert contest.state == "done" and contest.missing() == [2, 3]
    assert [row["error"] for row in contest.rows()] == ["", "", *["The network gave no numbers."] * 2]
    runner.broken = ""
    studio.resume(contest)
    assert finished(contest).missing() == [] and len(runner.began) == 6


def test_distances_are_measured_to_a_reference_that_is_made_once(queue: Jobs, runner: Watched) -> None:
    contest = finished(Contests(queue, lambda comparison: lambda picture, prompt: 7.0).start(
        compare.plan({**SPEC, "reference_steps": 9})))
    references = [request for request in runner.began if request.steps == 9]
    assert len(references) == 1 and references[0].sampler == "Heun"
    assert all({"psnr", "ssim", "score"} <= set(row) and row["score"] == 7.0 for row in contest.rows())


def test_the_files_hold_what_the_page_shows(queue: Jobs) -> None:
    contest = finished(Contests(queue).start(compare.plan(SPEC)))
    sheet, table, plain = contest.files
    with Image.open(sheet) as image, open(table, newline="", encoding="utf-8") as file:
        assert image.size[0] > 2 * 64 and len(list(csv.DictReader(file))) == 4
    assert [row["sampler"] for row in json.loads(plain.read_text())] == ["Euler", "Euler", "DDIM", "DDIM"]


def test_frames_of_a_comparison_are_not_forgotten_while_it_is_known(
        queue: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.board.KEPT_JOBS", 1)
    monkeypatch.setattr(contests, "KEPT", 1)
    studio = Contests(queue)
    first = finished(studio.start(compare.plan(SPEC)))
    for seed in range(3):
        queue.wait(queue.submit(Request(prompt="a", width=64, height=64, steps=1, seed=seed)), PATIENCE)
    jobs: list[Job] = [job for job in first.jobs if job]
    assert all(queue.get(job.id) and job.latents is not None and job.frame(0).is_file() for job in jobs)
    second = finished(studio.start(compare.plan({**SPEC, "seed": 5})))
    assert studio.get(first.id) is None and studio.get(second.id) is second
    for seed in range(3):
        queue.wait(queue.submit(Request(prompt="a", width=64, height=64, steps=1, seed=seed)), PATIENCE)
    assert all(queue.get(job.id) is None for job in jobs)


def test_too_many_cells_for_the_page_are_refused_with_the_way_out(queue: Jobs) -> None:
    with pytest.raises(BadRequest, match="python -m core compare"):
        Contests(queue).start(compare.plan({**SPEC, "seeds": list(range(40))}))


def test_a_watcher_sees_it_grow_and_its_end(queue: Jobs) -> None:
    async def watch() -> list[tuple[int, bool]]:
        studio = Contests(queue)
        contest = studio.start(compare.plan(SPEC))
        return [(sum(taken(c, k) for k in range(4)), c.over) async for c in studio.watch(contest)]

    seen = asyncio.run(watch())
    assert [steps for steps, _ in seen] == sorted(steps for steps, _ in seen)
    assert seen[-1] == (3 + 5 + 3 + 5, True)


def test_changes_are_relative_to_what_was_before() -> None:
    class Two:
        taken = 2

        def x0(self, k: int) -> np.ndarray:
            return np.full((1, 4, 2, 2), (2.0, 3.0)[k], np.float32)

    assert contests.changes_of(Two()) == [0.5]  # type: ignore[arg-type]
