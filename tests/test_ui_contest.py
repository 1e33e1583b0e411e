"""The Compare tab without a browser: what was typed -> a specification, and what the board is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio.utils import diff
from gradio_client.utils import apply_diff

from core import compare
from core.contest import Contest
from core.engine import Engine
from core.errors import BadRequest
from core.jobs import Jobs
from core.models.catalogue import Catalogue
from core.presets import load_styles
from core.request import Preview
from core.samplers import SAMPLERS
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
    spec = contest.to_spec(values(studio, **changes))
    running = studio.contests.start(contest.plan_of(spec, studio), spec=spec)

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
    assert contest.status(comparison, studio) == \
        f"4 cells · {2 * (5 + 9 + 5 + 9 + 19)} evaluations · the time shows after a first run"
    made(studio, samplers=["Euler"], steps="2 3", seeds="1", reference="0")
    assert " · about " in contest.status(comparison, studio)


def test_a_studio_that_was_started_anew_knows_the_pace_from_its_kept_runs(tmp_path: Path, catalogue: Catalogue) -> None:
    asked = {"model": "eps", "width": 64, "height": 64, "precision": "fp32", "seed": 1, "samplers": ["Euler"],
             "steps": [4]}
    for life, told in enumerate(("after a first run", "about")):
        jobs = Jobs(lambda: Engine(catalogue, "cpu"), tmp_path / "outputs", tmp_path / "frames")
        studio = Studio(catalogue, jobs, load_styles(), "eps")
        try:
            comparison = contest.plan_of(asked, studio)
            if life == 0:
                contest._kept_pace.cache_clear()
            assert told in contest.status(comparison, studio)
            request = comparison.cells[0].request
            assert request
            jobs.wait(jobs.submit(request, Preview("none")))
        finally:
            jobs.close()
        contest._kept_pace.cache_clear()


def test_equal_cells_are_made_once_and_said_to_be_the_same(studio: Studio) -> None:
    comparison = contest.plan_of(contest.to_spec(values(studio, samplers=["Heun"], steps="5 6 9", seeds="1",
                                                        reference="0")), studio)
    assert len(comparison.cells) == 2 and comparison.grid == (0, 0, 1)  # three steps are five calls, six hold no more
    assert contest.status(comparison, studio).startswith("2 cells (1 more comes out the same) · ")


def test_ten_thousand_cells_are_refused_with_the_count_and_the_limit(studio: Studio) -> None:
    asked = values(studio, samplers=list(SAMPLERS)[:10], steps=" ".join(map(str, range(1, 101))),
                   seeds="0 1 2 3 4 5 6 7 8 9")
    with pytest.raises(BadRequest, match=r"10,000 cells are too many: at most 400"):
        contest.plan_of(contest.to_spec(asked), studio)


def test_the_list_says_what_was_compared(studio: Studio) -> None:
    over = made(studio, samplers=["Euler", "DDIM"], steps="4 6", seeds="7 8", prompt="a " + "very " * 20 + "red boat")
    [[identity, words]] = contest.empty(studio)["recent"]
    assert identity == over.id
    assert "“a very very" in words and words.endswith("…” · 2 samplers · 2 steps · 2 seeds") and len(words) < 100
    state = contest.state_of(over, studio)
    assert state["recent"] == [[identity, words]] and "· seeds 7, 8 · guidance 5 ·" in state["line"]


@pytest.mark.parametrize("value", [1, 7, compare.NO_REFINER])
@pytest.mark.parametrize("field", compare.AXES)
def test_every_axis_is_said_as_in_the_files(field: str, value: Any) -> None:
    if field == "steps" and not isinstance(value, int):
        return
    for equal in (False, True):
        assert contest.shown(field, value, equal) == compare.shown(field, value, equal)


def test_known_bad_cells_are_named_a_few_of_them(studio: Studio) -> None:
    asked = values(studio, samplers=["Euler a", "DDIM", "DDPM"], schedule="Karras", steps="5 6", equal=False)
    with pytest.raises(BadRequest):
        contest.plan_of(contest.to_spec(asked), studio)  # none of them has that schedule
    comparison = contest.plan_of(contest.to_spec(asked | {"samplers": ["Euler", "Euler a", "DDIM", "DDPM"]}), studio)
    line = contest.flagged(comparison)
    assert line.startswith("Euler a, 5 steps and Euler a, 6 steps: Euler a has no Karras schedule")
    assert line.count("Euler a has no") == 1 and "more" not in line
    many = contest.flagged(contest.plan_of(contest.to_spec(asked | {
        "samplers": ["Euler", "Euler a", "DDIM", "DDPM", "LMS", "PLMS", "UniPC", "LCM"], "steps": "5 6 7"}), studio))
    assert many.startswith("Euler a, 5 steps and 2 more cells: ") and many.endswith(" more.")


def test_a_state_is_whole_json_with_every_cell_in_its_place(studio: Studio) -> None:
    over = made(studio, samplers=["Euler", "DDIM"], steps="4 6", seeds="7", equal=False, reference="0")
    state = json.loads(json.dumps(contest.state_of(over, studio), allow_nan=False))
    assert (state["rows"], state["columns"], state["grid"]) == (["Euler", "DDIM"], ["4 steps", "6 steps"], [0, 1, 2, 3])
    assert [cell["state"] for cell in state["cells"]] == ["done"] * 4 and state["missing"] == 0
    assert [cell["taken"] for cell in state["cells"]] == [4, 6, 4, 6]
    assert all(cell["result"].startswith("gradio_api/file=") and cell["psnr"] == "equal" for cell in state["cells"])
    assert [name for name, _ in state["files"]] == ["grid.png", "results.csv", "results.json"]
    assert state["left"] is None and state["state"] == "done" and len(json.dumps(state)) < 7_000


def test_a_page_that_is_told_only_changes_knows_which_steps_have_a_preview(studio: Studio) -> None:
    over = made(studio, samplers=["Euler", "DDIM"], steps="6", seeds="7", equal=False, reference="0")
    for job in filter(None, over.jobs):
        job.without_frame = set(range(6))
    told = before = contest.state_of(over, studio)
    for gone in ({0, 1, 2, 3}, {4}, {5}):
        for job in filter(None, over.jobs):
            job.without_frame -= gone
        state = contest.state_of(over, studio)
        told, before = apply_diff(told, diff(before, state)), state
        assert told == state
    assert [cell["without"] for cell in told["cells"]] == ["", ""]


def test_a_cell_that_failed_or_cannot_be_made_says_so(studio: Studio) -> None:
    over = made(studio, samplers=["Euler", "DDIM"], schedule="Karras", steps="3 6", seeds="1", equal=False,
                reference="0", prompt="fail at step 5")
    state = contest.state_of(over, studio)
    assert [cell["state"] for cell in state["cells"]] == ["done", "failed", "impossible", "impossible"]
    assert "no numbers" in state["cells"][1]["error"] and "no Karras" in state["cells"][2]["error"]
    assert state["missing"] == 1
