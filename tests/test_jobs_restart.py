"""The queue and the studio's end: closed or killed, what waits and runs goes on once; and a disk that refuses."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import metadata, saving
from core.engine import Engine
from core.errors import OutputError
from core.jobs import Jobs
from core.journal import FOLDER
from core.request import Preview
from tests.fakes import FakeRunner
from tests.lines import assert_one_line
from tests.test_jobs import PATIENCE, GatedRunner, ask, finish, until
from tests.test_jobs_kept import pngs, queue, runner, stepped
from tests.test_jobs_steps import ASK, NO_PREVIEW, Stopping, pixels

__all__ = ["queue", "runner"]  # fixtures


def journal(queue: Jobs) -> list[str]:
    return sorted(path.stem for path in (queue.outputs / FOLDER).glob("*.json") if path.name != "order.json")


def killed(queue: Jobs, outputs: Path) -> Path:
    """The outputs folder as it would be had the studio been killed now."""
    half_written = shutil.ignore_patterns("*.part")  # gone or renamed by now
    shutil.copytree(queue.outputs, outputs, ignore=half_written)
    return outputs


def test_what_waits_and_runs_goes_on_in_the_next_studio(queue: Jobs, runner: GatedRunner, tmp_path: Path) -> None:
    asked = [queue.submit(ask(f"{k}", steps=6, seed=k), Preview("linear"), "me" if k else "you", lasting=True)
             for k in range(5)]
    stepped(asked[0], runner, 2)
    queue.pause(asked[1].id)
    queue.move(asked[4].id, "top")
    assert journal(queue) == sorted(job.id for job in asked)
    again = GatedRunner(records=True)
    second = Jobs(lambda: again, killed(queue, tmp_path / "after"), tmp_path / "frames2")
    left = [second.get(job.id) for job in asked]
    assert [(job.request, job.preview, job.owner, job.created) for job in left if job] == \
        [(job.request, job.preview, job.owner, job.created) for job in asked]
    until(lambda: again.began)
    assert left[1] and left[1].state == "paused" and again.began == ["0"]
    assert [job.request.prompt for job in second.line()] == ["0", "4", "2", "3", "1"]
    second.resume(left[1].id)
    finish(second, again, *(job for job in left if job))
    assert again.began == ["0", "1", "4", "2", "3"] and journal(second) == []
    assert sorted(metadata.read_png(path).seed for path in pngs(second)) == [0, 1, 2, 3, 4]
    second.close()


def test_closing_leaves_the_rest_to_the_journal_and_stops_what_somebody_holds_the_line_for(
        queue: Jobs, runner: GatedRunner, tmp_path: Path) -> None:
    lasting, held = queue.submit(ask("l", steps=9), lasting=True), queue.submit(ask("h"))
    stepped(lasting, runner, 3)
    runner.gate.release()
    queue.close()
    assert held.state == "stopped" and not lasting.over and lasting.results == [] and journal(queue) == [lasting.id]
    second = Jobs(lambda: runner, queue.outputs, tmp_path / "frames2")
    job = second.get(lasting.id)
    assert job is not None
    finish(second, runner, job)
    assert job.state == "done" and len(job.steps) == 9 and len(pngs(second)) == 1
    assert runner.began == ["l", "l"]
    second.close()


def test_a_run_that_was_killed_ends_in_the_bits_of_one_that_was_not(engine: Engine, tmp_path: Path) -> None:
    runner = Stopping(engine)
    queue = Jobs(lambda: runner, tmp_path / "outputs", tmp_path / "frames")
    whole = queue.wait(queue.submit(ASK, NO_PREVIEW), PATIENCE)
    fork = queue.wait(queue.submit_fork(whole.trajectory, 1, {"prompt": "sea"}, NO_PREVIEW), PATIENCE)
    runner.hold.clear()
    jobs = [queue.submit(ASK, NO_PREVIEW, lasting=True),
            queue.submit_fork(whole.trajectory, 1, {"prompt": "sea"}, NO_PREVIEW, lasting=True)]
    until(lambda: len(jobs[0].steps) == 1)
    after = killed(queue, tmp_path / "after")
    for path in (after / FOLDER).glob("*.json"):  # the parent's address moved with the copy
        path.write_text(path.read_text().replace(str(queue.outputs), str(after)))
    second = Jobs(lambda: engine, after, tmp_path / "frames2")
    for job, expected in zip(jobs, (whole, fork), strict=True):
        made = second.get(job.id)
        assert made and second.wait(made, PATIENCE).state == "done", made and made.error
        assert [path.name for path in made.results] == [saving.picture_paths(job, queue._maker._stem(job),
                                                                            queue.outputs)[k].name for k in range(2)]
        for mine, other in zip(made.results, expected.results, strict=True):
            assert np.array_equal(pixels(mine), pixels(other))
    second.close()
    runner.hold.set()
    queue.close()


def test_killed_between_the_picture_and_the_journal_nothing_is_made_twice(
        queue: Jobs, runner: GatedRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue._journal, "remove", lambda identity: None)
    done = queue.submit(ask(steps=2, batch=2), lasting=True)
    finish(queue, runner, done)
    part = queue.submit(ask(steps=900 // 9), lasting=True)
    until(lambda: len(part.steps) > 3)
    queue.stop(part.id)
    queue.wait(part, PATIENCE)
    again = GatedRunner(records=True)
    second = Jobs(lambda: again, killed(queue, tmp_path / "after"), tmp_path / "frames2")
    for job in (done, part):
        left = second.get(job.id)
        assert left is not None and left.state == job.state and len(left.results) == len(job.results)
        assert [step.index for step in left.steps] == [step.index for step in job.steps]
    time.sleep(0.1)
    assert again.began == [] and journal(second) == [] and len(pngs(second)) == 3
    second.close()


def test_a_run_that_brings_the_studio_down_at_every_start_is_paused_in_the_end(
        queue: Jobs, runner: GatedRunner, tmp_path: Path) -> None:
    job, other = (queue.submit(ask(prompt, steps=9), lasting=True) for prompt in ("deadly", "other"))
    until(lambda: runner.began)
    studios, runners = [queue], [runner]
    for fall in range(3):
        runners.append(GatedRunner(records=True))
        outputs = killed(studios[-1], tmp_path / f"outputs{fall}")
        studios.append(Jobs(lambda: runners[-1], outputs, tmp_path / f"frames{fall}"))
        until(lambda: runners[-1].began)
    assert [made.began for made in runners] == [["deadly"], ["deadly"], ["deadly"], ["other"]]
    left, beside = studios[-1].get(job.id), studios[-1].get(other.id)
    assert left and beside and left.state == "paused" and "again and again" in left.note
    studios[-1].resume(left.id)
    finish(studios[-1], runners[-1], left, beside)
    assert left.state == "done"
    for studio in studios[1:]:
        studio.close()


def test_two_studios_do_not_share_a_queue(queue: Jobs, runner: GatedRunner, tmp_path: Path) -> None:
    job = queue.submit(ask(), lasting=True)
    other = Jobs(lambda: runner, queue.outputs, tmp_path / "frames2")
    assert other.get(job.id) is None
    theirs = other.submit(ask(), lasting=True)
    assert not theirs.lasting and journal(queue) == [job.id]
    finish(queue, runner, job)
    finish(other, runner, theirs)
    other.close()


@pytest.mark.parametrize("harm", ["{", "[]", "{}", '{"id": "../../x", "created": 1}', "\x00"])
def test_a_damaged_journal_costs_the_damaged_job_only(queue: Jobs, runner: GatedRunner, tmp_path: Path,
                                                       harm: str) -> None:
    bad, good = (queue.submit(ask(f"{k}", steps=50), lasting=True) for k in range(2))
    after = killed(queue, tmp_path / "after")
    for name in (bad.id, "order"):
        (after / FOLDER / f"{name}.json").write_text(harm)
    second = Jobs(lambda: FakeRunner(0), after, tmp_path / "frames2")
    left = second.get(good.id)
    assert second.get(bad.id) is None and left and second.wait(left, PATIENCE).state == "done"
    second.close()


def test_a_job_whose_parent_is_gone_says_so_and_the_others_go_on(queue: Jobs, runner: GatedRunner,
                                                                 tmp_path: Path) -> None:
    parent = queue.submit(ask(steps=4))
    finish(queue, runner, parent)
    while runner.gate.acquire(blocking=False):
        pass
    fork = queue.submit_fork(parent.trajectory, 2, {"prompt": "b"}, lasting=True)
    after = killed(queue, tmp_path / "after")
    assert parent.trajectory is not None
    parent.trajectory.unlink()
    second = Jobs(lambda: FakeRunner(0), after, tmp_path / "frames2")
    left = second.get(fork.id)
    assert left is not None and left.state == "failed" and journal(second) == []
    assert_one_line(left.error)
    second.close()


# -- a disk that refuses


def test_a_picture_that_the_disk_refuses_is_kept_for_download_and_the_queue_goes_on(
        queue: Jobs, runner: GatedRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    save = metadata.save_png

    def full(picture: Any, path: Path, *rest: Any, **more: Any) -> None:
        if path.is_relative_to(queue.outputs):
            raise OSError(28, "No space left on device")
        save(picture, path, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(metadata, "save_png", full)
        job = queue.submit(ask(seed=5), lasting=True)
        finish(queue, runner, job)
    assert job.state == "done" and job.unsaved and metadata.read_png(job.results[0]).seed == 5
    assert job.results[0].is_relative_to(job.frames_dir)
    assert "No space left" in job.note and "download" in job.note and "\n" not in job.note
    after = queue.submit(ask())
    finish(queue, runner, after)
    assert after.state == "done" and after.results[0].is_relative_to(queue.outputs)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="nothing is read-only for root")
def test_outputs_that_became_read_only_are_told_in_one_line(queue: Jobs, runner: GatedRunner) -> None:
    job = queue.submit(ask(steps=4), lasting=True)
    stepped(job, runner, 2)
    folders = [path for path in (queue.outputs, *queue.outputs.rglob("*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o500)
    try:
        with pytest.raises(OutputError) as refused:
            queue.submit(ask(), lasting=True)
        assert_one_line(refused.value)
        finish(queue, runner, job)
        assert job.state == "done" and job.unsaved
    finally:
        for folder in folders:
            folder.chmod(0o700)


def test_a_journal_that_cannot_be_written_costs_only_the_survival(
        queue: Jobs, runner: GatedRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*asked: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("core.journal.write_text", full)
    job = queue.submit(ask(), lasting=True)
    finish(queue, runner, job)
    assert job.state == "done" and not job.lasting and journal(queue) == []
