"""Whether a model can do a request on this machine, said before anything heavy is loaded."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from core import checks
from core.checks import check, fitting_size
from core.errors import BadRequest
from core.models.catalogue import STORYBOOK, ModelInfo
from core.request import Request
from core.samplers import SAMPLERS
from tests.lines import assert_one_line

MODEL = ModelInfo("some model", "/nowhere", "sd", 512, 512, 8, 77, False, 1.0)
SMALL = ModelInfo("storybook", str(STORYBOOK), "sd", 256, 256, 8, 77, True, 38.0)


def fields(request: Request, info: ModelInfo = MODEL) -> list[str]:
    notes = check(request, info)
    for note in notes:
        assert_one_line(note.text)
    return [note.field for note in notes]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_passes_with_its_automatic_schedule(sampler: str) -> None:
    assert set(fields(Request(prompt="a boat", sampler=sampler, steps=30))) <= {"sampler"}


def test_a_good_request_has_no_notes() -> None:
    assert fields(Request(prompt="a boat", negative_prompt="fog")) == []


@pytest.mark.parametrize("prompt", ["", "   ", "\n"])
def test_an_empty_prompt_is_allowed_and_called_unconditional(prompt: str) -> None:
    (note,) = check(Request(prompt=prompt), MODEL)
    assert note.field == "prompt" and "unconditional" in note.text


def test_a_negative_prompt_at_guidance_1_is_said_to_be_idle() -> None:
    assert fields(Request(prompt="a", guidance=1, negative_prompt="fog")) == ["negative_prompt"]
    assert fields(Request(prompt="a", guidance=1, negative_prompt=" ")) == []


@pytest.mark.parametrize("request_, field", [
    (Request(prompt="a", sampler="LCM", steps=4), "sampler"),
    (Request(prompt="a", sampler="DDPM", steps=20), "sampler"),
    (Request(prompt="a", sampler="UniPC", schedule="Beta", steps=20), "sampler")])
def test_combinations_that_disappoint_are_marked(request_: Request, field: str) -> None:
    assert fields(request_) == [field]


@pytest.mark.parametrize("changes, field, says", [
    ({"width": 250}, "width", "250x256 is not a multiple of 8 pixels.*try 248x256"),
    ({"height": 259}, "height", "256x259.*try 256x256"), ({"width": 4095}, "width", "try 4096x256"),
    ({"width": 8}, "width", "8x256 is below 64 pixels a side.*try 64x256"), ({"height": 56}, "height", "try 256x64"),
    ({"sampler": "Eular"}, "sampler", "Did you mean 'Euler'"),
    ({"schedule": "karas"}, "schedule", "Did you mean 'Karras'"),
    ({"sampler": "DDIM", "schedule": "Karras"}, "schedule", "DDIM has no Karras schedule: choose Automatic"),
    ({"sampler": "Heun", "steps": 2}, "steps", "Heun gives no picture at 2 steps: take at least 3"),
    ({"sampler": "Euler", "steps": 1}, "steps", "Euler gives no picture at 1 step: take at least 2")])
def test_what_cannot_be_done_is_refused_with_the_way_out(changes: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(BadRequest, match=says) as told:
        check(Request(prompt="a", **changes), MODEL)
    assert told.value.field == field
    assert_one_line(told.value)


@pytest.mark.parametrize("width, height", [(4096, 4096), (4096, 1024), (1024, 2048)])
def test_a_size_beyond_the_memory_is_refused_with_one_that_fits(
        monkeypatch: pytest.MonkeyPatch, width: int, height: int) -> None:
    monkeypatch.setattr(checks.psutil, "virtual_memory", lambda: SimpleNamespace(available=2**29))
    with pytest.raises(BadRequest, match=r"GiB of memory and 0\.5 are free") as told:
        check(Request(prompt="a", width=width, height=height), MODEL)
    assert_one_line(told.value)
    fits = str(told.value).rpartition("try ")[2].rstrip(".").split("x")
    check(Request(prompt="a", width=int(fits[0]), height=int(fits[1])), MODEL)  # what it proposes is accepted


def test_a_panorama_is_as_large_as_its_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.psutil, "virtual_memory", lambda: SimpleNamespace(available=2**29))
    check(Request(prompt="a", width=2048, height=1024, panorama="smooth"), MODEL)
    with pytest.raises(BadRequest, match="GiB of memory"):
        check(Request(prompt="a", width=2048, height=1024), MODEL)


def test_a_picture_that_may_be_decoded_in_tiles_says_so_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.psutil, "virtual_memory", lambda: SimpleNamespace(available=2 * 2**30))
    assert [note.text for note in check(Request(prompt="a", width=512, height=512), MODEL)] == []
    (note,) = check(Request(prompt="a", width=1024, height=1024), MODEL)
    assert note.field == "width" and "about 3.0 GiB, and 2.0 are free" in note.text


def test_the_usual_sizes_fit_a_small_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.psutil, "virtual_memory", lambda: SimpleNamespace(available=4 * 2**30))
    for side in (256, 512, 768):
        check(Request(prompt="a", width=side, height=side), MODEL)


@pytest.mark.parametrize("width, height, multiple", [(1, 1, 8), (4096, 4093, 8), (100, 1000, 64), (513, 511, 8)])
def test_the_fitting_size_is_allowed_and_near(width: int, height: int, multiple: int) -> None:
    for side, fit in zip((width, height), fitting_size(width, height, multiple), strict=True):
        assert fit % multiple == 0 and 8 * multiple <= fit <= 4096
        assert abs(fit - max(side, 8 * multiple)) <= multiple / 2


def test_words_storybook_does_not_know_are_named_and_only_there() -> None:
    request = Request(prompt="a red dragon and a Blorf")
    assert "prompt" not in fields(request, MODEL)
    (note,) = [note for note in check(request, SMALL) if note.field == "prompt"]
    assert note.text.startswith("Storybook does not know:") and "blorf" in note.text
    assert " red" not in note.text.partition(":")[2]


def test_a_thousand_unknown_words_or_one_endless_one_make_a_short_note() -> None:
    for prompt in (" ".join(f"zq{chr(97 + i % 26)}{chr(97 + i // 26)}x" for i in range(300)), "z" * 2000, "🐱" * 500):
        for note in check(Request(prompt=prompt), SMALL):
            assert_one_line(note.text)
