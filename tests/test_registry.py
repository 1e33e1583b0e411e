"""Names that nobody has are answered with the nearest one somebody has."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import BadRequest
from core.registry import Registry
from core.samplers import SAMPLERS, SCHEDULES
from tests.lines import assert_one_line


@pytest.fixture
def animals() -> Registry[int]:
    registry: Registry[int] = Registry("animal", "pet")
    for legs, name in enumerate(("snake", "cat", "Blue Whale")):
        registry.add(name, legs)
    return registry


def test_it_is_a_mapping_in_the_order_of_registration(animals: Registry[int]) -> None:
    assert list(animals) == ["snake", "cat", "Blue Whale"] and len(animals) == 3
    assert animals["cat"] == 1 and "cat" in animals and "dog" not in animals
    assert dict(animals) == {"snake": 0, "cat": 1, "Blue Whale": 2}


def test_the_same_name_twice_is_our_own_mistake(animals: Registry[int]) -> None:
    with pytest.raises(AssertionError):
        animals.add("cat", 4)


@pytest.mark.parametrize("wanted, says", [
    ("cats", "Did you mean 'cat'"), ("BLUEWHALE", "Did you mean 'Blue Whale'"), ("c\nat", "Did you mean 'cat'"),
    ("zebra", "Known: snake, cat, Blue Whale"), ("", "Known: "), ("x" * 5000, "Known: "), (None, "No animal"),
    (["cat"], "No animal"), ("\ud800", "No animal")])
def test_an_unknown_name_gives_one_line(animals: Registry[int], wanted: Any, says: str) -> None:
    with pytest.raises(BadRequest, match=says) as told:
        animals[wanted]
    assert told.value.field == "pet"
    assert_one_line(told.value, longest=160)


def test_get_with_a_default_works_as_in_every_mapping(animals: Registry[int]) -> None:
    assert animals.get("cat") == 1


@pytest.mark.parametrize("wanted, meant", [
    ("dpmpp2m", "DPM++ 2M"), ("dpm++2m", "DPM++ 2M"), ("euler", "Euler"), ("euler-a", "Euler a"), ("ddim", "DDIM"),
    ("Euler_a", "Euler a"), ("dpmpp sde", "DPM++ SDE"), ("unipc", "UniPC"),
    ("DPM++ 2M SDE Heum", "DPM++ 2M SDE Heun")])
def test_samplers_are_found_under_the_spellings_people_use(wanted: str, meant: str) -> None:
    with pytest.raises(BadRequest) as told:
        SAMPLERS[wanted]
    assert f"Did you mean '{meant}'?" in str(told.value)


@pytest.mark.parametrize("name", [*SAMPLERS, *SCHEDULES])
def test_every_name_has_one_line_of_words(name: str) -> None:
    words = SAMPLERS[name].words if name in SAMPLERS else SCHEDULES[name]
    assert words and words.isprintable() and len(words) < 100
