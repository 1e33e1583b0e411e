"""Presets in a real Chromium: saved, there after a reload, applied without losing what was typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser.test_regions import layout, paint_two, prompt_of, regions_tab
from tests.browser.waiting import has_count, has_value
from tests.serving import THIRD_PARTY, Served

pytestmark = [pytest.mark.browser, *(pytest.mark.filterwarnings(line) for line in THIRD_PARTY)]
NAME = "<img src=x onerror=alert(1)>"


def box(page: Any) -> Any:
    """The box of the tab in sight, opened."""
    page.get_by_role("button", name="Presets").click()
    found = page.locator(".presets:visible")
    found.get_by_role("button", name="Apply").wait_for()
    return found


def test_a_saved_form_is_applied_after_a_reload(visit: Any, fake: Served) -> None:
    page = visit(fake)
    steps = page.get_by_role("spinbutton", name="Steps", exact=True).first
    prompt = page.get_by_role("textbox", name="Prompt", exact=True).first
    steps.fill("7")
    prompt.fill("a red boat")
    presets = box(page)
    presets.get_by_label("Save as").click()
    page.get_by_role("option", name="Settings:").click()
    presets.get_by_role("button", name="Save the form").click()
    presets.get_by_text("needs a name").wait_for()
    presets.get_by_label("Name").fill(NAME)
    presets.get_by_role("button", name="Save the form").click()
    presets.get_by_text("Saved").wait_for()
    has_value(prompt, "a red boat")
    steps.fill("9")

    page.reload()
    page.wait_for_function("document.querySelector('#prompt textarea')?.value === 'a red boat'")
    presets = box(page)
    presets.get_by_label("Preset", exact=True).click()
    page.get_by_role("option", name=f"Settings: {NAME}").click()
    presets.get_by_role("button", name="Apply").click()
    presets.get_by_text("Applied.").wait_for()
    has_value(steps, "7")
    has_value(prompt, "a red boat")
    assert page.locator("img[src=x]").count() == 0

    presets.get_by_role("button", name="Delete").click()
    presets.get_by_text("Deleted").wait_for()
    presets.get_by_role("button", name="Apply").click()
    presets.get_by_text("No preset is chosen").wait_for()


def test_a_saved_or_imported_style_is_offered_in_the_form(visit: Any, fake: Served, tmp_path: Path) -> None:
    page = visit(fake)
    (tmp_path / "styles.csv").write_text("name,prompt,negative_prompt\nFilm grain,grain,blur\n,,\nBad/name,x,\n")
    presets = box(page)
    with page.expect_file_chooser() as chooser:
        presets.get_by_role("button", name="Import styles.csv").click()
    chooser.value.set_files(tmp_path / "styles.csv")
    presets.get_by_text("Styles that came: 1. Line 4 did not come").wait_for()
    presets.get_by_label("Preset", exact=True).click()
    page.get_by_role("option", name="Style: Film grain").click()
    presets.get_by_role("button", name="Apply").click()
    presets.get_by_text("Applied.").wait_for()
    has_value(page.get_by_label("Style", exact=True).first, "Film grain")


def choose(page: Any, presets: Any, name: str) -> None:
    presets.get_by_label("Preset", exact=True).click()
    page.get_by_role("option", name=name).click()
    presets.get_by_role("button", name="Apply").click()
    presets.get_by_text("Applied.").wait_for()


def save(presets: Any, name: str) -> None:
    presets.get_by_label("Name").fill(name)
    presets.get_by_role("button", name="Save the form").click()
    presets.get_by_text(f"Saved '{name}'.").wait_for()


def test_regions_save_what_is_painted_as_a_layout_and_the_rest_as_settings(visit: Any, fake: Served) -> None:
    page = regions_tab(visit(fake))
    paint_two(page)
    painted = layout(page)["regions"]
    steps, size = (page.get_by_role("spinbutton", name=name, exact=True) for name in ("Steps", "Width"))
    presets = box(page)
    save(presets, "Two things")
    steps.fill("9")
    page.get_by_role("button", name="Size and panorama").click()
    size.fill("320")
    size.blur()
    page.wait_for_function("JSON.parse(sessionStorage.getItem('latent-loom.layout')).width === 320")
    presets.get_by_label("Save as").click()
    page.get_by_role("option", name="Settings:").click()
    save(presets, "Wide, few steps")
    page.get_by_label("Start from a layout").get_by_role("option", name="Two things").wait_for(state="attached")

    page.get_by_role("button", name="Clear everything").click()
    page.wait_for_function("JSON.parse(sessionStorage.getItem('latent-loom.layout')).regions.length === 0")
    page.reload()
    presets = box(regions_tab(page))
    page.get_by_role("button", name="Size and panorama").click()
    choose(page, presets, "Layout: Two things")
    prompt_of(page, "region 2").wait_for()
    assert layout(page)["regions"] == painted
    has_value(size, "256")
    steps.fill("5")
    choose(page, presets, "Settings: Wide, few steps")
    has_value(steps, "9")
    has_value(size, "320")
    page.wait_for_function("JSON.parse(sessionStorage.getItem('latent-loom.layout')).width === 320")
    assert [region["prompt"] for region in layout(page)["regions"]] == [region["prompt"] for region in painted]

    presets.get_by_label("Preset", exact=True).click()
    page.get_by_role("option", name="Layout: Two things").click()
    presets.get_by_role("button", name="Delete").click()
    presets.get_by_text("Deleted 'Two things'.").wait_for()
    has_count(page.get_by_label("Start from a layout").get_by_role("option", name="Two things"), 0)
    page.get_by_role("tab", name="Text to image").click()  # what was saved there is offered here
    presets = box(page)
    choose(page, presets, "Settings: Wide, few steps")
    has_value(page.get_by_role("spinbutton", name="Steps", exact=True).first, "9")
