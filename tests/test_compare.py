"""Comparisons: what is made, what is made once, what is refused, and that a stopped one goes on where it was."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core import compare, comparing, grid, samplers
from core.__main__ import main
from core.engine import Engine
from core.errors import BadRequest, LoomError
from core.models.catalogue import Catalogue
from core.request import Done, Preview, Request, Step
from tests.fakes import FakeRunner

SPEC: dict[str, Any] = {"prompt": "a red boat", "width": 64, "height": 64, "samplers": ["Euler", "Heun"],
                        "steps": [4, 6]}


class Counting(FakeRunner):
    """Counts the runs; one with this seed fails."""

    def __init__(self, bad_seed: int = -1):
        super().__init__(pause=0)
        self.requests: list[Request] = []
        self.bad_seed = bad_seed

    def generate(self, request: Request, preview: Preview, cancel: threading.Event) -> Iterator[Step | Done]:
        self.requests.append(request)
        if request.seed == self.bad_seed:
            raise LoomError("The network gave no numbers.")
        for event in super().generate(request, preview, cancel):
            if isinstance(event, Done):  # latents that tell the requests apart
                values = np.random.default_rng(request.seed + request.steps).normal(size=event.latents.shape)
                pictures = tuple(np.roll(picture, request.steps) for picture in event.pictures)
                event = Done(pictures, values.astype(np.float32), 1.0, event.evaluations, event.steps,
                             event.stopped, event.precision)
            yield event


def made(spec: dict[str, Any], runner: Counting, folder: Path) -> list[comparing.Result]:
    return list(comparing.make(compare.plan(spec), runner, folder, threading.Event()))


# -- the plan


def test_cells_are_all_combinations_the_last_axis_fastest() -> None:
    plan = compare.plan(SPEC)
    assert [(c.request.sampler, c.request.steps) for c in plan.cells if c.request] == [
        ("Euler", 4), ("Euler", 6), ("Heun", 4), ("Heun", 6)]
    assert plan.cells[2].label == "Heun, 4 steps" and plan.grid == (0, 1, 2, 3)
    assert len({c.file_name for c in plan.cells}) == 4
    assert plan.network_calls == 4 + 6 + 7 + 11  # Heun ends on a single call


def test_at_equal_work_every_sampler_gets_the_steps_its_calls_pay_for() -> None:
    plan = compare.plan({**SPEC, "steps": [9, 20], "equal_evaluations": True})
    assert [(c.request.sampler, c.request.steps) for c in plan.cells if c.request] == [
        ("Euler", 9), ("Euler", 20), ("Heun", 5), ("Heun", 10)]


@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_equal_work_never_means_more_work(name: str) -> None:
    entry = samplers.SAMPLERS[name]
    for calls in (5, 10, 20, 40):
        steps = compare.steps_for(name, calls)
        assert steps == 1 or entry.network_calls(steps) <= calls  # Langevin's one step is 6 calls
        assert calls < entry.network_calls(steps + 1)


def test_equal_cells_are_made_once_and_stand_in_the_grid_twice(tmp_path: Path) -> None:
    spec = {**SPEC, "samplers": ["Euler", "Heun"], "steps": [7, 8], "equal_evaluations": True}  # Heun: 4 steps both
    plan = compare.plan(spec)
    assert len(plan.cells) == 3 and plan.grid == (0, 1, 2, 2)
    runner = Counting()
    made(spec, runner, tmp_path)
    assert len(runner.requests) == 3


def test_a_combination_that_cannot_be_says_why_and_leaves_the_others_alone(tmp_path: Path) -> None:
    spec = {**SPEC, "samplers": ["Euler", "DDIM"], "schedules": ["Karras"], "steps": [4]}
    results = made(spec, Counting(), tmp_path)
    assert [bool(r.path) for r in results] == [True, False]
    assert results[1].error.startswith("DDIM has no Karras schedule")
    assert any("no Karras" in line for line in compare.warnings(compare.plan(spec).cells))


@pytest.mark.parametrize("change, said", [
    ({"steps": list(range(1, 101)), "seeds": list(range(100))}, "20,000 cells are too many: at most 400"),
    ({"samplres": ["Euler"]}, "no axis 'samplres'. Did you mean 'samplers'?"),
    ({"seeds": []}, "axis seeds is empty"),
    ({"sampler": "Euler"}, "gives sampler twice"),
    ({"seeds": 3}, "axis seeds must be a list"),
    ({"batch": [1, 2]}, "batch cannot be an axis"),
    ({"width": 3}, "width cannot be 3"),
    ({"equal_evaluations": 1}, "true or false"),
    ({"reference_steps": 5000}, "0 (none) or a whole number from 3 to 150")])
def test_what_cannot_be_compared_is_refused_in_one_line(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequest) as told:
        compare.plan({**SPEC, **change})
    assert said in str(told.value) and "\n" not in str(told.value)


def test_a_comparison_of_nothing_is_refused() -> None:
    with pytest.raises(BadRequest, match="Nothing is compared"):
        compare.plan({"prompt": "a cat", "sampler": "Euler"})


@pytest.mark.parametrize("text, said", [("{", "not JSON"), ("[1]", "must be a JSON object"), (None, "cannot be read")])
def test_a_specification_that_cannot_be_read_says_why(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "spec.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadRequest, match=said):
        compare.read(path)


# -- making it


def test_a_stopped_comparison_goes_on_where_it_was(tmp_path: Path) -> None:
    runner, cancel = Counting(), threading.Event()
    steps = comparing.make(compare.plan(SPEC), runner, tmp_path, cancel)
    assert next(steps).path and next(steps).path
    cancel.set()
    assert list(steps) == []
    assert len(list((tmp_path / "cells").glob("*.png"))) == 2
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").glob("*.png")}

    runner = Counting()
    results = made(SPEC, runner, tmp_path)
    assert [r.sampler for r in runner.requests] == ["Heun", "Heun"]  # only what was missing
    assert all(r.path and r.latents is not None for r in results)
    assert all(path.stat().st_mtime_ns == before for path, before in first.items())


def test_another_comparison_in_the_same_folder_is_made_anew(tmp_path: Path) -> None:
    made(SPEC, Counting(), tmp_path)
    runner = Counting()
    made({**SPEC, "seed": 5}, runner, tmp_path)
    assert len(runner.requests) == 4


def test_cells_of_other_weights_are_made_anew(tmp_path: Path) -> None:
    def with_weights(weights: str) -> int:
        runner, plan = Counting(), compare.plan(SPEC)
        list(comparing.make(plan, runner, tmp_path, threading.Event(), lambda model: f"{model} {weights}"))
        return len(runner.requests)

    assert [with_weights("old"), with_weights("old"), with_weights("new"), with_weights("new")] == [4, 0, 4, 0]


def test_a_batch_lacking_one_of_its_pictures_is_made_anew(tmp_path: Path) -> None:
    spec = {**SPEC, "samplers": ["Euler"], "steps": [4], "batch": 3}
    (result,) = made(spec, Counting(), tmp_path)
    assert [file.name for file in result.files] == ["001-Euler-4.png", "001-Euler-4-2.png", "001-Euler-4-3.png"]
    assert all(file.is_file() for file in result.files)
    result.files[2].unlink()
    runner = Counting()
    made(spec, runner, tmp_path)
    assert len(runner.requests) == 1


def test_a_broken_cell_on_disk_is_made_anew(tmp_path: Path) -> None:
    results = made(SPEC, Counting(), tmp_path)
    assert results[0].path
    results[0].path.with_suffix(".json").write_text("{")
    results[1].path.with_suffix(".npy").write_bytes(b"no")  # type: ignore[union-attr]
    runner = Counting()
    made(SPEC, runner, tmp_path)
    assert len(runner.requests) == 2


def test_one_cell_that_fails_costs_nothing_but_itself(tmp_path: Path) -> None:
    results = made({**SPEC, "steps": [4], "seeds": [1, 2]}, Counting(bad_seed=2), tmp_path)
    assert [r.error for r in results] == ["", "The network gave no numbers.", "", "The network gave no numbers."]


# -- figures and files


def test_figures_against_a_reference_of_many_steps(tmp_path: Path) -> None:
    spec = {**SPEC, "reference_steps": 50}
    runner = Counting()
    plan = compare.plan(spec)
    results = list(comparing.make(plan, runner, tmp_path, threading.Event()))
    rows = comparing.table(plan, results, runner, tmp_path, threading.Event(), score=lambda picture, prompt: 0.5)
    asked = [r for r in runner.requests if r.steps == 50]
    assert len(asked) == 1 and asked[0].sampler == "Heun"  # made once for all cells
    assert all(row["distance"] > 0.5 and row["score"] == 0.5 for row in rows)
    assert rows[0]["evaluations"] == 8 and rows[0]["seconds_per_evaluation"] == 0.125


def test_the_tables_hold_every_cell_and_are_read_back(tmp_path: Path) -> None:
    plan = compare.plan(SPEC)
    results = list(comparing.make(plan, Counting(), tmp_path, threading.Event()))
    rows = comparing.table(plan, results, Counting(), tmp_path, threading.Event())
    comparing.write_tables(rows, tmp_path)
    with open(tmp_path / "results.csv", newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [(row["sampler"], row["steps"]) for row in read] == [("Euler", "4"), ("Euler", "6"), ("Heun", "4"),
                                                                ("Heun", "6")]
    held = json.loads((tmp_path / "results.json").read_text())
    assert len(held) == 4 and held[0]["psnr"] is None  # the first cell against itself: infinite
    assert held[1]["psnr"] == float(read[1]["psnr"])


def test_the_grid_shows_every_cell_where_it_belongs() -> None:
    plan = compare.plan({**SPEC, "samplers": ["Euler", "Heun", "DDIM"], "schedules": ["Karras"]})
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
    pictures: list[np.ndarray | None] = [np.full((64, 64, 3), c, np.uint8) for c in colours] + [None, None]
    sheet = grid.draw(compare.plan({**SPEC, "schedule": "Automatic", "samplers": ["Euler", "Heun", "DDIM"]}),
                      pictures, ["", "", "", "", "it broke", ""])
    assert len(plan.cells) == 6
    seen = [sheet.getpixel((grid.LEFT + x * (64 + grid.GAP) + 30, grid.MARGIN + 3 * grid.TEXT + y * 72 + 30))
            for y in range(2) for x in range(2)]
    assert seen == colours
    assert sheet.height >= 3 * 72 and sheet.mode == "RGB"


def test_a_row_that_was_not_made_is_left_empty(tmp_path: Path) -> None:
    sheet = grid.draw(compare.plan(SPEC), [None] * 4)
    grid.save(sheet, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as image:
        assert image.size == sheet.size


# -- as a command, with a real network


@pytest.fixture
def spec(tmp_path: Path, models_dir: Path) -> list[str]:
    """Arguments of a comparison of four quick cells."""
    values = {**SPEC, "steps": [6, 8], "model": "eps", "precision": "fp32", "seed": 3, "reference_steps": 12,
              "equal_evaluations": True}
    (tmp_path / "spec.json").write_text(json.dumps(values))
    return ["compare", str(tmp_path / "spec.json"), "--out", str(tmp_path / "out"), "--models-dir", str(models_dir),
            "--device", "cpu"]


def test_the_command_writes_cells_grid_and_tables_that_the_engine_bears_out(
        tmp_path: Path, spec: list[str], engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(spec) == 0
    out, err = capsys.readouterr()
    assert [line.partition(": ")[2].partition(":")[0] for line in out.splitlines()[:4]] == [
        "Euler, 6 calls", "Euler, 8 calls", "Heun, 6 calls", "Heun, 8 calls"]
    assert out.splitlines()[4] == str(tmp_path / "out" / "grid.png") and err == ""
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [row["steps_taken"] for row in rows] == [6, 8, 3, 4]
    assert [row["evaluations"] for row in rows] == [12, 16, 10, 14]  # two passes, with a prompt and without
    request = Request(prompt="a red boat", model="eps", width=64, height=64, precision="fp32", seed=3)
    *_, exact = engine.generate(request.replace(sampler="Heun", schedule="Karras", steps=12), Preview("none"))
    *_, done = engine.generate(request.replace(sampler="Euler", steps=8), Preview("none"))
    with Image.open(tmp_path / "out" / "cells" / rows[1]["picture"]) as image:
        assert np.array_equal(np.asarray(image), done.pictures[0])
    there, wanted = done.latents.astype(np.float64), exact.latents.astype(np.float64)
    by_hand = np.linalg.norm(there - wanted) / np.linalg.norm(wanted)
    assert rows[1]["distance"] == pytest.approx(by_hand, abs=2e-5)  # five decimals are written


def test_the_command_goes_on_after_an_interrupt_with_what_is_missing(
        tmp_path: Path, spec: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    whole, made_now = Engine.generate, []

    def interrupted(self: Engine, request: Request, preview: Preview, cancel: threading.Event) -> Any:
        made_now.append(request)
        if len(made_now) == 2:
            cancel.set()
        return whole(self, request, preview, cancel)

    monkeypatch.setattr(Engine, "generate", interrupted)
    assert main(spec) == 130
    assert "1 of 4" in capsys.readouterr().out and (tmp_path / "out" / "grid.png").is_file()
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == 1
    made_now.clear()
    monkeypatch.setattr(Engine, "generate", lambda *arguments: (made_now.append(arguments[1]), whole(*arguments))[1])
    assert main(spec) == 0
    assert [r.sampler for r in made_now[:-1]] == ["Euler", "Heun", "Heun"][:len(made_now) - 1]
    assert made_now[-1].steps == 12  # the reference, once all cells are there
    made_now.clear()
    assert main(spec) == 0 and made_now == []  # nothing is left to do


def test_a_size_the_model_cannot_make_is_one_line_and_exit_2(
        tmp_path: Path, spec: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({**SPEC, "model": "eps", "width": 100}))
    assert main(spec) == 2
    out, err = capsys.readouterr()
    assert out == "" and "try 96x64" in err and err.count("\n") == 1


def test_without_a_size_the_model_gives_its_own(catalogue: Catalogue) -> None:
    planned = compare.prepare({"model": "eps", "seeds": [1, 2]}, catalogue)
    assert {(c.request.width, c.request.height) for c in planned.cells if c.request} == {(128, 128)}
