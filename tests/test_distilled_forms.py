"""What a distilled model was made for, in every form and on the command line; nothing typed is overwritten."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import app
from core.compare import prepare
from core.models.catalogue import Catalogue, ModelInfo
from core.models.distilled import advise
from core.models.kept import Kept
from core.options import add_request_options, read_request
from ui import composition, contest

PLAIN = ModelInfo("plain", "models/plain", "sd", 512, 512, 8, 77, False, 1.0)
QUICK = replace(PLAIN, name="quick", advice=advise(["sdxl_lightning_8step"]))


class Known(Catalogue):
    def get(self, name: str) -> ModelInfo:
        return QUICK if name == "quick" else PLAIN


@pytest.mark.parametrize("typed, expected", [
    (["--model", "quick"], ("Euler", "SGM Uniform", 8, 1.0)),
    (["--model", "quick", "--steps", "3", "--sampler", "DDIM"], ("DDIM", "SGM Uniform", 3, 1.0)),
    (["--model", "plain"], ("DPM++ 2M", "Automatic", 20, 5.0))])
def test_the_command_line_takes_it(typed: list[str], expected: tuple[Any, ...]) -> None:
    parser = argparse.ArgumentParser()
    add_request_options(parser)
    for layout in (None, {"prompt": "a"}):
        options = parser.parse_args(typed)
        options.prompt = "a"
        request = read_request(options, Known(), layout)
        assert (request.sampler, request.schedule, request.steps, request.guidance) == expected


def test_a_comparison_takes_it_but_for_what_it_names() -> None:
    cells = prepare({"prompt": "a", "model": "quick", "steps": [2, 4]}, Known()).cells
    assert [(cell.request.sampler, cell.request.steps, cell.request.guidance) for cell in cells if cell.request] == \
        [("Euler", 2, 1.0), ("Euler", 4, 1.0)]


def test_the_form_of_comparisons_takes_it_and_goes_back() -> None:
    usual = {"samplers": list(contest.FEW), "schedule": "Automatic", "steps": "5 10 20", "guidance": "5"}
    told = contest.advised(QUICK, usual)
    assert told == {"samplers": ["Euler"], "schedule": "SGM Uniform", "steps": "4 8 16", "guidance": "1"}
    assert contest.advised(PLAIN, {**usual, **told}) == usual and contest.advised(PLAIN, usual) == {}
    assert contest.advised(QUICK, {**usual, "steps": "7"}) == {}  # somebody chose that


def test_an_earlier_comparison_fills_the_form() -> None:
    spec = {"prompt": "a", "negative_prompt": "b", "model": "m", "schedule": "Karras", "guidance": 7.5, "width": 64,
            "height": 64, "precision": "fp32", "clip_skip": 2, "samplers": ["Euler", "Heun"], "seed": 4,
            "steps": [5, 10], "equal_evaluations": False, "reference_steps": 30}
    values = {**contest.from_spec(spec, "linear"), "model": "m"}
    assert contest.to_spec(values) == spec and values["preview"] == "linear"
    assert "guidance" not in contest.from_spec({"guidances": [1, 2], "sampler": "Euler"}, "none")


def test_the_prompt_of_every_region_is_counted() -> None:
    canvas = {"prompt": "a room", "regions": [{"prompt": "a sofa"}, {"prompt": ""}]}
    values = {"canvas": canvas, "negative_prompt": "", "join_prompts": False, "say_places": False, "panorama": "off"}
    assert composition.prompts_of(values) == {"prompt": "a room", "negative_prompt": "", "0": "a sofa", "1": ""}
    assert composition.prompts_of({**values, "join_prompts": True})["0"] == "a sofa, a room"


def test_the_next_start_begins_with_the_last_model_unless_another_is_named(
        models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--models-dir", str(models_dir), "--outputs", str(tmp_path / "out")]

    def begins(*typed: str) -> str:
        studio = app.make_studio(app.options([*where, *typed]), tmp_path / "frames")
        studio.jobs.close()
        return studio.model

    Kept(tmp_path / "out").choose("eps")
    assert begins() == "eps" and begins("--model", "v") == "v" and begins("--model", "storybook") == "storybook"
    Kept(tmp_path / "out").choose("gone")
    assert begins() == "storybook" and "is not taken again" in capsys.readouterr().err
