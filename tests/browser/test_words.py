"""Words at hand: chips, completions and ideas in the prompt, in a real Chromium."""

from __future__ import annotations

import re
from typing import Any

import pytest

from core.storybook.vocabulary import unknown_words
from tests.browser.test_text_to_image import prompt
from tests.browser.waiting import has_value
from tests.serving import THIRD_PARTY, Served

pytestmark = [pytest.mark.browser, *(pytest.mark.filterwarnings(line) for line in THIRD_PARTY)]


def test_unknown_words_are_pointed_out_while_typing_and_known_ones_are_at_hand(visit: Any, fake: Served) -> None:
    page = visit(fake)
    prompt(page).press_sequentially("a red frobnicator")
    page.get_by_text("Storybook does not know: frobnicator.").wait_for()
    prompt(page).fill("a red")
    page.get_by_text("Words Storybook knows").click()
    page.get_by_role("button", name="umbrella", exact=True).click()
    page.wait_for_function("document.querySelector('#prompt textarea')?.value === 'a red umbrella'")
    page.get_by_text("Storybook does not know").wait_for(state="detached")


def test_words_are_completed_while_typing_by_the_keyboard_alone(visit: Any, fake: Served) -> None:
    page = visit(fake)
    choices = page.get_by_role("listbox", name="Words at hand")
    prompt(page).press_sequentially("a red cou")
    choices.get_by_role("option", name=re.compile("couch.*same as sofa")).wait_for()
    page.keyboard.press("Tab")
    has_value(prompt(page), "a red couch")
    prompt(page).press_sequentially(" in a livi")
    page.keyboard.press("ArrowDown")  # one choice only: it comes round
    page.keyboard.press("Enter")
    has_value(prompt(page), "a red couch in a living room")
    prompt(page).press_sequentially(", pi")  # pine tree, pink and more
    assert choices.get_by_role("option").count() > 1
    page.keyboard.press("Escape")
    choices.wait_for(state="hidden")
    page.keyboard.press("Enter")
    has_value(prompt(page), "a red couch in a living room, pi\n")  # a line of its own, as ever
    prompt(page).press_sequentially("frobn")
    choices.wait_for(state="hidden")


def test_what_a_chip_writes_is_not_completed(visit: Any, fake: Served) -> None:
    page = visit(fake)
    prompt(page).press_sequentially("a red star")
    page.get_by_role("option", name=re.compile("starry sky")).wait_for()  # as it is while typing
    page.keyboard.press("Escape")
    prompt(page).fill("a red")
    page.get_by_text("Words Storybook knows").click()
    page.get_by_role("button", name="star", exact=True).click()
    has_value(prompt(page), "a red star")
    assert page.get_by_role("listbox", name="Words at hand").count() == 0  # it would lie over the chips


def test_a_surprise_is_a_prompt_the_model_knows_and_can_be_taken_back(visit: Any, fake: Served) -> None:
    page = visit(fake)
    prompt(page).press_sequentially("my own words")
    page.get_by_role("button", name="Surprise me").click()
    page.wait_for_function("document.querySelector('#prompt textarea')?.value !== 'my own words'")
    first = prompt(page).input_value()
    assert len(first) > 8 and unknown_words(first) == []
    page.get_by_role("button", name="Surprise me").click()
    page.wait_for_function("before => document.querySelector('#prompt textarea')?.value !== before", arg=first)
    prompt(page).focus()
    for before in (first, "my own words"):
        page.keyboard.press("Control+z")
        has_value(prompt(page), before)
