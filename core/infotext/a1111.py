"""The text "parameters" of Automatic1111, which Forge, SD.Next and many others write too.

    prompt, of any number of lines
    Negative prompt: likewise
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, Lora hashes: "a: 1, b: 2"

A value with a comma, a colon or a line break stands in JSON's quotes. A prompt may hold a line that looks like the
others, so the text is ambiguous; as there, the last line of settings and the first "Negative prompt:" decide.
Source: Automatic1111, modules/infotext_utils.py (parse_generation_parameters, quote) and modules/processing.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

NEGATIVE = "Negative prompt:"
MAX_JSON = 8_000  # characters of a value that nobody put in quotes
FEWEST = 3  # settings that make a line one of settings, as there
# There the label has no bound, and a long line of letters takes the square of its length.
_LABEL = re.compile(r"\s*(\w[\w \-/]{1,60}):\s*")
_QUOTED = re.compile(r'"(?:\\.|[^\\"])*"(?=\s*(?:,|$))')
_LATER = re.compile(r"\w[\w \-/]{1,60}: ")  # a line that extensions write below the settings
_DECODER = json.JSONDecoder()


class Pair(NamedTuple):
    """A setting. raw: how its value was written, if it was read from a text."""

    label: str
    value: str
    raw: str | None = None

    def __str__(self) -> str:
        return f"{self.label}: {quoted(self.value) if self.raw is None else self.raw}"


@dataclass(frozen=True)
class Infotext:
    """A text taken apart, so that it can be put together again without a loss."""

    prompt: str
    negative_prompt: str = ""
    pairs: tuple[Pair, ...] = ()
    later: tuple[Pair, ...] = ()  # a line each, below the settings
    unread: tuple[str, ...] = ()  # parts of the line of settings that are none

    def __str__(self) -> str:
        lines = [self.prompt] if self.prompt else []
        if self.negative_prompt:
            lines.append(f"{NEGATIVE} {self.negative_prompt}")
        if self.pairs:
            lines.append(", ".join([*map(str, self.pairs), *self.unread]))
        return "\n".join([*lines, *map(str, self.later)])


def parse(text: str) -> Infotext:
    """A text without settings is all prompt."""
    lines = text.replace("\r\n", "\n").strip().split("\n")
    at, pairs, unread = _settings(lines)
    body = lines[:at]
    split = next((i for i, line in enumerate(body) if line.startswith(NEGATIVE)), len(body))
    later = [Pair(label, value, value) for label, _, value in (line.partition(": ") for line in lines[at + 1:])]
    return Infotext("\n".join(body[:split]).strip(), "\n".join(body[split:]).removeprefix(NEGATIVE).strip(),
                    tuple(pairs), tuple(later), tuple(unread))


def _settings(lines: list[str]) -> tuple[int, list[Pair], list[str]]:
    """(which line holds the settings, they, what of it is none): the last one, but for lines of extensions."""
    for at in range(len(lines) - 1, max(-1, len(lines) - 9), -1):
        parts = list(_parts(lines[at]))
        pairs = [part for part in parts if isinstance(part, Pair)]
        if len(pairs) >= FEWEST:
            return at, pairs, [part for part in parts if isinstance(part, str)]
        if not _LATER.match(lines[at]):
            break
    return len(lines), [], []


def _parts(line: str) -> Iterator[Pair | str]:
    """The settings of a line, and what stands between them; in linear time."""
    at = 0
    while at < len(line):
        found = _LABEL.match(line, at)
        if found:
            end, value = _value(line, found.end())
            yield Pair(found[1], value, line[found.end():end].strip())
        else:
            end = line.find(",", at)
            end = len(line) if end < 0 else end
            if rest := line[at:end].strip():
                yield rest
        comma = line.find(",", end)
        at = len(line) if comma < 0 else comma + 1


def _value(line: str, at: int) -> tuple[int, str]:
    """(where the value ends, it): in quotes, as JSON that nobody put in quotes, or up to the next comma."""
    if quote := _QUOTED.match(line, at):
        try:
            return quote.end(), str(json.loads(quote[0]))
        except ValueError:
            return quote.end(), quote[0]
    if line[at:at + 1] in ("[", "{"):
        try:
            # a part of the line: the decoder's error counts the lines before it, each time from the beginning
            _, length = _DECODER.raw_decode(line[at:at + MAX_JSON])
            return at + length, line[at:at + length]
        except (ValueError, RecursionError):
            pass
    end = line.find(",", at)
    end = len(line) if end < 0 else end
    return end, line[at:end].strip()


def quoted(value: object) -> str:
    """A value as it stands in the line. Quotes and outer spaces are kept too, which there get lost."""
    text = str(value)
    plain = text == text.strip() and not any(c in text for c in ',:\n\r"') and text[:1] not in ("[", "{")
    return text if plain and text else json.dumps(text, ensure_ascii=False)
