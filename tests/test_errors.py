"""The tree of messages for people, and the nearest known name."""

from __future__ import annotations

import pytest

from core import errors
from core.errors import LoomError, closest

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LoomError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_shows_its_line_and_can_be_caught_as_one(kind: type[LoomError]) -> None:
    error = kind("One line.")
    assert str(error) == "One line." and isinstance(error, LoomError)
    assert error.field is None or isinstance(error.field, str)


def test_the_kinds_that_are_about_a_field_name_one_of_the_request() -> None:
    from core.request import Request

    assert {kind.field for kind in KINDS} - {None} <= set(Request.fields())


@pytest.mark.parametrize("name, known, says", [
    ("karas", ["Karras", "Beta"], "Did you mean 'Karras'?"),
    ("dpm pp 2m", ["DPM++ 2M", "DPM2"], "Did you mean 'DPM++ 2M'?"),
    ("zzz", ["a", "b"], "Known: a, b."), ("", ["a"], "Known: a."), ("x", [], "Known: ."),
    ("q", [str(i) for i in range(20)], "Known: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ....")])
def test_the_nearest_name_or_the_list(name: str, known: list[str], says: str) -> None:
    assert closest(name, known) == says
