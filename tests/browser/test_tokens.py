"""The token counts beside the prompts, in a real Chromium."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serving import THIRD_PARTY, Served

pytestmark = [pytest.mark.browser, *(pytest.mark.filterwarnings(line) for line in THIRD_PARTY)]


def says(place: Any, text: str) -> None:
    """Wait until a place holds exactly this text."""
    place.page.wait_for_function("([place, text]) => place.textContent === text", arg=[place.element_handle(), text])


def test_tokens_are_counted_while_typing_and_chunk_ends_are_told(visit: Any, fake: Served) -> None:
    page = visit(fake)
    prompt = page.get_by_role("textbox", name="Prompt", exact=True)
    negative = page.get_by_role("textbox", name="Negative prompt").first
    place, other = (page.locator(f"[data-count='txt2img:{name}']") for name in ("prompt", "negative_prompt"))
    says(place, "0/75")
    prompt.fill("a (red:1.3) boat")
    says(place, "3/75")
    negative.fill("a AND [b|a red boat]")
    says(other, "5/75")
    prompt.fill("a boat on the sea, " * 14)
    says(place, "87/150 · a chunk ends after “on the sea,”")
    label, count = page.locator("label", has=prompt).first.bounding_box(), place.bounding_box()
    assert label and count and abs(label["y"] - count["y"]) < 8  # on the label's line, above the field
    assert count["x"] + count["width"] <= label["x"] + label["width"] + 1
    prompt.fill("a boat <lora:x:0.8>")
    page.get_by_text("No LoRA named 'x'").wait_for()
    says(place, "2/75")  # it is no part of the text
    prompt.fill("a (boat:1.2.3)")
    page.get_by_text("is no number: write it like (word:1.2)").wait_for()
    says(place, "")
    prompt.fill("")
    says(place, "0/75")
