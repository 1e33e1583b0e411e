"""Jobs that rest and go on: paused, discarded, moved, timed, and repeated for ever."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core import jobs as jobs_module
from core import metadata
from core.engine import Engine
from core.errors import BadRequest
from core.job import Job
from core.jobs import Jobs
from core.request import Step
from core.trajectory import Trajectory
from tests.lines import assert_one_line
from tests.test_jobs import PATIENCE, GatedRunner, ask, finish, until
from tests.test_jobs_steps import ASK, NO_PREVIEW, Stopping, pixels


@pytest.fixture
def runner() -> GatedRunner:
    return GatedRunner(records=True)


@pytest.fixture
def queue(runner: GatedRunner, tmp_path: Path) -> Iterator[Jobs]:
    queue = Jobs(lambda: runner, tmp_path / "outputs", tmp_path / "frames")
    yield queue
    runner.gate.release(1000)
    queue.close()


def stepped(job: Job, runner: GatedRunner, steps: int) -> None:
    """Let a running job come to so many steps."""
    for taken in range(len(job.steps) + 1, steps + 1):
        runner.gate.release()
        until(lambda taken=taken: len(job.steps) >= taken)


def paused(queue: Jobs, runner: GatedRunner, job: Job) -> Job:
    queue.pause(job.id)
    runner.gate.release()
    until(lambda: job.state == "paused")
    return job


def pngs(queue: Jobs) -> list[Path]:
    return sorted(queue.outputs.rglob("*.png"))


# -- pause, stop, discard


def test_a_paused_run_lets_the_next_one_go_and_goes_on_with_its_steps(queue: Jobs, runner: GatedRunner) -> None:
    first, second = queue.submit(ask("0", steps=6)), queue.submit(ask("1"))
    stepped(first, runner, 2)
    paused(queue, runner, first)
    taken = len(first.steps)
    assert 2 <= taken <= 4 and first.rested and not first.over and queue.position(first) == 0
    assert first.trajectory and Trajectory(first.trajectory).taken == taken
    finish(queue, runner, second)
    assert runner.began == ["0", "1"] and first.state == "paused"
    queue.resume(first.id)
    finish(queue, runner, first)
    assert first.state == "done" and [step.index for step in first.steps] == list(range(6))
    assert len(first.results) == 1 and first.without_frame == set() and len(list(first.frames_dir.glob("*.jpg"))) == 6
    assert first.results[0].name == first.trajectory.with_suffix(".png").name


def test_the_picture_of_a_run_that_paused_has_the_bits_of_one_that_did_not(engine: Engine, tmp_path: Path) -> None:
    class Pausing(Stopping):
        def generate(self, *asked: Any) -> Iterator[Any]:
            for event in super().generate(*asked):
                if isinstance(event, Step) and event.index in pauses:
                    pauses.remove(event.index)
                    queue.pause(queue.line()[0].id)
                yield event

    pauses: list[int] = []
    queue = Jobs(lambda: Pausing(engine), tmp_path / "outputs", tmp_path / "frames")
    whole = queue.wait(queue.submit(ASK, NO_PREVIEW), PATIENCE)
    pauses += [1, 3, 4]
    job = queue.submit(ASK, NO_PREVIEW)
    for taken in (2, 4, 5):  # the last time before its picture was decoded
        until(lambda: job.state == "paused")
        assert len(job.steps) == taken
        queue.resume(job.id)
    assert queue.wait(job, PATIENCE).state == "done", job.error
    assert [step.index for step in job.steps] == list(range(5))
    for mine, other in zip(job.results, whole.results, strict=True):
        assert np.array_equal(pixels(mine), pixels(other))
    queue.close()


def test_without_kept_steps_a_paused_run_begins_anew(tmp_path: Path) -> None:
    runner = GatedRunner(records=True)
    queue = Jobs(lambda: runner, tmp_path / "outputs", tmp_path / "frames", trajectories=0)
    job = queue.submit(ask(steps=6), NO_PREVIEW)
    stepped(job, runner, 2)
    paused(queue, runner, job)
    queue.resume(job.id)
    finish(queue, runner, job)
    assert job.state == "done" and [step.index for step in job.steps] == list(range(6)) and len(pngs(queue)) == 1
    assert not list(queue.outputs.glob("*/*.safetensors"))
    queue.close()


def test_a_waiting_job_can_be_paused_and_comes_back_before_its_others(queue: Jobs, runner: GatedRunner) -> None:
    first, *waiting = (queue.submit(ask(f"{k}")) for k in range(4))
    until(lambda: runner.began)
    queue.pause(waiting[1].id)
    queue.pause(waiting[1].id)
    assert waiting[1].state == "paused" and [queue.position(job) for job in waiting] == [1, 0, 2]
    queue.resume(waiting[1].id)
    queue.resume(waiting[0].id)  # harmless: it waits
    assert [queue.position(job) for job in waiting] == [2, 1, 3]
    finish(queue, runner, first, *waiting)
    assert runner.began == ["0", "2", "1", "3"]


def test_resume_in_the_same_moment_takes_pause_back(queue: Jobs, runner: GatedRunner) -> None:
    job = queue.submit(ask(steps=6))
    stepped(job, runner, 2)
    queue.pause(job.id)
    queue.resume(job.id)
    finish(queue, runner, job)
    assert job.state == "done" and runner.began == ["a"]


@pytest.mark.parametrize("again", [False, True], ids=["paused", "waiting again"])
def test_stopping_a_run_that_rests_keeps_the_picture_it_had_reached(
        queue: Jobs, runner: GatedRunner, again: bool) -> None:
    job = queue.submit(ask(steps=8))
    stepped(job, runner, 3)
    paused(queue, runner, job)
    taken, other = len(job.steps), queue.submit(ask("other", steps=50))
    until(lambda: other.state == "running")
    if again:
        queue.resume(job.id)
    queue.stop(job.id)
    runner.gate.release()
    assert queue.wait(job, PATIENCE).state == "stopped" and other.state == "running"
    with Image.open(job.results[0]) as image:
        assert json.loads(image.info[metadata.OWN_KEY])["stopped_after"] == taken
    queue.stop(other.id)
    assert queue.wait(other, PATIENCE).over and len(pngs(queue)) == 2


@pytest.mark.parametrize("when", ["running", "paused", "waiting"])
def test_what_is_discarded_leaves_nothing(queue: Jobs, runner: GatedRunner, when: str) -> None:
    before = queue.submit(ask("before", steps=2))
    if when != "waiting":
        finish(queue, runner, before)
        while runner.gate.acquire(blocking=False):
            pass
    job = queue.submit(ask(steps=8))
    if when != "waiting":
        stepped(job, runner, 3)
    if when == "paused":
        paused(queue, runner, job)
    queue.discard(job.id)
    assert queue.wait(job, PATIENCE).state == "discarded" and job.results == []
    finish(queue, runner, before)
    until(lambda: queue.queue_length() == 0)
    assert pngs(queue) == before.results and list(queue.outputs.glob("*/*.safetensors")) == [before.trajectory]


def test_discarding_a_run_that_goes_on_with_another_leaves_what_was_there(queue: Jobs, runner: GatedRunner) -> None:
    job = queue.submit(ask(steps=8))
    stepped(job, runner, 3)
    queue.stop(job.id)
    queue.wait(job, PATIENCE)
    again = queue.submit_resume(job.trajectory)
    queue.discard(again.id)
    assert queue.wait(again, PATIENCE).state == "discarded"
    assert job.trajectory and job.trajectory.is_file() and pngs(queue) == job.results


# -- whose turn


def test_owners_take_turns_and_nobody_fills_the_queue(queue: Jobs, runner: GatedRunner,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "MAX_OWN", 3)
    running = queue.submit(ask("a0"), owner="a")
    until(lambda: runner.began)
    many = [queue.submit(ask(f"a{k}"), owner="a") for k in (1, 2, 3)]
    with pytest.raises(BadRequest, match="3 of your pictures are waiting already") as told:
        queue.submit(ask(), owner="a")
    assert_one_line(told.value)
    queue.pause(many[2].id)
    with pytest.raises(BadRequest):  # nor by pausing
        queue.submit(ask(), owner="a")
    few = [queue.submit(ask(f"b{k}"), owner="b") for k in range(2)]
    assert queue.line() == [running, few[0], many[0], few[1], many[1], many[2]]
    finish(queue, runner, *many[:2], *few)
    assert runner.began == ["a0", "b0", "a1", "b1", "a2"]


def test_own_jobs_change_places(queue: Jobs, runner: GatedRunner) -> None:
    first, *waiting = (queue.submit(ask(f"{k}")) for k in range(5))
    until(lambda: runner.began)
    queue.move(waiting[3].id, "top")
    queue.move(waiting[0].id, "down")
    queue.move(waiting[2].id, "up")
    queue.move(first.id, "top")  # harmless: it runs
    assert [job.request.prompt for job in queue.line()] == ["0", "4", "2", "3", "1"]


# -- time


def test_every_waiting_job_tells_its_time_once_a_run_was_measured(queue: Jobs, runner: GatedRunner) -> None:
    runner.pause = 0.01
    finish(queue, runner, queue.submit(ask(steps=10), NO_PREVIEW))
    while runner.gate.acquire(blocking=False):
        pass
    jobs = [queue.submit(ask(steps=10), NO_PREVIEW) for _ in range(3)]
    until(lambda: jobs[0].state == "running")
    left = [queue.forecast(job).left for job in jobs]
    assert all(seconds is not None and seconds >= 0.1 for seconds in left)
    assert left == sorted(left) and left[2] > 1.9 * left[0]  # type: ignore[arg-type, operator, type-var]
    finish(queue, runner, *jobs)
    assert queue.forecast(jobs[0]).left is None


# -- for ever


def test_forever_makes_one_after_the_other_with_new_seeds_until_it_is_stopped(queue: Jobs, runner: GatedRunner) -> None:
    first, second = (queue.submit(ask(seed=7), NO_PREVIEW, lasting=True) for _ in range(2))
    queue.go_on_forever("", "form", first)
    finish(queue, runner, first, second)
    until(lambda: len(queue.known()) >= 5)
    assert len(queue.line()) <= 1  # never more than one of its own
    newest = queue.forever("").job  # type: ignore[union-attr]
    assert newest is not None and newest.lasting
    assert newest.request.replace(seed=7) == first.request
    seeds = [job.request.seed for job in queue.known()[2:]]
    assert len(set(seeds)) == len(seeds)
    queue.end_forever("")
    until(lambda: not queue.line())
    count = len(queue.known())
    finish(queue, runner, queue.submit(ask(), NO_PREVIEW))
    assert queue.forever("") is None and len(queue.known()) == count + 1


def test_forever_waits_for_what_is_paused_and_stop_ends_it(queue: Jobs, runner: GatedRunner) -> None:
    job = queue.submit(ask(steps=6), lasting=True)
    queue.go_on_forever("", "form")
    stepped(job, runner, 2)
    paused(queue, runner, job)
    finish(queue, runner, queue.submit(ask(), NO_PREVIEW))
    assert len(queue.known()) == 2
    queue.stop(job.id)
    queue.wait(job, PATIENCE)
    assert queue.forever("") is None and len(queue.known()) == 2


@pytest.mark.parametrize("trouble", ["fails", "full disk", "full queue"])
def test_forever_does_not_hammer(queue: Jobs, runner: GatedRunner, trouble: str,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    job = queue.submit(ask("fail at step 2" if trouble == "fails" else "a"), NO_PREVIEW, lasting=True)
    queue.go_on_forever("", "form", job)
    if trouble == "full queue":
        monkeypatch.setattr(jobs_module, "MAX_WAITING", 0)
    if trouble == "full disk":
        save = metadata.save_png

        def full(picture: Any, path: Path, *rest: Any, **more: Any) -> None:
            if path.is_relative_to(queue.outputs):
                raise OSError(28, "No space left on device")
            save(picture, path, *rest, **more)

        monkeypatch.setattr(metadata, "save_png", full)
    finish(queue, runner, job)
    assert queue.forever("") is None and len(queue.known()) == 1
