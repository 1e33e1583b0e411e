"""Which texts rule a step of the run: prompts joined by AND, words that come and go, words that take turns.

Grammar and its corner cases after Automatic1111's modules/prompt_parser.py and its wiki ("Prompt editing",
"Alternating Words", "Composable Diffusion"). Standard library only.

Three things are plainer than there. A step is one of the solver's, whether it asks the network once or twice, and the
first is step 1 as in the wiki (Automatic1111 counts calls, from 0). Only a prompt with AND takes a weight at its end,
so that "a clock at 10:30" stays what it is. And a whole [a:b:3] is read even where a stray bracket follows upon it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from core.prompts.networks import without_tags

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"\s*:\s*([-+]?(?:\d+\.?\d*|\.\d+))\s*\Z", re.ASCII)
_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)\s*", re.ASCII)
_PIECES = re.compile(r"(?:[^\\\[\]():|]|\\.)+|[\[\]():|]")  # "." is no line break, as there


class Part(NamedTuple):
    """One of the texts that are joined by AND, at one step. weight: its share of the guidance."""

    text: str
    weight: float


@dataclass(frozen=True)
class Change:
    """[before:after:when]."""

    before: Pieces
    after: Pieces
    when: str  # a number as it was typed: with a point a share of the steps, else a step

    def step(self, steps: int) -> int:
        """The last step, counted from 1, that reads `before`; 0 or less when none does."""
        value = float(self.when) * steps if "." in self.when else float(self.when)
        return int(min(value, steps))

    def at(self, step: int, steps: int) -> Pieces:
        return self.before if step < self.step(steps) else self.after


@dataclass(frozen=True)
class Turns:
    """[a|b|...], another one at each step."""

    choices: tuple[Pieces, ...]

    def at(self, step: int, steps: int) -> Pieces:
        return self.choices[step % len(self.choices)]


Pieces = tuple[str | Change | Turns, ...]


@dataclass(frozen=True)
class Composition:
    """A prompt, read. literal: some part's scheduling is not read, because of a "|" outside of [a|b]."""

    parts: tuple[tuple[Pieces, float], ...]
    literal: bool = False

    def at(self, step: int, steps: int) -> tuple[Part, ...]:
        """The texts that rule a step. step: from 0. steps: the request's."""
        return tuple(Part(_text(pieces, step, steps), weight) for pieces, weight in self.parts)

    def changes(self) -> list[Change]:
        """Every [before:after:when] in it."""
        found = []
        left = [piece for pieces, _ in reversed(self.parts) for piece in reversed(pieces)]
        while left:
            node = left.pop()
            if isinstance(node, str):
                continue
            if isinstance(node, Change):
                found.append(node)
            inner = (node.before, node.after) if isinstance(node, Change) else node.choices
            left += [piece for pieces in reversed(inner) for piece in reversed(pieces)]
        return found


@lru_cache(maxsize=256)
def compose(prompt: str, joined: bool = True) -> Composition:
    """joined: whether AND joins prompts; in a negative prompt it is a word like any other, as there. A <lora:...> is
    no part of any text."""
    prompt = without_tags(prompt)
    texts = _AND.split(prompt) if joined else [prompt]
    parts, literal = [], False
    for text in texts:
        found = _WEIGHT.search(text) if len(texts) > 1 else None
        if found:
            text = text[:found.start()]
        pieces = _read(text)
        literal |= pieces is None
        parts.append(((text,) if pieces is None else pieces, float(found[1]) if found else 1.0))
    return Composition(tuple(parts), literal)


def _text(pieces: Pieces, step: int, steps: int) -> str:
    texts: list[str] = []
    left = list(reversed(pieces))
    while left:  # no recursion: people nest brackets as deep as they like
        piece = left.pop()
        if isinstance(piece, str):
            texts.append(piece)
        else:
            left += reversed(piece.at(step, steps))
    return "".join(texts)


@dataclass
class _Open:
    """A bracket that is not closed yet, and what came behind it: pieces, with ":" and "|" between them."""

    bracket: str
    content: list[list[str | Change | Turns]] = field(default_factory=lambda: [[]])
    signs: list[str] = field(default_factory=list)

    def flat(self) -> list[str | Change | Turns]:
        """What it comes to when the bracket means nothing here."""
        found: list[str | Change | Turns] = [self.bracket, *self.content[0]]
        for sign, pieces in zip(self.signs, self.content[1:], strict=True):
            found += [sign, *pieces]
        return found

    def closed(self, bracket: str) -> list[str | Change | Turns] | None:
        """What it comes to when it is closed by `bracket`; None when that makes no sense."""
        if self.bracket + bracket == "()":  # emphasis is read later
            return [*self.flat(), ")"] if self.signs in ([], [":"]) else None
        if self.bracket + bracket != "[]":
            return None
        if not self.signs:
            return [*self.flat(), "]"]
        if set(self.signs) == {"|"}:
            return [Turns(tuple(tuple(pieces) for pieces in self.content))]
        when = "".join(piece if isinstance(piece, str) else "?" for piece in self.content[-1])
        number = _NUMBER.fullmatch(when)
        if self.signs not in ([":"], [":", ":"]) or not number:
            return None
        *before, after = self.content[:-1]
        return [Change(tuple(before[0]) if before else (), tuple(after), number[1])]


def _read(text: str) -> Pieces | None:
    """None for a text with a "|" outside of [a|b], or a backslash at its end: nothing of it is scheduled then.

    A bracket inside which another one is left open, or closed wrongly, is a mere sign itself.
    """
    found: list[str | Change | Turns] = []
    still_open: list[_Open] = []

    def give_up() -> None:
        for bracket in still_open:
            found.extend(bracket.flat())
        still_open.clear()

    end = 0
    for match in _PIECES.finditer(text):
        if match.start() != end:
            return None
        end, sign = match.end(), match[0]
        if sign in ("[", "("):
            still_open.append(_Open(sign))
        elif sign in ("]", ")") and still_open:
            inside = still_open[-1].closed(sign)
            if inside is None:
                give_up()
                found.append(sign)
            else:
                still_open.pop()
                (still_open[-1].content[-1] if still_open else found).extend(inside)
        elif sign in (":", "|") and still_open:
            still_open[-1].signs.append(sign)
            still_open[-1].content.append([])
        else:
            (still_open[-1].content[-1] if still_open else found).append(sign)
    give_up()
    return None if end != len(text) or "|" in found else tuple(found)


def with_words(prompt: str, words: str) -> str:
    """The prompt with words behind it: behind each of its texts that are joined by AND, before that one's weight."""
    texts = []
    for text in _AND.split(prompt):
        weight = _WEIGHT.search(text) if text != prompt else None
        said = text[:weight.start()] if weight else text
        texts.append(f"{said.strip()} {words}{text[len(said):].rstrip()}")
    return " AND ".join(texts)
