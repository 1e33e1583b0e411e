"""What the Regions tab keeps, in files and in the browser, and what it tells after a run; in a real Chromium."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.request import Request
from tests.browser.test_regions import drag, layout, masks, paint_two, prompt_of, regions_tab
from tests.browser.waiting import has_count, has_value, is_shown
from tests.fakes import FakeRunner
from tests.serving import THIRD_PARTY, Served

pytestmark = [pytest.mark.browser, *(pytest.mark.filterwarnings(line) for line in THIRD_PARTY)]


def save(page: Any, path: Path) -> None:
    """The layout, as the Save button downloads it."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Save", exact=True).click()
    download.value.save_as(path)


def test_a_layout_is_kept_as_one_file_and_opened_again(visit: Any, fake: Served, tmp_path: Path) -> None:
    page = regions_tab(visit(fake))
    paint_two(page)
    before = masks(page)
    save(page, tmp_path / "layout.json")
    other = regions_tab(visit(fake))
    other.get_by_label("Layout or picture file").set_input_files(tmp_path / "layout.json")
    prompt_of(other, "region 2").wait_for()
    assert masks(other) == before
    request = Request(**{**json.loads((tmp_path / "layout.json").read_text()), "steps": 3})
    assert [region.prompt for region in request.regions] == ["a red sofa", "a green house plant"]


def test_a_half_finished_layout_is_kept_too_and_hidden_regions_stay_hidden(visit: Any, fake: Served,
                                                                            tmp_path: Path) -> None:
    page = regions_tab(visit(fake))
    paint_two(page)
    page.get_by_role("button", name="Hide region 1").click()
    page.get_by_role("button", name="Add region").click()
    prompt_of(page, "region 3").fill("a cat, not painted yet")
    page.get_by_role("button", name="Add region").click()
    drag(page, (0.7, 0.1), (0.9, 0.1))  # painted, without a prompt
    before = layout(page)["regions"]
    save(page, tmp_path / "layout.json")
    other = regions_tab(visit(fake))
    other.get_by_label("Layout or picture file").set_input_files(tmp_path / "layout.json")
    prompt_of(other, "region 4").wait_for()
    assert layout(other)["regions"] == before
    assert [region["visible"] for region in before] == [False, True, True, True]
    page.reload()
    assert layout(regions_tab(page))["regions"] == before


def test_what_was_typed_since_the_last_run_survives_a_reload(visit: Any, fake: Served) -> None:
    page = regions_tab(visit(fake))
    page.get_by_role("textbox", name="Negative prompt", exact=True).fill("people")
    page.get_by_role("button", name="More").click()
    steps, crops = (page.get_by_role("spinbutton", name=name, exact=True)
                    for name in ("Steps", "Crops after, % of the steps"))
    for field, value in ((steps, "7"), (crops, "35")):
        field.fill(value)
        field.blur()
    page.wait_for_function("""() => ['"people"', '"7"', '"35"'].every(
        (value) => sessionStorage.getItem('latent-loom.regions')?.includes(value))""")
    regions_tab(page.reload() and page)
    page.wait_for_function("document.querySelector('.regions-bench [aria-label=Steps]')?.value === '7'")
    has_value(page.get_by_role("textbox", name="Negative prompt", exact=True), "people")
    page.get_by_role("button", name="More").click()
    has_value(crops, "35")


def test_after_a_run_each_region_tells_how_sure_its_thing_is_there(visit: Any, fake: Served, monkeypatch: Any) -> None:
    monkeypatch.setattr(FakeRunner, "scores", lambda *asked: [{1: 0.93, 2: 0.2}])
    page = regions_tab(visit(fake))
    paint_two(page)
    has_count(page.locator(".region-score:visible"), 0)
    page.get_by_role("button", name="Generate").click()
    page.get_by_text("found 0.9", exact=True).wait_for()
    page.get_by_text("weak 0.2", exact=True).wait_for()
    is_shown(page.get_by_text("region 2: weak. More bootstrapping or a larger mask may bring it out."))
    prompt_of(page, "region 2").fill("a blue house plant")  # which the scorer has not judged
    has_count(page.locator(".region-score:visible"), 1)
