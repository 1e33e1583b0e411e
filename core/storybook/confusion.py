"""Which answers were wrong, and what stood there instead: a table by thing, colour, place and style."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from core.storybook.cases import Case


class Verdict(NamedTuple):
    """What one prompt asked for, and what the judge saw in its picture."""

    case: Case
    thing: str
    colour: str
    placed: bool | None  # in the half asked for; None where no place was asked for


def confusions(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """(asked, seen) -> a line for each that was ever wrong, the worst first: what it was taken for, how often."""
    asked: Counter[str] = Counter()
    wrong: dict[str, Counter[str]] = {}
    for one, other in pairs:
        asked[one] += 1
        if one != other:
            wrong.setdefault(one, Counter())[other or "nothing"] += 1
    order = sorted(wrong, key=lambda one: wrong[one].total() / asked[one], reverse=True)
    return [f"{one}: {wrong[one].total()} of {asked[one]} taken for "
            + ", ".join(f"{other} {count}" for other, count in wrong[one].most_common()) for one in order]


def tables(verdicts: list[Verdict]) -> dict[str, list[str]]:
    """The confusions by thing, by colour, and the misses by place and by style."""
    return {
        "thing": confusions((v.case.thing, v.thing) for v in verdicts),
        "colour": confusions((v.case.colour, v.colour) for v in verdicts),
        "place": misses((v.case.side, bool(v.placed)) for v in verdicts if v.case.side),
        "style": misses((v.case.style, v.thing == v.case.thing) for v in verdicts if v.case.style),
    }


def misses(answers: Iterable[tuple[str, bool]]) -> list[str]:
    """(kind, whether it was right) -> "left: 3 of 8 missed" for each kind that was ever missed, the worst first."""
    held: dict[str, list[bool]] = {}
    for kind, right in answers:
        held.setdefault(kind, []).append(right)
    order = sorted((kind for kind in held if not all(held[kind])), key=lambda kind: sum(held[kind]) / len(held[kind]))
    return [f"{kind}: {held[kind].count(False)} of {len(held[kind])} missed" for kind in order]
