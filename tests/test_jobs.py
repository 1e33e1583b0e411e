"""The queue: one at a time in order, watched by anybody, stopped by a button, and never brought down by a run."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core import jobs as jobs_module
from core import metadata
from core.errors import BadRequest, LoomError, OutputError
from core.jobs import Job, Jobs
from core.request import MAX_SEED, Done, Preview, Request, Step
from core.trajectory import Past
from tests.fakes import FakeRunner
from tests.lines import assert_one_line

PATIENCE = 20  # seconds; only a hang takes that long


class GatedRunner(FakeRunner):
    """Takes a step whenever the test opens the gate; tells what it began and how many ran at once."""

    def __init__(self, records: bool = False) -> None:
        super().__init__(pause=0, records=records)
        self.gate = threading.Semaphore(0)
        self.began: list[str] = []
        self.at_once, self.most = 0, 0

    def generate(self, request: Request, preview: Preview, cancel: threading.Event,
                 past: Past | None = None) -> Iterator[Step | Done]:
        self.began.append(request.prompt)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            for event in super().generate(request, preview, cancel, past):
                fresh = isinstance(event, Step) and event.index >= (past.steps if past else 0)
                while fresh and not cancel.is_set() and not self.gate.acquire(timeout=0.01):
                    pass
                yield event
        finally:
            self.at_once -= 1


@pytest.fixture
def runner() -> GatedRunner:
    return GatedRunner()


@pytest.fixture
def queue(runner: GatedRunner, tmp_path: Path) -> Iterator[Jobs]:
    queue = Jobs(lambda: runner, tmp_path / "outputs", tmp_path / "frames")
    yield queue
    queue.close()


def ask(prompt: str = "a", **changes: Any) -> Request:
    return Request(**{"prompt": prompt, "steps": 3, "width": 64, "height": 64, **changes})


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


def finish(queue: Jobs, runner: GatedRunner, *jobs: Job) -> None:
    runner.gate.release(1000)
    for job in jobs:
        assert queue.wait(job, PATIENCE).over


# -- order


def test_runs_go_one_at_a_time_in_the_order_they_came(queue: Jobs, runner: GatedRunner) -> None:
    submitted = [queue.submit(ask(f"{i}")) for i in range(5)]
    until(lambda: runner.began)
    assert [queue.position(job) for job in submitted] == [0, 1, 2, 3, 4] and queue.queue_length() == 5
    assert [job.state for job in submitted] == ["running"] + ["waiting"] * 4
    finish(queue, runner, *submitted)
    assert runner.began == ["0", "1", "2", "3", "4"] and runner.most == 1
    until(lambda: queue.queue_length() == 0)
    assert [queue.position(job) for job in submitted] == [0] * 5


def test_fifty_quick_jobs_all_come_to_their_end_for_their_watchers(tmp_path: Path) -> None:
    queue = Jobs(lambda: FakeRunner(pause=0), tmp_path / "outputs", tmp_path / "frames")

    async def watched(job: Job) -> str:
        async for now in queue.watch(job):
            state = now.state
        return state

    async def all_of_them() -> list[str]:
        submitted = [queue.submit(ask(steps=1), Preview("none")) for _ in range(50)]
        return await asyncio.wait_for(asyncio.gather(*(watched(job) for job in submitted)), PATIENCE)

    assert asyncio.run(all_of_them()) == ["done"] * 50
    queue.close()


def test_more_than_the_queue_holds_is_refused_in_one_line(
        queue: Jobs, runner: GatedRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "MAX_WAITING", 2)
    queue.submit(ask())
    until(lambda: runner.began)
    for _ in range(2):
        queue.submit(ask())
    with pytest.raises(BadRequest, match="2 pictures are waiting already") as told:
        queue.submit(ask())
    assert_one_line(told.value)


def test_what_cannot_be_done_never_enters_the_queue(tmp_path: Path) -> None:
    def check(request: Request) -> None:
        raise BadRequest("No.", "steps")

    queue = Jobs(lambda: FakeRunner(), tmp_path / "outputs", tmp_path / "frames", check)
    with pytest.raises(BadRequest, match="No"):
        queue.submit(ask())
    assert queue.queue_length() == 0
    queue.close()


# -- watching


def test_watchers_see_every_run_to_its_end_each_for_itself(queue: Jobs, runner: GatedRunner) -> None:
    async def watch(job: Job, seen: list[tuple[str, int, int]]) -> None:
        async for now in queue.watch(job):
            seen.append((now.state, len(now.steps), now.version))

    async def both() -> tuple[list[Any], list[Any]]:
        job = queue.submit(ask(steps=4))
        seen: tuple[list[Any], list[Any]] = ([], [])
        tasks = [asyncio.create_task(watch(job, one)) for one in seen]
        for taken in range(1, 5):
            runner.gate.release()
            while not all(one and one[-1][1] >= taken for one in seen):
                await asyncio.sleep(0.005)
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
        return seen

    for seen in asyncio.run(both()):
        assert seen[-1][:2] == ("done", 4)
        assert {steps for _, steps, _ in seen} >= {1, 2, 3, 4}  # a watcher that keeps up misses no step
        versions = [version for *_, version in seen]
        assert versions == sorted(versions)


def test_a_slow_watcher_gets_fast_changes_as_one(queue: Jobs, runner: GatedRunner) -> None:
    async def slow() -> int:
        job, looks = queue.submit(ask(steps=30), Preview("none")), 0
        runner.gate.release(1000)
        async for _ in queue.watch(job):
            looks += 1
            await asyncio.sleep(0.1)
        return looks

    assert asyncio.run(slow()) < 15  # 33 changes


def test_who_comes_late_sees_the_end_at_once_and_who_leaves_ends_nothing(queue: Jobs, runner: GatedRunner) -> None:
    async def leave_early(job: Job) -> None:
        async for _ in queue.watch(job):
            break

    async def late(job: Job) -> list[str]:
        return [now.state async for now in queue.watch(job)]

    job = queue.submit(ask())
    asyncio.run(leave_early(job))
    finish(queue, runner, job)
    assert job.state == "done" and asyncio.run(late(job)) == ["done"]


# -- what a run leaves


def test_results_lie_on_disk_with_the_request_that_makes_each(queue: Jobs, runner: GatedRunner) -> None:
    job = queue.submit(ask("ein Häuschen", batch=3, seed=MAX_SEED - 1))
    finish(queue, runner, job)
    assert job.state == "done" and len(job.results) == 3 and job.seconds > 0 and job.error is None
    for path, seed in zip(job.results, (MAX_SEED - 1, MAX_SEED, 0), strict=True):
        assert path.parent.parent == queue.outputs and path.suffix == ".png"
        assert metadata.read_png(path) == job.request.replace(seed=seed, batch=1, precision="fp32")


@pytest.mark.parametrize("decoder", ["vae", "auto"])
def test_every_step_gets_its_frames_and_those_not_there_yet_are_named(
        queue: Jobs, runner: GatedRunner, decoder: str) -> None:
    missing = []
    job = queue.submit(ask(steps=8, batch=2), Preview(decoder))

    async def look() -> None:
        async for now in queue.watch(job):
            runner.gate.release()
            there = {step.index for step in now.steps} - now.without_frame
            missing.extend((index, k) for index in there for k in range(2) if not now.frame(index, k).is_file())

    asyncio.run(asyncio.wait_for(look(), PATIENCE))
    assert missing == [] and len(job.steps) == 8
    assert job.settled and job.without_frame == set()  # what a budget left out was made up for


def test_previews_that_cannot_be_written_cost_the_run_nothing(
        queue: Jobs, runner: GatedRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("core.job_previews.save_jpeg", full)
    job = queue.submit(ask(steps=6))
    finish(queue, runner, job)
    assert job.state == "done" and len(job.results) == 1 and len(job.steps) == 6
    assert "without previews" in job.note and "No space left" in job.note and "\n" not in job.note


def test_frames_are_whole_pictures_of_the_right_size(queue: Jobs, runner: GatedRunner) -> None:
    job = queue.submit(ask(width=64, height=128))
    finish(queue, runner, job)
    for step in job.steps:
        with Image.open(job.frame(step.index)) as image:
            assert image.size == (64, 128) and image.format == "JPEG"
    assert list(job.frames_dir.glob("*.part")) == []


def test_without_preview_there_are_steps_and_no_frames(queue: Jobs, runner: GatedRunner) -> None:
    job = queue.submit(ask(), Preview("none"))
    finish(queue, runner, job)
    assert len(job.steps) == 3 and list(job.frames_dir.iterdir()) == [] and len(job.results) == 1


def test_the_time_left_is_known_from_the_second_step_on(queue: Jobs, runner: GatedRunner) -> None:
    job = queue.submit(ask(steps=5))
    assert job.seconds_left is None
    runner.gate.release(3)
    until(lambda: len(job.steps) == 3)
    assert job.seconds_left is not None and 0 <= job.seconds_left < PATIENCE
    finish(queue, runner, job)
    assert job.seconds_left is None


# -- stop


def test_stopped_while_waiting_a_job_never_runs(queue: Jobs, runner: GatedRunner) -> None:
    first, second, third = (queue.submit(ask(f"{i}")) for i in range(3))
    until(lambda: runner.began)
    queue.stop(second.id)
    assert second.state == "stopped" and queue.position(third) == 1
    finish(queue, runner, first, third)
    assert runner.began == ["0", "2"] and second.results == []


def test_stopped_while_running_a_job_keeps_its_picture(queue: Jobs, runner: GatedRunner) -> None:
    job = queue.submit(ask(steps=10))
    runner.gate.release(3)
    until(lambda: len(job.steps) == 3)
    queue.stop(job.id)
    queue.wait(job, PATIENCE)
    assert job.state == "stopped" and 3 <= len(job.steps) < 10 and len(job.results) == 1
    with Image.open(job.results[0]) as image:
        assert "Stopped after: " in image.info["parameters"]
    queue.stop(job.id)  # harmless: it is over
    queue.stop("nobody")
    assert job.state == "stopped"


# -- runs that fail


def test_a_failing_run_says_its_line_and_the_next_one_runs(queue: Jobs, runner: GatedRunner) -> None:
    bad, good = queue.submit(ask("fail at step 2")), queue.submit(ask())
    finish(queue, runner, bad, good)
    assert (bad.state, good.state) == ("failed", "done") and len(bad.steps) == 1
    assert isinstance(bad.error, LoomError) and "try another sampler" in str(bad.error)


@pytest.mark.parametrize("error", [ValueError("two\nlines"), KeyError("x"), RuntimeError(), AssertionError("no")])
def test_our_own_mistake_fails_the_job_in_one_line_and_the_worker_lives(
        queue: Jobs, runner: GatedRunner, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def broken(*args: object) -> Iterator[Step | Done]:
        raise error
        yield

    with monkeypatch.context() as patch:
        patch.setattr(runner, "generate", broken)
        job = queue.wait(queue.submit(ask()), PATIENCE)
    assert job.state == "failed" and type(error).__name__ in str(job.error)
    assert_one_line(job.error)
    after = queue.submit(ask())
    finish(queue, runner, after)
    assert after.state == "done"


def test_an_engine_that_cannot_be_made_fails_the_jobs_until_it_can(tmp_path: Path) -> None:
    tries = []

    def make() -> FakeRunner:
        tries.append(1)
        if len(tries) < 3:
            raise LoomError("No device.")
        return FakeRunner(pause=0)

    queue = Jobs(make, tmp_path / "outputs", tmp_path / "frames")
    states = [queue.wait(queue.submit(ask()), PATIENCE).state for _ in range(3)]
    assert states == ["failed", "failed", "done"]
    queue.close()


@pytest.mark.parametrize("where", ["outputs", "frames"])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, where: str) -> None:
    (tmp_path / where).write_text("a file where a folder should be")
    queue = Jobs(lambda: FakeRunner(pause=0), tmp_path / "outputs", tmp_path / "frames")
    if where == "outputs":  # asked before anything is computed
        with pytest.raises(OutputError, match="choose another folder") as told:
            queue.submit(ask())
        error: LoomError | None = told.value
    else:
        error = queue.wait(queue.submit(ask()), PATIENCE).error
        assert isinstance(error, OutputError)
    assert_one_line(error)
    queue.close()


def test_a_disk_that_fills_up_at_the_end_fails_the_job_in_one_line(
        queue: Jobs, runner: GatedRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(metadata, "save_png", full)
    job = queue.submit(ask())
    finish(queue, runner, job)
    assert job.state == "failed" and "No space left on device" in str(job.error) and len(job.steps) == 3
    assert_one_line(job.error)


# -- the end


def test_old_jobs_are_forgotten_with_their_frames_and_keep_their_results(
        queue: Jobs, runner: GatedRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.board.KEPT_JOBS", 3)
    old = []
    for i in range(6):
        old.append(queue.submit(ask(seed=i)))
        finish(queue, runner, old[-1])
    gone, kept = old[:3], old[3:]
    assert all(queue.get(job.id) is None and not job.frames_dir.exists() for job in gone)
    assert all(queue.get(job.id) is job and job.frames_dir.exists() for job in kept)
    assert all(path.exists() for job in old for path in job.results)


def test_closing_stops_what_runs_and_what_waits(queue: Jobs, runner: GatedRunner) -> None:
    running, waiting = queue.submit(ask(steps=50)), queue.submit(ask())
    runner.gate.release()
    until(lambda: running.steps)
    began = time.monotonic()
    queue.close()
    assert time.monotonic() - began < PATIENCE / 2
    assert running.state == waiting.state == "stopped" and not queue.frames.exists()
    assert len(running.results) == 1 and waiting.results == []
    with pytest.raises(BadRequest, match="closing"):
        queue.submit(ask())


def test_warming_up_loads_the_model_and_a_failure_there_is_no_ones_error(tmp_path: Path) -> None:
    runner = FakeRunner(pause=0)
    queue = Jobs(lambda: runner, tmp_path / "outputs", tmp_path / "frames")
    queue.warm("storybook")
    until(lambda: not queue.warming)
    assert runner.loaded == ["storybook"]

    def broken(name: str) -> None:
        raise LoomError("No such model.")

    runner.load = broken  # type: ignore[method-assign]
    queue.warm("nowhere")
    until(lambda: not queue.warming)
    assert queue.wait(queue.submit(ask()), PATIENCE).state == "done"
    queue.close()


def test_steps_are_told_without_their_arrays(queue: Jobs, runner: GatedRunner) -> None:
    job = queue.submit(ask())
    finish(queue, runner, job)
    assert [(step.index, step.total, step.evaluations) for step in job.steps] == [(0, 3, 2), (1, 3, 4), (2, 3, 6)]
    assert not any(isinstance(value, np.ndarray) for step in job.steps for value in vars(step).values())
