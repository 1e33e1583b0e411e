"""What the queue remembers over the studio's end beside its jobs: forever, turns, paces, and that Stop was pressed."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from core.forever import Forevers
from core.jobs import Jobs
from core.journal import FOLDER
from core.paces import Paces
from core.queue import Queue
from core.request import Preview
from tests.fakes import FakeRunner
from tests.test_jobs import PATIENCE, GatedRunner, ask, finish, until
from tests.test_jobs_kept import pngs, queue, runner, stepped
from tests.test_jobs_restart import journal, killed
from tests.test_paces import job as timed

__all__ = ["queue", "runner"]  # fixtures


def test_forever_goes_on_in_the_next_studio(queue: Jobs, runner: GatedRunner, tmp_path: Path) -> None:
    first = queue.submit(ask("again", steps=4), Preview("linear"), "ada", lasting=True)
    queue.go_on_forever("ada", "form", first)
    stepped(first, runner, 2)
    again = GatedRunner(records=True)
    second = Jobs(lambda: again, killed(queue, tmp_path / "after"), tmp_path / "frames2")
    forever = second.forever("ada")
    assert forever and forever.scope == "form" and forever.request == first.request
    again.gate.release(1000)
    until(lambda: again.began.count("again") >= 3)
    second.end_forever("ada")
    until(lambda: second.queue_length() == 0)
    second.close()
    third = Jobs(lambda: FakeRunner(0), second.outputs, tmp_path / "frames3")
    assert third.forever("ada") is None and third.line() == []
    third.close()


def test_forever_between_two_pictures_begins_the_next_one(queue: Jobs, runner: GatedRunner, tmp_path: Path) -> None:
    first = queue.submit(ask("again", steps=4), owner="ada", lasting=True)
    queue.go_on_forever("ada", "form", first)
    after = killed(queue, tmp_path / "after")
    for path in (after / FOLDER).glob("*.json"):
        path.unlink()
    second = Jobs(lambda: FakeRunner(0), after, tmp_path / "frames2")
    until(lambda: len(pngs(second)) >= 2)
    second.close()


@pytest.mark.parametrize("unwanted", [False, True])
def test_a_stop_that_the_studio_did_not_live_to_obey_stays_a_stop(queue: Jobs, tmp_path: Path, runner: GatedRunner,
                                                                  unwanted: bool) -> None:
    job = queue.submit(ask("a", steps=9), lasting=True)
    stepped(job, runner, 3)
    job.cancel = threading.Event()  # the worker does not see this one: the studio falls before it can obey
    (queue.discard if unwanted else queue.stop)(job.id)
    after = killed(queue, tmp_path / "after")
    again = GatedRunner(records=True)
    second = Jobs(lambda: again, after, tmp_path / "frames2")
    left = second.get(job.id)
    assert left and second.wait(left, PATIENCE).state == ("discarded" if unwanted else "stopped"), left.error
    assert again.began == [] and len(pngs(second)) == (0 if unwanted else 1) and journal(second) == []
    assert not list((after / FOLDER).glob("*.stop"))
    assert unwanted != bool(list(after.glob("*/*.safetensors")))
    second.close()


def test_turns_survive(queue: Jobs, runner: GatedRunner, tmp_path: Path) -> None:
    asked = [queue.submit(ask(f"{owner}{k}", steps=3), owner=owner, lasting=True) for owner in "ab" for k in range(2)]
    finish(queue, runner, *asked[:1])
    finish(queue, runner, *asked)
    until(lambda: queue.queue_length() == 0)
    second = Jobs(lambda: GatedRunner(), killed(queue, tmp_path / "after"), tmp_path / "frames2")
    assert second._queue.kept() == queue._queue.kept() and queue._queue.kept()["count"] == 4
    second.close()


def test_a_queue_takes_over_turns_and_leaves_what_is_damaged() -> None:
    first: Queue[str] = Queue()
    for item in ("a1", "a2", "b1"):
        first.add(item, item[0])
    assert first.take() == "a1"
    second: Queue[str] = Queue()
    second.add("a2", "a")
    second.add("b1", "b")
    assert second.order() == ["a2", "b1"]
    second.recall(json.loads(json.dumps(first.kept())))
    assert second.order() == ["b1", "a2"]
    for harm in ({}, {"turns": [], "count": 1}, {"turns": {}, "count": "x"}, {"turns": {"b": 7}, "count": -1}):
        second.recall(harm)
        assert second.order() == ["b1", "a2"]


def test_paces_survive_without_a_prompt(queue: Jobs, runner: GatedRunner, tmp_path: Path) -> None:
    finish(queue, runner, queue.submit(ask("secret", steps=6), lasting=True))
    until(lambda: (queue.outputs / FOLDER / "paces.state").exists())
    assert "secret" not in (queue.outputs / FOLDER / "paces.state").read_text()
    second = Jobs(lambda: GatedRunner(), killed(queue, tmp_path / "after"), tmp_path / "frames2")
    waiting = second.submit(ask("other", steps=6))
    assert second.forecast(waiting).left is not None and second.forecast(waiting).exact
    second.close()


def test_paces_foretell_as_before_and_leave_what_is_damaged() -> None:
    first, second = Paces(), Paces()
    first.note(timed(10), rest=1.0, load=3.0)
    second.recall(json.loads(json.dumps(first.kept())))
    for harm in ({}, {"loads": [], "kinds": []}, {"loads": {}, "kinds": [[["x"], "m", 0, [1], []]]},
                 {"loads": {}, "kinds": [[["x"], "m", 1, [-1], []]]}, {"loads": {"m": "x"}, "kinds": []}):
        second.recall(harm)
    for asked in (timed(), timed(width=512), timed(steps=40)):
        assert second.of(asked) == first.of(asked) and second.of(asked) is not None


def test_a_damaged_forever_is_passed_over() -> None:
    known = Forevers()
    known.recall({"a": [], "b": {"scope": "x"}, "c": {"scope": "x", "request": {"steps": 0}, "preview": None},
                  "d": {"scope": "form", "request": None, "preview": None}})
    assert known.owners() == ["d"]
