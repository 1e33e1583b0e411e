"""What somebody looks for in the history -> SQL."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any

from core.errors import BadRequest

MAX_WORDS = 500  # characters
MAX_TERMS = 20
_LONE = re.compile("[\ud800-\udfff]")  # halves of characters, which no file can hold
_TERM = re.compile(r'"([^"]+)"|(\S+)')
# Scripts without spaces between words: the index of words does not cut them, so there the text itself is searched.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")


@dataclass(frozen=True, kw_only=True)
class Query:
    """All that is not empty must hold. words: beginnings of words and "phrases" in prompt or negative prompt.

    since, until: days, YYYY-MM-DD, both included, in this machine's time zone. Raises BadRequest for what is no text.
    """

    words: str = ""
    model: str = ""
    sampler: str = ""
    since: str = ""
    until: str = ""
    tag: str = ""
    favourites: bool = False
    trash: bool = False  # those that were deleted, instead of the others

    def __post_init__(self) -> None:
        for name in ("words", "model", "sampler", "since", "until", "tag"):
            value = getattr(self, name)
            if not isinstance(value, str) or _LONE.search(value):
                raise BadRequest(f"What is looked for must be text, not {ascii(value)[:40]}.", name)

    def sql(self, has_fts: bool) -> tuple[str, list[Any]]:
        """(the condition, its parameters). Raises BadRequest."""
        parts = [f"deleted IS {'NOT ' * self.trash}NULL"]
        given: list[Any] = []
        if self.favourites:
            parts.append("favourite")
        for column, value in (("model", self.model), ("sampler", self.sampler)):
            if value:
                parts.append(f"{column} = ?")
                given.append(value)
        if self.tag:
            parts.append("id IN (SELECT picture FROM tags WHERE tag = ?)")
            given.append(self.tag)
        if self.since:
            parts.append("made >= ?")
            given.append(_day(self.since, "since"))
        if self.until:
            parts.append("made < ?")
            given.append(_day(self.until, "until", after=1))
        whole, inside = _terms(self.words, has_fts)
        if whole:
            parts.append("id IN (SELECT rowid FROM words WHERE words MATCH ?)")
            given.append(" AND ".join(whole))
        for term in inside:
            parts.append("prompt || char(10) || negative LIKE ? ESCAPE '!'")
            given.append("%" + re.sub(r"([%_!])", r"!\1", term) + "%")
        return " AND ".join(parts), given


def _terms(words: str, has_fts: bool) -> tuple[list[str], list[str]]:
    """(for the index of words, to be looked for in the text itself)."""
    if len(words) > MAX_WORDS:
        raise BadRequest(f"The search has {len(words):,} characters: at most {MAX_WORDS} are looked for.")
    whole, inside = [], []
    for found in list(_TERM.finditer(words))[:MAX_TERMS]:
        term = "".join(c for c in found[1] or found[2] if c.isprintable()).replace('"', "")
        if not term.strip():
            continue
        if has_fts and any(map(str.isalnum, term)) and not _UNSPACED.search(term):
            whole.append(f'"{term}"' + "*" * (found[1] is None))
        else:
            inside.append(term)
    return whole, inside


def _day(text: str, what: str, after: int = 0) -> float:
    """The beginning of a day, as time.time() counts."""
    try:
        day = datetime.date.fromisoformat(text) + datetime.timedelta(days=after)
        return datetime.datetime(day.year, day.month, day.day).timestamp()
    except (ValueError, OverflowError, OSError):
        raise BadRequest(f"No day {text[:30]!r} to search {what}: write it as 2026-01-31.") from None
