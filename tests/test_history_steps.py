"""The kept steps of a run follow its pictures through the trash; and what the disk refuses costs no picture."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from core import trajectory
from core.history import Entry, History, Query
from core.jobs import Jobs
from tests.fakes import FakeRunner
from tests.lines import assert_one_line
from tests.test_jobs import PATIENCE, ask


@pytest.fixture
def made(tmp_path: Path):  # type: ignore[no-untyped-def]
    """The outputs folder with a run of two pictures and one of another run, and its history."""
    jobs = Jobs(lambda: FakeRunner(0, records=True), tmp_path / "outputs", tmp_path / "frames")
    for seed, batch in ((1, 2), (9, 1)):
        assert jobs.wait(jobs.submit(ask(seed=seed, batch=batch)), PATIENCE).state == "done"
    found = History(jobs.outputs)
    found.scan()
    yield found
    found.close()
    jobs.close()


def by_seed(found: History, seed: int) -> Entry:
    return next(entry for trash in (False, True) for entry in found.search(Query(trash=trash))[1] if entry.seed == seed)


def kept(found: History) -> list[Path]:
    return sorted(found.outputs.glob("*/*.safetensors"))


def trashed(found: History) -> list[Path]:
    return sorted(found.outputs.glob(".history/trash/**/*.safetensors"))


def test_the_steps_leave_with_the_last_picture_of_their_run_and_come_back_with_the_first(made: History) -> None:
    before = kept(made)
    contents = [path.read_bytes() for path in before]
    assert len(before) == 2
    made.delete(by_seed(made, 1).id)
    assert kept(made) == before
    made.delete(by_seed(made, 2).id)
    assert len(kept(made)) == 1 and len(trashed(made)) == 1 and len(trajectory.runs(made.outputs)) == 1
    made.rebuild()
    made.restore(by_seed(made, 1).id)
    assert kept(made) == before and [path.read_bytes() for path in before] == contents and not trashed(made)
    made.restore(by_seed(made, 2).id)
    assert kept(made) == before and not list((made.outputs / ".history/trash").iterdir())


def test_emptying_the_trash_frees_the_steps(made: History) -> None:
    made.delete(by_seed(made, 9).id)
    assert len(trashed(made)) == 1
    assert made.empty_trash() == 1
    assert trashed(made) == [] and len(kept(made)) == 1 and not list((made.outputs / ".history/trash").iterdir())


def test_steps_that_the_disk_will_not_move_stay_and_the_picture_goes(made: History, monkeypatch: pytest.MonkeyPatch,
                                                                    caplog: pytest.LogCaptureFixture) -> None:
    from core.history import companion

    replace = companion.os.replace

    def full(path: Path, target: Path) -> None:
        if Path(path).suffix == ".safetensors":
            raise OSError(28, "No space left on device")
        replace(path, target)

    monkeypatch.setattr(companion.os, "replace", full)
    made.delete(by_seed(made, 9).id)
    assert by_seed(made, 9).deleted and len(kept(made)) == 2 and trashed(made) == []
    assert sum("the steps of a run stay" in record.message for record in caplog.records) == 1


def test_a_full_disk_costs_the_steps_of_a_run_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(lambda: FakeRunner(0, records=True), tmp_path / "outputs", tmp_path / "frames")

    def full(*asked: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("core.recorder.Recorder._write", full)
        job = jobs.wait(jobs.submit(ask()), PATIENCE)
        assert job.state == "done" and not job.unsaved and job.trajectory is None
        assert "No space left" in job.note
        assert_one_line(job.note)
    after = jobs.wait(jobs.submit(ask()), PATIENCE)
    assert after.trajectory and not after.note
    jobs.close()


def test_an_index_that_refuses_costs_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(lambda: FakeRunner(0), tmp_path / "outputs", tmp_path / "frames")
    from core.history import of

    index = of(jobs.outputs).index

    def full(*asked: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(index, "_do", full)
        job = jobs.wait(jobs.submit(ask()), PATIENCE)
    assert job.state == "done" and not job.unsaved and job.results[0].is_file(), job.error
    found = of(jobs.outputs)
    found.scan()
    assert found.search()[0] == 1
    jobs.close()
