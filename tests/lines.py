"""What a message for people looks like."""

from __future__ import annotations

import re


def assert_one_line(error: object, longest: int = 400) -> None:
    """One line, not a traceback, printable, with an end."""
    text = str(error)
    assert text.strip() == text and len(text.splitlines()) == 1, repr(text)
    assert len(text) <= longest, f"{len(text)} characters: {text}"
    assert text.isprintable(), repr(text)
    assert not re.search(r"Traceback|File \"|object at 0x", text), text
    assert text.endswith((".", "?")), text
