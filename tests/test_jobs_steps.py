"""The queue keeps every run's steps: resumed, forked, a step kept as a picture, and the disk held within bounds."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core import metadata
from core.engine import Engine
from core.errors import BadRequest, OutputError, TrajectoryError
from core.favours import Favours
from core.job import Job
from core.jobs import Jobs
from core.recorder import Recorder
from core.request import Preview, Request, Step
from core.trajectory import Past, Trajectory, inside, make_room, runs, unfinished
from tests.fakes import FakeRunner
from tests.lines import assert_one_line
from tests.test_jobs import PATIENCE, until

ASK = Request(prompt="a red boat", model="eps", width=64, height=64, steps=5, precision="fp32", seed=7, batch=2,
              sampler="DPM++ 2M SDE")
NO_PREVIEW = Preview("none")


class Stopping:
    """The real engine, whose runs are stopped after the step that `after` says."""

    def __init__(self, engine: Engine):
        self.engine, self.after = engine, 0
        self.hold = threading.Event()
        self.hold.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def generate(self, request: Request, preview: Preview, cancel: threading.Event, *past: Past) -> Iterator[Any]:
        for event in self.engine.generate(request, preview, cancel, *past):
            if isinstance(event, Step) and event.index + 1 == self.after:
                cancel.set()
            yield event
            assert self.hold.wait(PATIENCE)


@pytest.fixture
def runner(engine: Engine) -> Stopping:
    return Stopping(engine)


@pytest.fixture
def queue(runner: Stopping, tmp_path: Path) -> Iterator[Jobs]:
    queue = Jobs(lambda: runner, tmp_path / "outputs", tmp_path / "frames")
    yield queue
    runner.hold.set()
    queue.close()


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def own(path: Path) -> dict[str, Any]:
    with Image.open(path) as image:
        return dict(json.loads(image.info[metadata.OWN_KEY]))


def finish(queue: Jobs, job: Job, state: str = "done") -> Job:
    queue.wait(job, PATIENCE)
    assert (job.state, job.error) == (state, None)
    return job


def test_the_steps_of_a_run_lie_beside_its_picture(queue: Jobs) -> None:
    job = finish(queue, queue.submit(ASK))
    assert job.trajectory == job.results[0].with_suffix(".safetensors") and job.note == ""
    kept = Trajectory(job.trajectory)
    assert kept.whole and kept.request == ASK and kept.steps == job.steps
    assert [run.path for run in runs(queue.outputs)] == [job.trajectory] and queue.unfinished() == []


def test_they_can_be_read_while_it_runs_and_not_be_resumed_yet(queue: Jobs, runner: Stopping) -> None:
    runner.hold.clear()
    job = queue.submit(ASK)
    until(lambda: job.steps)
    assert job.trajectory is not None and Trajectory(job.trajectory).taken == 1
    assert unfinished(queue.outputs) and queue.unfinished() == []
    with pytest.raises(BadRequest, match="still being made") as refused:
        queue.submit_resume(job.trajectory)
    assert_one_line(refused.value)
    fork = queue.submit_fork(job.trajectory, 1, {"prompt": "sea"}, NO_PREVIEW)  # from what there is
    runner.hold.set()
    finish(queue, job)
    finish(queue, fork)


def test_a_stopped_run_is_resumed_to_the_picture_of_one_that_was_not(queue: Jobs, runner: Stopping) -> None:
    whole = finish(queue, queue.submit(ASK, NO_PREVIEW))
    runner.after = 2
    stopped = finish(queue, queue.submit(ASK, NO_PREVIEW), "stopped")
    runner.after = 0
    assert stopped.trajectory is not None and [run.path for run in queue.unfinished()] == [stopped.trajectory]
    job = finish(queue, queue.submit_resume(stopped.trajectory))
    assert [step.index for step in job.steps] == [0, 1, 2, 3, 4] and job.trajectory == stopped.trajectory
    assert job.steps[-1].evaluations == whole.steps[-1].evaluations
    for k in range(2):
        assert np.array_equal(pixels(job.results[k]), pixels(whole.results[k]))
        assert job.results[k].name == stopped.results[k].stem + "-resumed.png"  # what stopping gave stays
        assert own(stopped.results[k])["stopped_after"] == 2 and "stopped_after" not in own(job.results[k])
    assert queue.unfinished() == []


def test_what_a_killed_studio_left_is_found_and_resumed(queue: Jobs, runner: Stopping, tmp_path: Path) -> None:
    runner.after = 3
    stopped = finish(queue, queue.submit(ASK, NO_PREVIEW), "stopped")
    runner.after = 0
    assert stopped.trajectory is not None
    for path in stopped.results:  # killed, it would not have written them
        path.unlink()
    again = Jobs(lambda: runner, queue.outputs, tmp_path / "frames2")
    (left,) = again.unfinished()
    job = finish(again, again.submit_resume(left))
    assert [path.name for path in job.results] == [path.name for path in stopped.results]
    again.close()


def test_a_fork_names_its_parent_in_file_and_picture(queue: Jobs) -> None:
    parent = finish(queue, queue.submit(ASK, NO_PREVIEW))
    assert parent.trajectory is not None
    job = finish(queue, queue.submit_fork(parent.trajectory, 2, {"prompt": "the blue sea", "sampler": "Euler"}))
    assert job.trajectory is not None and job.request.prompt == "the blue sea"
    kept = Trajectory(job.trajectory)
    assert kept.parent is not None and (kept.parent.file, kept.parent.step) == (parent.trajectory.name, 2)
    assert job.total == kept.total == len(job.steps)
    assert own(job.results[1])["forked_from"] == parent.trajectory.name and own(job.results[1])["forked_at"] == 2
    with Image.open(job.results[0]) as image:
        assert "Forked at: 2" in image.info["parameters"]
    assert metadata.read_png(job.results[0]).prompt == "the blue sea"
    for changes, at in (({"width": 128}, 2), ({}, 9)):
        with pytest.raises(BadRequest):
            queue.submit_fork(parent.trajectory, at, changes)


@pytest.mark.parametrize("by", ["job", "file"])
def test_a_step_kept_is_the_picture_of_a_run_stopped_there(queue: Jobs, runner: Stopping, by: str) -> None:
    job = finish(queue, queue.submit(ASK, NO_PREVIEW))
    runner.after = 3
    stopped = finish(queue, queue.submit(ASK, NO_PREVIEW), "stopped")
    assert job.trajectory is not None
    kept = asyncio.run(queue.keep_step(job if by == "job" else job.trajectory, 2))
    assert [path.name for path in kept] == [f"{path.stem}-step3.png" for path in job.results]
    for a, b in zip(kept, stopped.results, strict=True):
        assert np.array_equal(pixels(a), pixels(b)) and own(a) == own(b) and own(a)["stopped_after"] == 3
    with pytest.raises(BadRequest, match="it holds 0 to 4"):
        asyncio.run(queue.keep_step(job, 5))


def test_any_latents_are_decoded_between_two_steps(queue: Jobs, runner: Stopping) -> None:
    done = finish(queue, queue.submit(ASK))
    assert done.trajectory is not None
    kept = Trajectory(done.trajectory)
    (alone,) = asyncio.run(queue.decode(kept.x0(4)[:1], ASK))
    assert alone.shape == (64, 64, 3)
    with pytest.raises(TrajectoryError, match="other weights"):
        asyncio.run(queue.decode(kept.x0(4), ASK, weights="f" * 16))

    async def in_mid_run() -> None:
        runner.hold.clear()
        job = queue.submit(ASK)
        asked = asyncio.ensure_future(queue.decode(kept.x0(4)[:1], ASK))
        elsewhere = asyncio.ensure_future(queue.decode(kept.x0(4)[:1], ASK.replace(model="v")))
        await asyncio.sleep(0)
        runner.hold.set()
        (shown,) = await asyncio.wait_for(asked, PATIENCE)
        assert np.array_equal(shown, alone)
        await asyncio.wait_for(elsewhere, PATIENCE)
        assert job.over  # another model does not push out the one that works

    asyncio.run(in_mid_run())


# -- the disk


def test_a_full_disk_costs_the_steps_and_not_the_picture(
        queue: Jobs, runner: Stopping, monkeypatch: pytest.MonkeyPatch) -> None:
    add = Recorder.add

    def full(self: Recorder, step: Step) -> None:
        if step.index == 2:
            raise OutputError("The steps of the run cannot be written to /x (No space left on device): free some.")
        add(self, step)

    monkeypatch.setattr(Recorder, "add", full)
    job = finish(queue, queue.submit(ASK))
    assert len(job.results) == 2 and len(job.steps) == 5 and job.trajectory is None
    assert "its steps are not kept" in job.note
    assert_one_line(job.note)
    assert runs(queue.outputs) == [] and not list(queue.outputs.glob("**/*.safetensors"))
    with pytest.raises(BadRequest, match="were not kept"):
        asyncio.run(queue.keep_step(job, 1))


def test_switched_off_no_steps_are_kept(runner: Stopping, tmp_path: Path) -> None:
    queue = Jobs(lambda: runner, tmp_path / "outputs", tmp_path / "frames", trajectories=0)
    job = finish(queue, queue.submit(ASK))
    queue.close()
    assert job.trajectory is None and not list(queue.outputs.glob("**/*.safetensors")) and len(job.results) == 2


def test_beyond_the_limit_the_oldest_go_and_pictures_never(runner: Stopping, tmp_path: Path) -> None:
    queue = Jobs(lambda: runner, tmp_path / "outputs", tmp_path / "frames", trajectories=100_000)
    done = [finish(queue, queue.submit(ASK.replace(seed=k), NO_PREVIEW)) for k in range(5)]
    queue.close()
    kept = [job.trajectory for job in done if job.trajectory and job.trajectory.exists()]
    assert 0 < len(kept) < 5 and kept == [job.trajectory for job in done[-len(kept):]]
    assert all(path.exists() for job in done for path in job.results)


def test_room_is_made_from_the_oldest_and_not_from_what_is_in_use(queue: Jobs, tmp_path: Path) -> None:
    job = finish(queue, queue.submit(ASK, NO_PREVIEW))
    assert job.trajectory is not None
    folder = tmp_path / "many"
    folder.mkdir()
    for age in range(4):
        path = Path(shutil.copy(job.trajectory, folder / f"{age}.safetensors"))
        os.utime(path, (time.time() - age, time.time() - age))
    (folder / "weights.safetensors").write_bytes(bytes(10**6))  # not ours, and in nobody's way but its owner's
    os.utime(folder / "weights.safetensors", (1e9, 1e9))
    make_room(folder, 10**6 + 2 * job.trajectory.stat().st_size + 5000, in_use=[folder / "3.safetensors"])
    assert sorted(path.stem for path in folder.iterdir()) == ["0", "3", "weights"]


# -- what is asked of the worker


def test_closing_answers_whoever_still_waits(tmp_path: Path) -> None:
    queue = Jobs(lambda: FakeRunner(pause=0.3), tmp_path / "outputs", tmp_path / "frames")

    async def ask_and_close() -> None:
        job = queue.submit(ASK.replace(steps=30))
        until(lambda: job.state == "running")
        waiting = asyncio.ensure_future(queue.decode(np.zeros((1, 4, 8, 8), np.float32), ASK.replace(model="other")))
        await asyncio.sleep(0.01)
        closing = threading.Thread(target=queue.close)
        closing.start()
        with pytest.raises(BadRequest, match="closing"):
            await asyncio.wait_for(waiting, PATIENCE)
        await asyncio.to_thread(closing.join)

    asyncio.run(ask_and_close())
    with pytest.raises(BadRequest, match="closing"):
        asyncio.run(queue.decode(np.zeros((1, 4, 8, 8), np.float32), ASK))


def test_a_favour_that_fails_or_is_given_up_harms_nobody() -> None:
    favours, done = Favours(), []

    def fail(runner: object) -> None:
        raise ValueError("no")

    failing, given_up, good = favours.add(ASK, fail), favours.add(ASK, done.append), favours.add(ASK, done.append)
    given_up.cancel()
    favours.do(FakeRunner)
    assert isinstance(failing.exception(0), ValueError) and good.result(0) is None and len(done) == 1 and not favours


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a.png", "missing.safetensors", "a\0b", "",
                                  "link.safetensors", "x" * 5000])
def test_only_trajectories_of_the_folder_are_found(tmp_path: Path, name: str) -> None:
    outputs = tmp_path / "outputs"
    (outputs / "day").mkdir(parents=True)
    for path in (tmp_path / "secret.safetensors", outputs / "a.png", outputs / "day" / "run.safetensors"):
        path.write_bytes(b"")
    (outputs / "link.safetensors").symlink_to(tmp_path / "secret.safetensors")
    with pytest.raises(BadRequest, match="no trajectory") as refused:
        inside(outputs, name)
    assert_one_line(refused.value)
    assert inside(outputs, "day/run.safetensors") == inside(outputs, str(outputs / "day" / "run.safetensors"))
