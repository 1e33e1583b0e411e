"""What a page must come to show: each waits up to a minute, since a page answers when the machine has time for it."""

from __future__ import annotations

from typing import Any

TIMEOUT = 60_000  # ms


def _expect(locator: Any) -> Any:
    from playwright.sync_api import expect  # where Playwright is missing these tests are skipped, not broken

    return expect(locator)


def has_value(field: Any, value: str) -> None:
    _expect(field).to_have_value(value, timeout=TIMEOUT)


def has_count(found: Any, count: int) -> None:
    _expect(found).to_have_count(count, timeout=TIMEOUT)


def has_attribute(element: Any, name: str, value: str) -> None:
    _expect(element).to_have_attribute(name, value, timeout=TIMEOUT)


def is_shown(element: Any) -> None:
    _expect(element).to_be_visible(timeout=TIMEOUT)


def is_ticked(box: Any, ticked: bool = True) -> None:
    _expect(box).to_be_checked(checked=ticked, timeout=TIMEOUT)


def says(element: Any, text: str) -> None:
    """The text is a part of what the element shows."""
    _expect(element).to_contain_text(text, timeout=TIMEOUT)
