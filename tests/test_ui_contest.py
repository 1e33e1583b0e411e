"""The Compare tab without a browser: what was typed -> a specification, and what the board is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.contests import Contest
from core.errors import BadRequest
from core.jobs import Jobs
from core.presets import load_styles
from tests.fakes import FakeCatalogue, FakeRunner
from ui import contest
from ui.studio import Studio


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    jobs = Jobs(lambda: FakeRunner(0), tmp_path / "outputs", tmp_path / "frames")
    yield Studio(FakeCatalogue(tmp_path / "models"), jobs, load_styles())
    jobs.close()


def values(studio: Studio, **changes: Any) -> dict[str, Any]:
    return {**contest.first_values(studio), "prompt": "a red boat", "width": "64", "height": "64", **changes}


def made(studio: Studio, **changes: Any) -> Contest:
    """A comparison that is over."""
    running = studio.contests.start(contest.plan_of(contest.to_spec(values(studio, **changes)), studio))

    async def watch() -> None:
        async for _ in studio.contests.watch(running):
            pass

    asyncio.run(watch())
    return running


def test_the_form_begins_with_a_comparison_that_can_be_made(studio: Studio) -> None:
    comparison = contest.plan_of(contest.to_spec(contest.first_values(studio)), studio)
    assert len(comparison.cells) == 12 and all(cell.request for cell in comparison.cells)
    assert contest.flagged(comparison) == ""


def test_numbers_are_read_as_people_part_them() -> None:
    assert contest.numbers("5, 10;20  10", "steps") == [5, 10, 20]
    assert contest.numbers("ten", "steps") == ["ten"]
    with pytest.raises(BadRequest, match="one number of steps at least"):
        contest.numbers("  ", "steps")


def test_seeds_are_rows_under_their_sampler_and_none_is_a_new_one(studio: Studio) -> None:
    comparison = contest.plan_of(contest.to_spec(values(studio, samplers=["Euler", "DDIM"], seeds="1 2", steps="4 6",
                                                        equal=False)), studio)
    assert [axis.field for axis in comparison.axes] == ["sampler", "seed", "steps"]
    drawn = {contest.to_spec(values(studio))["seed"] for _ in range(5)}
    assert len(drawn) == 5


@pytest.mark.parametrize(("changes", "field", "line"), [
    ({"samplers": []}, "samplers", "Tick a sampler at least."), ({"steps": "many"}, "steps", "whole number"),
    ({"seeds": "-4"}, "seed", "0 to"), ({"width": "250"}, None, "try 248x64"),
    ({"reference": "1"}, "reference", "The reference's steps must be 0"),
    ({"reference": "a lot"}, "reference", "The reference's steps must be 0")])
def test_what_is_wrong_is_said_beside_its_field(
        studio: Studio, changes: dict[str, Any], field: str | None, line: str) -> None:
    with pytest.raises(BadRequest) as told:
        contest.plan_of(contest.to_spec(values(studio, **changes)), studio)
    assert line in str(told.value)
    assert field is None or told.value.field == field


def test_the_cost_is_told_exactly_and_the_time_once_there_is_a_pace(studio: Studio) -> None:
    asked = values(studio, samplers=["Euler", "Heun"], steps="5 9", seeds="1", reference="10")
    comparison = contest.plan_of(contest.to_spec(asked), studio)
    # Heun's three and five steps are 5 and 9 calls; the reference's ten are 19; two pictures a call, at guidance 5
    assert contest.status(comparison, studio) == f"4 cells · {2 * (5 + 9 + 5 + 9 + 19)} evaluations"
    made(studio, samplers=["Euler"], steps="2 3", seeds="1", reference="0")
    assert " · about " in contest.status(comparison, studio)


def test_known_bad_cells_are_named_a_few_of_them(studio: Studio) -> None:
    asked = values(studio, samplers=["Euler a", "DDIM", "DDPM"], schedule="Karras", steps="5 6", equal=False)
    with pytest.raises(BadRequest):
        contest.plan_of(contest.to_spec(asked), studio)  # none of them has that schedule
    comparison = contest.plan_of(contest.to_spec(asked | {"samplers": ["Euler", "Euler a", "DDIM", "DDPM"]}), studio)
    line = contest.flagged(comparison)
    assert line.startswith("Euler a, 5 steps: Euler a has no Karras schedule") and line.endswith("And 3 more.")


def test_a_state_is_whole_json_with_every_cell_in_its_place(studio: Studio) -> None:
    over = made(studio, samplers=["Euler", "DDIM"], steps="4 6", seeds="7", equal=False, reference="0")
    state = json.loads(json.dumps(contest.state_of(over, studio), allow_nan=False))
    assert (state["rows"], state["columns"], state["grid"]) == (["Euler", "DDIM"], ["4 steps", "6 steps"], [0, 1, 2, 3])
    assert [cell["state"] for cell in state["cells"]] == ["done"] * 4 and state["missing"] == 0
    assert [cell["taken"] for cell in state["cells"]] == [4, 6, 4, 6]
    assert all(cell["result"].startswith("gradio_api/file=") and cell["psnr"] == "equal" for cell in state["cells"])
    assert [name for name, _ in state["files"]] == ["grid.png", "results.csv", "results.json"]
    assert state["left"] is None and state["state"] == "done" and len(json.dumps(state)) < 6_000


def test_a_cell_that_failed_or_cannot_be_made_says_so(studio: Studio) -> None:
    over = made(studio, samplers=["Euler", "DDIM"], schedule="Karras", steps="3 6", seeds="1", equal=False,
                reference="0", prompt="fail at step 5")
    state = contest.state_of(over, studio)
    assert [cell["state"] for cell in state["cells"]] == ["done", "failed", "impossible", "impossible"]
    assert "no numbers" in state["cells"][1]["error"] and "no Karras" in state["cells"][2]["error"]
    assert state["missing"] == 1
