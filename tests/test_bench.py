"""`python -m core bench`: ratios and goals, which parts run, and measurements held against known answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import core.bench as bench
from core import compare
from core.__main__ import main
from core.bench import cells
from core.bench.full_size import full_size_previews, on_full_size
from core.bench.full_speed import full_size_attention, full_size_speed, full_size_xl_speed, speed_of
from core.bench.measure import Bench, Row, line
from core.bench.previews import correlation, linear_truth, untrained
from core.engine import Engine
from core.request import Request


@pytest.fixture
def small(engine: Engine, request_eps: Request) -> Bench:
    return Bench(engine, request_eps.replace(steps=2), rounds=1)


def test_a_ratio_is_the_median_over_rounds_and_the_first_warms_up(small: Bench) -> None:
    several = Bench(small.engine, small.request, rounds=3)
    base, other = iter([9.0, 1.0, 2.0, 1.0]), iter([1.0, 3.0, 4.0, 1.0])
    row = several.ratios(lambda: next(base), {"it": lambda: next(other)})["it"]
    assert (row.value, row.spread) == (2.0, (1.0, 3.0))


@pytest.mark.parametrize("row, met, said", [
    (Row("a", 1.0, "ratio", 1.05), True, "goal <= 1.05: met"), (Row("a", 1.1, "ratio", 1.05), False, "not met"),
    (Row("a", 0.95, "r", 0.9, at_least=True), True, "goal >= 0.9: met"),
    (Row("a", 0.5, "r", 0.9, at_least=True), False, "goal >= 0.9: not met"), (Row("a", 9, "s"), None, "9.000 s")])
def test_a_goal_has_a_direction(row: Row, met: bool | None, said: str) -> None:
    assert row.met is met and said in line(row)


def test_only_the_parts_asked_for_run_and_json_says_what_a_row_is(
        models_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def quick_part(one: Bench) -> Iterator[Row]:
        yield Row(f"of {one.request.model}", 0.5, "r", goal=0.9, at_least=True)

    def other_part(one: Bench) -> Iterator[Row]:
        raise AssertionError("not asked for")
        yield

    monkeypatch.setattr(bench, "PARTS", (quick_part, other_part))
    arguments = ["bench", "--model", "eps", "--models-dir", str(models_dir), "--device", "cpu", "--only", "quick"]
    assert main([*arguments, "--json"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert held["about"]["model"] == "eps" and held["about"]["rounds"] == 5
    assert held["rows"] == [{"name": "of eps", "value": 0.5, "unit": "r", "goal": 0.9, "spread": None, "at_least": True,
                             "met": False}]
    assert main(arguments) == 0
    assert "goal >= 0.9: not met" in capsys.readouterr().out


def test_every_part_has_a_name_of_its_own_and_says_what_it_measures() -> None:
    assert len({part.__name__ for part in bench.PARTS}) == len(bench.PARTS) == 17
    assert all(part.__doc__ for part in bench.PARTS)


def test_the_full_size_network_is_for_gpus_and_measured_like_any_other(small: Bench) -> None:
    assert list(full_size_previews(small)) == []  # on a processor
    rows = list(on_full_size(small, widths=(32, 32, 32, 32), decoder=(8, 8, 8, 8), texts=(24,), side=8))
    assert [row.goal for row in rows] == [1.01, 1.05, 1.10] and all(row.value > 0 for row in rows)
    assert rows[-1].name == "64x64, Stable Diffusion 1.5's size: preview vae at every step / no preview"


@pytest.mark.parametrize("family, widths, texts", [("sd", (32, 32, 32, 32), (24,)), ("sdxl", (32, 32, 64), (24, 40))])
def test_the_speed_of_full_size_networks_is_measured_where_it_is_asked_for(
        small: Bench, family: str, widths: tuple[int, ...], texts: tuple[int, ...]) -> None:
    assert not [*full_size_speed(small), *full_size_xl_speed(small), *full_size_attention(small)]  # on a processor
    engine, regions = speed_of(small, family, widths=widths, texts=texts, decoder=(8, 8, 8, 8), side=8)
    assert (engine.goal, regions.goal) == (1.0, 0.70) and engine.value > 0 < regions.value
    assert "64x64, 2 steps" in engine.name and "64x64, 5 steps" in regions.name
    assert ("XLPipeline" in engine.name) == (family == "sdxl")


def test_the_correlation_is_that_of_colours_with_the_mean_of_their_pixels() -> None:
    colours = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    exact = colours.repeat_interleave(8, 2).repeat_interleave(8, 3)
    fine = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert correlation(colours, exact) == pytest.approx(1)
    assert correlation(-colours, exact) == pytest.approx(-1)
    assert abs(correlation(colours, fine)) < 0.3


def test_the_linear_map_is_looked_at_on_latents_and_on_pictures(small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.bench.previews.untrained", lambda: 0.5)  # minutes of a full-size decoder: the slow test
    random, pictures, size = linear_truth(small)
    assert 0.3 < random.value <= 1 and -1 <= pictures.value <= 1 and size.value == 0.5
    assert random.at_least and random.goal == 0.9 and pictures.goal is size.goal is None


@pytest.mark.slow
def test_an_untrained_decoder_of_full_size_gives_the_same_number_twice() -> None:
    state = torch.random.get_rng_state()
    found = untrained()
    assert 0 < found <= 1 and found == untrained()
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_comparison_and_its_runs_in_a_row_are_measured_against_each_other(
        small: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "SAMPLERS", ["Euler", "UniPC"])
    monkeypatch.setattr(cells, "STEPS", [3])
    ratio, frame = cells.comparison(small)
    assert ratio.name.startswith("a comparison of 4 cells") and ratio.goal == 1.05 and 0.1 < ratio.value < 10
    assert 0.1 < frame.value < 100  # KiB


def test_the_runs_in_a_row_leave_behind_what_a_comparison_does(small: Bench, tmp_path: Path) -> None:
    planned = compare.prepare({"model": "eps", "samplers": ["Euler", "Heun"], "steps": 3,
                                               "precision": "fp32"}, small.engine.catalogue)
    cells.one_by_one(small, planned, lambda picture, prompt: float(np.mean(picture)), tmp_path)
    assert (tmp_path / "grid.png").is_file() and len(list(tmp_path.glob("*.png"))) == 3
    assert [len(list((tmp_path / str(k)).glob("*.jpg"))) for k in (1, 2)] == [3, 3]
    rows = json.loads((tmp_path / "results.json").read_text())
    assert rows[1]["score"] > 0 and rows[1]["ssim"] < 1


def test_a_model_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench", "--model", "nosuch", "--models-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
