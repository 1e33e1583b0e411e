"""What people add to pictures, favourites and tags: a small JSON file beside the index, which can be lost without it.

Not inside the PNG: what was made stays as it was, and tags are nobody else's business when a picture is given away.
    {"2026-11-24/101500-abc123-11.png": {"favourite": true, "tags": ["boats"]}, ...}
"""

from __future__ import annotations

import json
import logging
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import BadRequest
from core.files import write_text

log = logging.getLogger(__name__)

MAX_TAGS = 30  # of one picture
MAX_TAG = 60  # characters


class Note(NamedTuple):
    favourite: bool = False
    tags: tuple[str, ...] = ()


def cleaned(tags: Iterable[object]) -> tuple[str, ...]:
    """Tags as they are kept: trimmed, each once. Raises BadRequest for what is none."""
    found: list[str] = []
    for tag in tags:
        if not isinstance(tag, str):
            raise BadRequest("A tag must be a word or a few.")
        text = " ".join(unicodedata.normalize("NFC", tag).split())
        if len(text) > MAX_TAG or not text.isprintable():
            raise BadRequest(f"The tag {text[:30]!r} is too long, or holds signs that cannot be shown: {MAX_TAG} "
                             "letters at most.")
        if text and text not in found:
            found.append(text)
    if len(found) > MAX_TAGS:
        raise BadRequest(f"{len(found)} tags are too many for one picture: at most {MAX_TAGS}.")
    return tuple(found)


class Notes:
    """path: of the file."""

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> dict[str, Note]:
        """All of them. A file that is damaged is put aside, and said so: the index still has what it knew."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            return {str(place): _note(value) for place, value in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            aside = self.path.with_name(self.path.name + ".damaged")
            log.warning("The favourites and tags in %s cannot be read (%s): the file is now %s.", self.path,
                        type(error).__name__, aside.name)
            try:
                self.path.replace(aside)
            except OSError:
                pass
            return {}

    def write(self, changes: Mapping[str, Note | None]) -> None:
        """Into what stands there now; None takes a picture's away. Raises OSError."""
        notes = {**self.read(), **changes}
        kept: dict[str, Any] = {place: {"favourite": note.favourite, "tags": list(note.tags)}
                                for place, note in sorted(notes.items()) if note and note != Note()}
        write_text(self.path, json.dumps(kept, ensure_ascii=False, indent=1))


def _note(value: Any) -> Note:
    try:
        return Note(value.get("favourite") is True, cleaned(value.get("tags", ())))
    except (BadRequest, AttributeError, TypeError):
        return Note()
