"""What the words of a text weigh: (word), (word:1.2), [word], escapes, BREAK.

Grammar after Automatic1111's modules/prompt_parser.py, its corner cases too: brackets that are never closed reach to
the end, round and square ones need not nest, a closing bracket without an opening one is a sign like any other. One is
mended: BREAK inside of brackets breaks as well (there it becomes a word of weight -1). Standard library only.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from core.errors import BadRequest

STEP = 1.1  # what a pair of brackets multiplies or divides by
MOST = 100.0  # a weight beyond it leaves nothing of the picture, and none of float16's range

_PIECES = re.compile(r"\\[()\[\]\\]?|[(\[]|:\s*([+-]?[.\d]+)\s*\)|[)\]]|[^\\()\[\]:]+|:")
_BREAK = re.compile(r"\s*\bBREAK\b\s*")


class Stretch(NamedTuple):
    """Some text of one weight; with None for text, a BREAK."""

    text: str | None
    weight: float = 1.0


@lru_cache(maxsize=1024)
def stretches(text: str) -> tuple[Stretch, ...]:
    """A text as stretches of equal weight, at least one. Raises BadRequest for a weight that is no number."""
    found: list[tuple[str | None, float]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}  # where in `found` each bracket began

    def close(bracket: str, factor: float) -> None:
        start = opened[bracket].pop()
        found[start:] = [(part, weight * factor) for part, weight in found[start:]]

    for match in _PIECES.finditer(text):
        piece, number = match[0], match[1]
        if piece[0] == "\\":
            found.append((piece[1:], 1.0))
        elif piece in opened:
            opened[piece].append(len(found))
        elif number is not None and opened["("]:
            close("(", _weight(number))
        elif piece == ")" and opened["("]:
            close("(", STEP)
        elif piece == "]" and opened["["]:
            close("[", 1 / STEP)
        else:
            for k, part in enumerate(_BREAK.split(piece)):
                found += [(None, 1.0)] * (k > 0) + [(part, 1.0)]
    for bracket, factor in (("(", STEP), ("[", 1 / STEP)):
        while opened[bracket]:
            close(bracket, factor)
    return tuple(_merged(found)) or (Stretch(""),)


def _merged(found: list[tuple[str | None, float]]) -> list[Stretch]:
    """Neighbours of one weight as one: words are cut into tokens across them."""
    merged: list[Stretch] = []
    for text, weight in found:
        if text is None:
            merged.append(Stretch(None))
            continue
        if abs(weight) > MOST:
            raise BadRequest(f"A weight of {weight:.4g} is too much: stay between -{MOST:g} and {MOST:g}.")
        if merged and merged[-1].text is not None and merged[-1].weight == weight:
            merged[-1] = Stretch(merged[-1].text + text, weight)
        else:
            merged.append(Stretch(text, weight))
    return merged


def _weight(number: str) -> float:
    try:
        return float(number)
    except ValueError:
        shown = number if len(number) <= 20 else number[:17] + "..."
        raise BadRequest(f"The weight in (...:{shown}) is no number: write it like (word:1.2).") from None
