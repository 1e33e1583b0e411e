"""The queue's panel and endpoints: one's own jobs in words and numbers, others' as a count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from core.jobs import Jobs
from core.paces import Forecast
from tests.serving import THIRD_PARTY, Served, served
from tests.test_jobs import PATIENCE, GatedRunner, ask, finish, until
from tests.test_jobs_kept import stepped
from ui import line

pytestmark = [pytest.mark.filterwarnings(one) for one in THIRD_PARTY]


@pytest.fixture
def runner() -> GatedRunner:
    return GatedRunner(records=True)


@pytest.fixture
def jobs(runner: GatedRunner, tmp_path: Path) -> Iterator[Jobs]:
    jobs = Jobs(lambda: runner, tmp_path / "outputs", tmp_path / "frames")
    yield jobs
    runner.gate.release(1000)
    jobs.close()


def test_own_jobs_are_told_and_others_only_counted(jobs: Jobs, runner: GatedRunner) -> None:
    mine = [jobs.submit(ask(f"mine {k}"), owner="me") for k in range(3)]
    theirs = jobs.submit(ask("secret"), owner="they")
    stepped(mine[0], runner, 1)
    state = line.state_of(jobs, "me")
    assert [row["prompt"] for row in state["rows"]] == ["mine 0", "mine 1", "mine 2"]
    assert [(row["up"], row["down"]) for row in state["rows"]] == [(False, False), (False, True), (True, False)]
    assert state["count"] == 4 and state["others"] == "1 of other people" and "secret" not in json.dumps(state)
    assert state["rows"][0]["words"].startswith("step 1 of 3") and state["rows"][1]["words"].startswith("2 before it")
    finish(jobs, runner, *mine, theirs)


def test_one_acts_on_ones_own_jobs_only(jobs: Jobs, runner: GatedRunner) -> None:
    theirs, other = jobs.submit(ask(), owner="they"), jobs.submit(ask(), owner="they")
    until(lambda: runner.began)
    for asked in ({"job": other.id, "act": "stop"}, {"job": other.id, "act": "pause"}, {"job": "x", "act": "stop"},
                  None, {"job": [], "act": {}}):
        line.act(jobs, "me", asked)
    line.act(jobs, "they", {"job": other.id, "act": "close"})  # no act, though the queue has such a method
    assert other.state == "waiting" and not theirs.over
    line.act(jobs, "they", {"job": other.id, "act": "discard"})
    assert other.state == "discarded"


@pytest.mark.parametrize(("seconds", "words"), [
    (0.2, "1 s"), (8.4, "8 s"), (99, "99 s"), (100, "1 min 40 s"), (209, "3 min 20 s"), (3600, "1 h 0 min"),
    (3900, "1 h 5 min")])
def test_times_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert line.span(seconds) == words


def test_what_is_not_known_is_said_to_be_not_known(jobs: Jobs, runner: GatedRunner) -> None:
    first, second = jobs.submit(ask()), jobs.submit(ask())
    until(lambda: runner.began)
    assert line.words(second, Forecast(1, None)) == "1 before it · nothing like it was timed yet"
    assert line.words(second, Forecast(1, 75, exact=False)) == "1 before it · done in about 75 s"
    assert line.words(first, Forecast(0, None)) == "getting ready"
    jobs.pause(first.id)
    stepped(first, runner, 1)
    until(lambda: first.state == "paused")
    assert line.words(first, Forecast(0, None)) == "paused after step 1 of 3"


@pytest.fixture(scope="module")
def gated() -> GatedRunner:
    return GatedRunner(records=True)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, gated: GatedRunner) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("studio"), lambda: gated) as running:
        yield running


@pytest.fixture(scope="module")
def client(studio: Served) -> Client:
    return Client(studio.address, verbose=False)


def call(client: Client, name: str, **asked: Any) -> Any:
    return client.predict(**asked, api_name=name)


def test_a_run_is_queued_followed_from_another_client_and_fetched(
        studio: Served, client: Client, gated: GatedRunner) -> None:
    first = call(client, "/enqueue", request={"prompt": "first", "steps": 9, "width": 64, "height": 64})
    second = call(client, "/enqueue", request={"prompt": "second", "steps": 2, "seed": 9, "width": 64, "height": 64})
    other = Client(studio.address, verbose=False)
    rows = {row["job"]: row for row in call(other, "/queue")}
    assert rows[first]["total"] == 9 and rows[second]["before"] == 1 and rows[second]["state"] == "waiting"
    assert call(other, "/control", job=first, act="pause") == "running"
    gated.gate.release(3)  # one step of the first, two of the second
    files, about = call(other, "/result", job=second)
    assert about["seed"] == 9 and len(files) == 1
    (row,) = call(client, "/queue")
    assert (row["job"], row["state"], row["step"]) == (first, "paused", 1)
    gated.gate.release(8)
    call(client, "/control", job=first, act="resume")
    files, about = call(client, "/result", job=first)
    assert not about["stopped"] and about["request"]["prompt"] == "first"
    assert call(client, "/queue") == []
    with pytest.raises(AppError, match="told 'fly'"):
        call(client, "/control", job=first, act="fly")
    with pytest.raises(AppError, match="no such job"):
        call(client, "/result", job="nobody")
    with pytest.raises(AppError, match="no field 'promt'"):
        call(client, "/enqueue", request={"promt": "a"})


def test_the_journal_is_not_served(studio: Served, client: Client) -> None:
    job = call(client, "/enqueue", request={"prompt": "first", "steps": 30})
    path = studio.studio.jobs.outputs / ".queue" / f"{job}.json"
    assert path.is_file()
    assert httpx.get(f"{studio.address}gradio_api/file={path}").status_code == 403
    call(client, "/control", job=job, act="discard")
    found = studio.studio.jobs.get(job)
    assert found and studio.studio.jobs.wait(found, PATIENCE).state == "discarded" and not path.exists()
