"""The queue's times: as measured for the same kind of run, scaled for its neighbours, else unknown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.job import Job
from core.paces import Paces
from core.request import Preview, Request, StepInfo


def job(taken: int = 0, pace: float = 0.5, state: Any = "waiting", decoder: str = "none", **changes: Any) -> Job:
    """A job some steps of which were taken."""
    request = Request(**{"prompt": "a", "steps": 10, "sampler": "Euler", **changes})
    made = Job("name", request, Preview(decoder), Path("frames"), state=state)
    made.steps = [StepInfo(k, request.steps, 0, 0, pace * (k + 1), 0) for k in range(taken)]
    return made


@pytest.fixture
def paces() -> Paces:
    """Of a machine that took half a second for each of 10 Euler steps, and a second around them."""
    known = Paces()
    known.note(job(10), rest=1.0)
    return known


def test_nothing_is_said_before_anything_was_measured() -> None:
    assert Paces().of(job()) is None
    assert Paces().forecast(job(), [job(5, state="running")]).left == pytest.approx(5 * 0.5 + 10 * 0.5)  # its own pace
    assert Paces().forecast(job(), [job(1, state="running")])[:2] == (1, None)
    assert Paces().forecast(job(model="other"), [job(5, state="running")]).left is None


def test_a_run_of_the_same_kind_takes_as_long(paces: Paces) -> None:
    assert paces.of(job()) == (10 * 0.5 + 1, True)
    assert paces.of(job(steps=40)) == (40 * 0.5 + 1, True)


def test_the_median_counts_not_the_one_that_was_disturbed(paces: Paces) -> None:
    for pace in (0.5, 30.0, 0.5):
        paces.note(job(10, pace), rest=1.0)
    assert paces.of(job()) == (6.0, True)


@pytest.mark.parametrize(("changes", "factor"), [
    ({"width": 512}, 2), ({"batch": 3}, 3), ({"sampler": "Heun"}, 1.9), ({"guidance": 1.0}, 0.5),
    ({"height": 128}, 0.5)])
def test_another_kind_is_scaled_by_its_work_and_said_to_be_about(paces: Paces, changes: Any, factor: float) -> None:
    found = paces.of(job(**changes))  # Heun asks twice in all of 10 steps but the last
    assert found is not None and found.value == pytest.approx(6 * factor) and not found.exact
    assert paces.of(job(model="other")) is None


def test_what_runs_is_told_by_its_own_pace(paces: Paces) -> None:
    running = job(4, pace=2.0, state="running")
    assert paces.forecast(running, []) == (0, pytest.approx(6 * 2.0 + 1), True)
    second, third = job(), job(steps=20)
    assert paces.forecast(third, [running, second]) == (2, pytest.approx(13 + 6 + 11), True)


def test_a_run_that_rests_has_only_the_rest_of_its_steps_before_it(paces: Paces) -> None:
    paused = job(7)
    paused.rested = True
    assert paces.of(paused) == (3 * 0.5 + 1, True)


def test_another_model_has_to_be_loaded_first(paces: Paces) -> None:
    paces.note(job(10, model="other"), rest=0.0, load=8.0)
    other, same = job(model="other"), job()
    assert paces.forecast(other, [job()]).left == pytest.approx(6 + 8 + 5)
    assert paces.forecast(other, []).left == pytest.approx(5)  # it may be in memory already
    assert paces.forecast(same, [job()]).left == pytest.approx(12)
