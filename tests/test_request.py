"""A Request that exists is valid: every bad value gives one line with what, why and the way out."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from core.errors import BadRequest
from core.request import MAX_PROMPT, MAX_SEED, Preview, Region, Request
from tests.lines import assert_one_line

REGION = {"name": "left", "prompt": "a boat", "box": [0, 0, 0.5, 1]}
BAD: list[tuple[str, Any, str]] = [
    ("steps", 0, "1 to 150"), ("steps", 10_000, "1 to 150"), ("steps", -3, "1 to 150"), ("steps", 2.5, "whole number"),
    ("steps", True, "whole number"), ("steps", None, "whole number"), ("steps", "20", "whole number"),
    ("steps", math.nan, "whole number"), ("steps", math.inf, "whole number"), ("steps", [20], "whole number"),
    ("steps", 10**5000, "1 to 150"), ("steps", 1e300, "1 to 150"), ("steps", np.ones((3, 3)), "whole number"),
    ("guidance", math.nan, "1 to 30"), ("guidance", math.inf, "1 to 30"), ("guidance", -math.inf, "1 to 30"),
    ("guidance", 0.5, "1 .*to 30"), ("guidance", 31, "1 .*to 30"), ("guidance", "5", "1 to 30"),
    ("guidance", None, "1 to 30"), ("guidance", True, "1 to 30"), ("guidance", 10**400, "1 .*to 30"),
    ("guidance", np.complex64(5), "1 to 30"), ("guidance", np.nan, "1 to 30"),
    ("seed", -1, f"0 to {MAX_SEED}"), ("seed", MAX_SEED + 1, f"0 to {MAX_SEED}"), ("seed", 10**30, f"0 to {MAX_SEED}"),
    ("seed", 1.5, "whole number"), ("seed", "random", "whole number"),
    ("width", 0, "8 to 4096"), ("width", -256, "8 to 4096"), ("width", 100_000, "8 to 4096"),
    ("height", None, "8 to 4096"), ("height", "tall", "8 to 4096"),
    ("batch", 0, "1 to 16"), ("batch", 17, "1 to 16"), ("batch", False, "1 to 16"),
    ("prompt", None, "must be text"), ("prompt", 5, "must be text"), ("prompt", ["a", "b"], "must be text"),
    ("prompt", b"boat", "must be text"), ("prompt", "x" * 10_000, "10,000 characters.*Shorten"),
    ("negative_prompt", "x" * (MAX_PROMPT + 1), "5,001 characters.*Shorten"),
    ("prompt", "a\x00b", r"U\+0000 at position 2"), ("prompt", "\x1b[31mred", r"U\+001B at position 1"),
    ("negative_prompt", "b\x07", r"U\+0007"), ("prompt", "half \ud83d", r"U\+D83D at position 6"),
    ("prompt", "\x85", r"U\+0085"),
    ("model", "", "must be a name"), ("model", "  ", "must be a name"), ("model", None, "must be a name"),
    ("model", "a\nb", "must be a name"), ("model", "m" * 1001, "must be a name"), ("model", "\ud800", "must be a name"),
    ("sampler", 3, "must be a name"), ("sampler", "Euler\n", "must be a name"), ("schedule", "\x00", "must be a name"),
    ("bootstrap", math.nan, "0 to 0.5"), ("bootstrap", 0.6, "0 to 0.5"), ("bootstrap", 10**400, "0 to 0.5"),
    ("masks", "papier", "Did you mean 'paper'"), ("masks", ["area"], "Known: area, paper|Did you mean 'area'"),
    ("panorama", "round", "No panorama named"), ("panorama", True, "No panorama named"), ("stride", 0, "8 to 4096"),
    ("wrap", "yes", "true or false"), ("join_prompts", 1, "true or false"),
    ("say_places", "no", "true or false"),
    ("regions", "everywhere", "must be a list"), ("regions", None, "must be a list"), ("regions", [5], "an object"),
    ("regions", [{}], "has no name"), ("regions", [REGION] * 33, "33 regions are too many"),
    *[("regions", [REGION | change], says) for change, says in [
        ({"prompt": " "}, "has no prompt"), ({"prompt": "a\x00"}, r"U\+0000"), ({"box": None}, "has no place"),
        ({"box": [0, 0, 1]}, "x0, y0, x1, y1"), ({"box": [0, 0, 10**400, 1]}, "x0 < x1"),
        ({"box": [0.5, 0, 0.5, 1]}, "x0 < x1"), ({"box": [0, 0, math.nan, 1]}, "x0, y0, x1, y1"),
        ({"guidance": math.inf}, "1 to 30"), ({"weight": 0}, "0.05 to 20"), ({"feather": -1}, "0 to 256"),
        ({"colour": "red"}, "no field 'colour'"), ({"mask": "mask.png"}, "mask|has no place")]],
    ("precision", "fp23", "Did you mean 'fp32'"), ("precision", "double", "Known: auto, fp32, bf16, fp16"),
]


@pytest.mark.parametrize("field, value, says", BAD, ids=[f"{field}-{i}" for i, (field, _, _) in enumerate(BAD)])
def test_a_bad_value_gives_one_line_that_names_its_field(field: str, value: Any, says: str) -> None:
    with pytest.raises(BadRequest, match=says) as told:
        Request(**{field: value})
    assert told.value.field == field
    assert_one_line(told.value, longest=250)
    assert field == "regions" or field.replace("_", " ") in str(told.value)


@pytest.mark.parametrize("field, value, becomes", [
    ("steps", 20.0, 20), ("steps", np.int64(7), 7), ("steps", 150, 150), ("seed", MAX_SEED, MAX_SEED), ("seed", 0, 0),
    ("guidance", 1, 1.0), ("guidance", np.float32(7.5), 7.5), ("guidance", 30, 30.0), ("batch", 16, 16)])
def test_numbers_are_kept_as_plain_numbers(field: str, value: Any, becomes: Any) -> None:
    kept = getattr(Request(**{field: value}), field)
    assert kept == becomes and type(kept) is type(becomes)


@pytest.mark.parametrize("prompt", [
    "", "   ", "🐱 on a 🛋️", "👩‍👩‍👧‍👦 family", "ein grünes Häuschen", "红色的船", "قارب أحمر",
    "a\nb\tc\r\nd", "x" * MAX_PROMPT,
    'quotes "here", commas, colons: all', "a\u200bb", "{prompt} <lora:x:1> ((a))", "\u2028"])
def test_every_script_emoji_and_layout_character_is_allowed(prompt: str) -> None:
    assert Request(prompt=prompt, negative_prompt=prompt).prompt == prompt  # never repaired in silence


def test_a_request_survives_its_dictionary_and_json() -> None:
    request = Request(prompt="🐱, a", negative_prompt="b", steps=7, guidance=3.5, seed=MAX_SEED, batch=2,
                      regions=(Region(name="left", prompt="ein Häuschen", box=(0, 0, 0.5, 1)),))
    assert Request.parse(request.to_dict()) == request
    assert Request.parse(json.loads(json.dumps(request.to_dict()))) == request
    assert set(request.to_dict()) <= set(Request.fields())


def test_requests_are_values() -> None:
    request = Request(prompt="a")
    assert request == Request(prompt="a") and hash(request) == hash(Request(prompt="a"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.steps = 3  # type: ignore[misc]
    assert request.replace(steps=3).steps == 3 and request.steps == 20
    with pytest.raises(BadRequest):
        request.replace(steps=0)  # a changed one is checked like a new one


@pytest.mark.parametrize("values, says", [({"step": 5}, "Did you mean 'steps'"), ({"zzz": 1}, "Known: "),
                                          ({3: 1}, "no field 3"), ({"a\nb": 1}, "no field")])
def test_an_unknown_field_is_refused_with_the_nearest_name(values: dict[Any, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says) as told:
        Request.parse(values)
    assert_one_line(told.value, longest=300)


@pytest.mark.parametrize("values", [None, [], ["prompt"], "prompt", 5])
def test_what_is_no_dictionary_is_refused_in_one_line(values: Any) -> None:
    with pytest.raises(BadRequest) as told:
        Request.parse(values)
    assert_one_line(told.value)


@pytest.mark.parametrize("decoder", ["", "vea", None, 3, "VAE", ["vae"], "a\nb"])
def test_an_unknown_preview_decoder_is_refused(decoder: Any) -> None:
    with pytest.raises(BadRequest, match="No preview decoder named") as told:
        Preview(decoder)
    assert told.value.field == "preview"
    assert_one_line(told.value)


def test_each_picture_of_a_batch_has_a_request_of_its_own() -> None:
    batch = Request(prompt="a", seed=MAX_SEED, batch=2)
    assert batch.single(0) == Request(prompt="a", seed=MAX_SEED)
    assert batch.single(1) == Request(prompt="a", seed=0)  # after the last seed comes the first
