"""ui.form: what people leave in the form <-> Request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core.checks import Note
from core.errors import BadRequest
from core.models.catalogue import STORYBOOK, ModelInfo
from core.models.distilled import advise
from core.presets import load_styles
from core.request import MAX_SEED, Preview, Request
from core.samplers import SAMPLERS, resolve
from ui import form
from ui.components.notes import lines

START = form.from_request(Request())


@pytest.mark.parametrize("request_", [
    Request(),
    Request(prompt="a red boat,\n'sea' 🦊", negative_prompt="fog", sampler="Euler a", schedule="Uniform", steps=7,
            guidance=2.5, seed=MAX_SEED, width=320, height=64, batch=3, precision="fp32"),
    Request(prompt="a", refiner="XL/refiner", refiner_from=0.65),
])
def test_a_request_survives_the_form(request_: Request) -> None:
    assert form.to_request(form.from_request(request_)) == request_
    assert form.to_preview(form.from_request(request_, Preview("tiny"))) == Preview("tiny")


def test_the_form_asks_for_fields_of_a_request_only() -> None:
    assert set(START) - {"style", "size", "preview"} == set(form.FIELDS) <= set(Request.fields())


@pytest.mark.parametrize(("field", "typed", "line"), [
    ("steps", "0", "The steps cannot be 0"),
    ("steps", "10000", "The steps cannot be 10000"),
    ("steps", "", "The steps must be a whole number, not empty"),
    ("steps", None, "The steps must be a whole number, not empty"),
    ("steps", "7.5", "whole number, not 7.5"),
    ("steps", "1_000", "whole number, not '1_000'"),
    ("steps", "٣", "whole number, not '٣'"),
    ("steps", "9" * 5000, "whole number"),
    ("refiner_from", "1.5", "cannot have the refiner from 1.5"),
    ("refiner", "a\x00b", "The refiner must be a name"),
    ("guidance", "nan", "The guidance must be a number"),
    ("guidance", "1e999", "The guidance must be a number"),
    ("guidance", "7,5", "The guidance must be a number, not '7,5'"),
    ("width", "0x100", "The width must be a whole number"),
    ("height", "-8", "The height cannot be -8"),
    ("batch", "17", "The batch cannot be 17"),
    ("sampler", None, "The sampler must be a name"),
    ("model", "", "The model must be a name"),
    ("prompt", "x" * 10_000, "The prompt has 10,000 characters"),
    ("negative_prompt", "a\x00b", "The negative prompt holds the control character U+0000"),
])
def test_what_cannot_be_is_refused_beside_its_field(field: str, typed: Any, line: str) -> None:
    with pytest.raises(BadRequest) as caught:
        form.to_request({**START, field: typed})
    assert line in str(caught.value)
    assert caught.value.field == field


def test_a_bad_seed_is_refused_and_a_random_one_is_drawn() -> None:
    with pytest.raises(BadRequest) as caught:
        form.to_request({**START, "seed": {"random": False, "seed": "abc"}})
    assert caught.value.field == "seed"
    drawn = {form.to_request({**START, "seed": {"random": True, "seed": "7"}}).seed for _ in range(5)}
    assert len(drawn) == 5


def test_numbers_are_read_as_typed() -> None:
    typed = [" 20 ", "2.50", ".5", "-3", "1e2", 4, None]
    assert [form.number(text) for text in typed] == [20, 2.5, 0.5, -3, 100, 4, None]
    assert type(form.number("20")) is int


def test_a_style_goes_around_the_prompt_and_hides_no_error() -> None:
    style = load_styles()["Watercolour"]
    assert form.to_request({**START, "prompt": "a boat"}, style).prompt == "a boat, watercolour"
    with pytest.raises(BadRequest, match="10,000 characters"):
        form.to_request({**START, "prompt": "x" * 10_000}, style)


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_every_schedule_offered_is_accepted(sampler: str) -> None:
    offered = [value for _, value in form.schedules(sampler)]
    assert offered[0] == "Automatic"
    for schedule in offered:
        resolve(sampler, schedule, 20)


def test_an_unknown_sampler_offers_every_schedule() -> None:
    assert ("Karras", "Karras") in form.schedules("nobody's")
    assert form.schedules(None)


def test_sizes_are_multiples_the_model_takes() -> None:
    info = ModelInfo("m", "m", "sd", 512, 768, 64, 77, False, 1.0)
    offered = [value for _, value in form.sizes(info)]
    assert offered == ["512x768", "768x768", "512x1152", form.CUSTOM]
    assert [value for _, value in form.sizes(None)] == [form.CUSTOM]


def test_the_drawn_seed_leaves_room_for_a_batch() -> None:
    assert all(form.draw_seed() < MAX_SEED - 15 for _ in range(100))


def test_errors_come_before_notes_and_notes_before_hints() -> None:
    shown = lines([Note("sampler", "Soft."), Note("prompt", "One."), Note("prompt", "Two.")],
                  BadRequest("The steps cannot be 0.", "steps"), {"sampler": "Quick.", "style": "Red.", "x": ""})
    assert shown == {"sampler": ["note", "Soft."], "prompt": ["note", "One. Two."], "style": ["hint", "Red."],
                     "steps": ["error", "The steps cannot be 0."]}
    assert lines((), BadRequest("No room."))["form"] == ["error", "No room."]


def test_storybook_is_known_by_its_folder() -> None:
    assert ModelInfo("storybook", str(STORYBOOK), "sd", 256, 256, 8, 77, True, 1.0).is_storybook


def test_a_model_distilled_to_few_steps_sets_the_form_and_the_next_one_sets_it_back() -> None:
    plain = ModelInfo("plain", "models/plain", "sd", 512, 512, 8, 77, False, 1.0)
    quick = replace(plain, name="quick", advice=advise(["sdxl_lightning_8step"]))
    assert form.advised(plain, START) == {}  # nothing that anybody chose is touched
    wanted = form.advised(quick, START)
    assert wanted == {"sampler": "Euler", "schedule": "SGM Uniform", "steps": "8", "guidance": "1"}
    assert form.advised(plain, {**START, **wanted}) == {name: START[name] for name in form.ADVISED}
    assert form.advised(plain, {**START, **wanted, "guidance": "abc"}) == {}
