"""A comparison outlives its studio: found again by its id, with what was finished, and gone on with from there."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core import compare, contestfile
from core.contest import Contest
from core.contests import Contests
from core.engine import Engine
from core.errors import BadRequest
from core.jobs import Jobs, Runner
from core.models.catalogue import Catalogue
from core.request import Preview
from tests.lines import assert_one_line
from tests.test_contests import SPEC, Watched, finished, taken, until

REAL = {**SPEC, "model": "eps", "precision": "fp32", "samplers": ["Euler", "DDIM"], "steps": [4, 6]}


@pytest.fixture
def runner() -> Watched:
    return Watched()


@contextlib.contextmanager
def studio(folder: Path, runner: Callable[[], Runner], **more: Any) -> Iterator[Contests]:
    """One life of a studio; the outputs stay for the next one."""
    queue = Jobs(runner, folder / "outputs", folder / "frames")
    try:
        yield Contests(queue, **more)
    finally:
        queue.close()


def opened(contests: Contests, identity: str) -> Contest:
    found = contests.get(identity)
    assert found
    until(lambda: found.settled)
    return found


def cut_short(folder: Path, runner: Watched) -> str:
    """A studio that ended while the second of four cells was in its middle."""
    runner.stalls = 2
    with studio(folder, lambda: runner) as first:
        contest = first.start(compare.plan(SPEC), spec=SPEC)
        until(lambda: taken(contest, 1))
    return contest.id


def test_finished_cells_are_found_again_and_resume_makes_only_the_rest(tmp_path: Path, runner: Watched) -> None:
    identity = cut_short(tmp_path, runner)
    runner.began.clear()
    runner.stalls = 0
    with studio(tmp_path, lambda: runner) as second:
        contest = opened(second, identity)
        assert contest is second.get(identity) and contest.state == "stopped" and contest.missing() == [1, 2, 3]
        kept = contest.jobs[0]
        assert kept and kept.state == "done" and kept.results[0].is_file() and len(kept.steps) == 3
        assert contest.rows()[0]["evaluations"] == 6 and contest.error == "" and not runner.began
        second.resume(contest)
        assert finished(contest).state == "done" and contest.missing() == [] and contest.jobs[0] is kept
        assert [(r.sampler, r.steps) for r in runner.began] == [("Euler", 5), ("DDIM", 3), ("DDIM", 5)]
    with studio(tmp_path, lambda: runner) as third:
        again = opened(third, identity)
        assert again.state == "done" and not again.resumable and again.error == ""
        assert again.figures == contest.figures and all(again.figures)
        assert [path.name for path in again.files] == ["grid.png", "results.csv", "results.json"]


def test_a_page_sees_it_go_on_after_a_restart(tmp_path: Path, runner: Watched) -> None:
    with studio(tmp_path, lambda: runner) as first:
        seen = finished(first.start(compare.plan(SPEC), spec=SPEC))
    with studio(tmp_path, lambda: runner) as second:
        assert opened(second, seen.id).version > seen.version


def test_the_real_thing_comes_back_with_steps_latents_curves_paths_and_previews(
        tmp_path: Path, catalogue: Catalogue) -> None:
    def make() -> Runner:
        return Engine(catalogue, "cpu")

    spec = {**REAL, "reference_steps": 9}
    with studio(tmp_path, make) as first:
        before = finished(first.start(compare.plan(spec), Preview("linear"), spec=spec))
        assert before.error == "" and all("distance" in figures for figures in before.figures)
    assert not (tmp_path / "frames").exists()
    with studio(tmp_path, make) as second:
        after = opened(second, before.id)
        assert after.state == "done" and not after.resumable and after.error == ""
        assert (after.figures, after.changes) == (before.figures, before.changes)
        for old, new in zip(before.jobs, after.jobs, strict=True):
            assert old and new and old.latents is not None and new.latents is not None
            np.testing.assert_array_equal(old.latents, new.latents)
            assert new.steps == old.steps and new.results == old.results and new.trajectory == old.trajectory
            assert not new.without_frame and all(new.frame(k).is_file() for k in range(len(new.steps)))
        assert [plane.share for plane in after.planes] == [plane.share for plane in before.planes]
        [plane] = after.planes
        assert [(path.cell, len(path.steps)) for path in plane.paths] == [(0, 3), (1, 5), (2, 3), (3, 5), (-1, 8)]


def test_a_cell_that_was_killed_in_its_middle_goes_on_from_its_kept_steps(tmp_path: Path, catalogue: Catalogue) -> None:
    def make() -> Runner:
        return Engine(catalogue, "cpu")

    spec = {**REAL, "samplers": ["Euler"], "steps": [100]}
    with studio(tmp_path, make) as first:
        contest = first.start(compare.plan(spec), Preview("none"), spec=spec)
        own = contest.folder / "cells" / "001.json"
        until(lambda: taken(contest, 0) > 2 and own.is_file())
        noted = own.read_text()
    own.write_text(noted)  # as a studio leaves it that had no time to say goodbye
    assert json.loads(noted)["state"] in ("waiting", "running") and not json.loads(noted)["trajectory"]
    with studio(tmp_path, make) as second:
        again = opened(second, contest.id)
        half = again.jobs[0]
        assert again.missing() == [0] and half and half.state == "stopped" and 2 < len(half.steps) < 100
        second.resume(again)
        whole = finished(again).jobs[0]
        assert whole and whole.resumes and whole.state == "done" and len(whole.steps) == 100


@pytest.mark.parametrize("harm", ["gone", "no picture", "another's"])
def test_a_picture_that_is_gone_or_changed_is_said_and_made_again(tmp_path: Path, runner: Watched, harm: str) -> None:
    with studio(tmp_path, lambda: runner) as first:
        contest = finished(first.start(compare.plan(SPEC), spec=SPEC))
    first_job, second_job = contest.jobs[:2]
    assert first_job and second_job
    picture = first_job.results[0]
    if harm == "gone":
        picture.unlink()
    elif harm == "no picture":
        picture.write_bytes(b"\x89PNG, or so they say")
    else:
        shutil.copy(second_job.results[0], picture)
    runner.began.clear()
    with studio(tmp_path, lambda: runner) as second:
        again = opened(second, contest.id)
        assert again.missing() == [0] and again.error.startswith("1 finished cell cannot be found again")
        assert_one_line(again.error)
        second.resume(again)
        assert finished(again).missing() == [] and again.error == "" and len(runner.began) == 1


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", '{"id": "a", "spec": [], "created": 1}', "[" * 100_000,
                                  '{"id": "IT", "created": NaN, "spec": {}}', '{"id": "IT", "created": 1, "spec": {}}',
                                  '{"id": "IT", "created": 1, "spec": {"samplers": ["No such"]}}',
                                  '{"id": "IT", "created": 1, "spec": {"steps": [1e99]}, "preview": "?"}'])
def test_a_record_that_was_tampered_with_is_one_line_and_in_no_list(tmp_path: Path, runner: Watched, text: str) -> None:
    with studio(tmp_path, lambda: runner) as first:
        contest = finished(first.start(compare.plan(SPEC), spec=SPEC))
    text = text.replace("IT", contest.id)
    (contest.folder / contestfile.NAME).write_text(text)
    with studio(tmp_path, lambda: runner) as second:
        assert isinstance(second.recent(), list)
        if contest.id not in text:
            assert second.get(contest.id) is None and second.recent() == []
            return
        with pytest.raises(BadRequest) as told:
            second.get(contest.id)
        assert_one_line(told.value)


@pytest.mark.parametrize("changes", [
    {"steps": "many"}, {"steps": [[1, 2]]}, {"steps": [["a", 1, 1, 1]]}, {"seconds": "long"}, {"seconds": 1e400},
    {"request": {}}, {"request": None}, {"picture": "../../../etc/passwd"}, {"picture": 7}, {"picture": "."},
    {"trajectory": "../../secret.safetensors"}, {"figures": [1]}, {"figures": {"psnr": "x", "evil": 1}},
    {"state": "great"}, {"job": "../.."}])
def test_a_cell_that_was_tampered_with_never_breaks_the_rest(
        tmp_path: Path, runner: Watched, changes: dict[str, Any]) -> None:
    with studio(tmp_path, lambda: runner) as first:
        contest = finished(first.start(compare.plan(SPEC), spec=SPEC))
    own = contest.folder / "cells" / "002.json"
    own.write_text(json.dumps(json.loads(own.read_text()) | changes))
    own.with_suffix(".npy").write_bytes(b"no numbers")
    with studio(tmp_path, lambda: runner) as second:
        again = opened(second, contest.id)
        assert set(again.missing()) <= {1} and len(again.rows()) == 4
        second.resume(again)
        assert finished(again).missing() == [] and again.error == ""


def test_a_comparison_of_other_weights_can_be_looked_at_but_not_gone_on_with(
        tmp_path: Path, catalogue: Catalogue) -> None:
    def make() -> Runner:
        return Engine(catalogue, "cpu")

    spec = {**REAL, "samplers": ["Euler"], "steps": [2, 3]}
    with studio(tmp_path, make) as first:
        contest = finished(first.start(compare.plan(spec), Preview("none"), spec=spec))
    (contest.folder / "cells" / "002.json").unlink()
    with studio(tmp_path, make, weights=lambda model: "of today") as second:
        again = opened(second, contest.id)
        assert again.missing() == [1] and not again.resumable and "other weights" in again.error
        second.resume(again)
        assert again.over and again.missing() == [1]


def test_the_list_names_the_newest_first_and_only_what_is_recorded(tmp_path: Path, runner: Watched) -> None:
    with studio(tmp_path, lambda: runner) as first:
        made = [finished(first.start(compare.plan({**SPEC, "seed": k}), spec={**SPEC, "seed": k})) for k in range(3)]
        finished(first.start(compare.plan(SPEC)))
        names = [entry.id for entry in first.recent()]
        assert names == [contest.id for contest in reversed(made)]
    shutil.rmtree(made[1].folder)
    with studio(tmp_path, lambda: runner) as second:
        assert [entry.id for entry in second.recent()] == [made[2].id, made[0].id]
        assert second.get(made[1].id) is None and second.get("../../etc") is None and second.get("") is None


def test_a_full_disk_for_the_record_costs_the_way_back_and_nothing_else(
        tmp_path: Path, runner: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with studio(tmp_path, lambda: runner) as first:
        contest = first.start(compare.plan(SPEC), spec=SPEC)
        monkeypatch.setattr(contestfile, "write_text", refuse)
        assert finished(contest).missing() == [] and contest.error == ""
        with Image.open(contest.files[0]) as sheet:
            assert sheet.size[0] > 100
