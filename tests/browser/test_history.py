"""What a person does with pictures that were made, in a real Chromium: the History tab, and pictures dropped."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from core.history import of
from tests.browser.test_text_to_image import generate, picture, prompt
from tests.browser.waiting import has_count, has_value, is_shown
from tests.fakes import FakeRunner
from tests.load.history_load import Loaded, fill, scroll
from tests.serving import THIRD_PARTY, Served, served
from tests.test_harmful_files import HARMFUL

pytestmark = [pytest.mark.browser, *(pytest.mark.filterwarnings(line) for line in THIRD_PARTY)]

FOREIGN = """a castle, (detailed:1.2) <img src=x onerror="window.harmed = true">
Negative prompt: lowres
Steps: 30, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 3489123, Size: 512x768, Model: v1-5-pruned, Clip skip: 2, \
Hires upscaler: 4x-UltraSharp, Version: v1.6.0"""
DROP = """async ([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name));
  const send = (kind) => document.querySelector("footer").dispatchEvent(
    new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
  send("dragover");
  window.veiled = document.querySelector(".veil").checkVisibility();
  send("drop");
}"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A studio of its own, so that its history holds what these tests make."""
    with served(tmp_path_factory.mktemp("history"), lambda: FakeRunner(0.02)) as running:
        yield running


def drop(page: Any, name: str, content: bytes) -> None:
    page.evaluate(DROP, [name, base64.b64encode(content).decode()])


def test_a_picture_is_found_kept_thrown_away_and_opened_again(visit: Any, own: Served) -> None:
    page = visit(own)
    for text, steps in (("a red boat on the sea", 5), ("a green hill", 4)):
        generate(page, text, steps)
        page.get_by_text(f"· {steps} steps ·").wait_for()
        picture(page, "Picture, finished").wait_for()
    prompt(page).fill("something else")
    page.get_by_role("tab", name="History").click()
    page.get_by_text("2 pictures").wait_for()
    pictures = page.get_by_role("list", name="Pictures").get_by_role("listitem")
    has_count(pictures, 2)
    page.get_by_role("searchbox", name="Search prompts").fill("boat")
    page.get_by_text("1 picture found").wait_for()
    has_count(pictures, 1)
    pictures.first.click()
    large = page.get_by_role("dialog")
    large.get_by_role("img", name="a red boat on the sea").wait_for()
    page.keyboard.press("f")
    page.wait_for_function("document.querySelector('[data-part=favourite]')?.ariaPressed === 'true'")
    large.get_by_role("textbox", name="New tag").fill("sea")
    page.keyboard.press("Enter")
    large.get_by_role("button", name="Remove the tag sea").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Show all").click()
    page.get_by_text("2 pictures").wait_for()
    page.get_by_role("button", name="Favourites").click()
    page.get_by_text("1 picture found").wait_for()
    assert pictures.first.get_attribute("aria-label").startswith("a red boat on the sea")
    pictures.first.focus()
    page.keyboard.press("Delete")
    page.get_by_text("0 pictures found").wait_for()
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("1 picture found").wait_for()
    page.get_by_role("button", name="Favourites").click()
    page.get_by_text("2 pictures").wait_for()
    pictures.first.click()
    large.get_by_role("img", name="a green hill").wait_for()
    page.keyboard.press("ArrowRight")
    large.get_by_role("img", name="a red boat on the sea").wait_for()
    large.get_by_role("button", name="Open in Text to image").click()
    page.wait_for_function("document.querySelector('#prompt textarea')?.value === 'a red boat on the sea'")
    is_shown(prompt(page))
    has_value(page.get_by_role("spinbutton", name="Steps", exact=True), "5")


def test_what_is_done_while_a_picture_is_fetched_is_not_done_to_the_one_before(visit: Any, tmp_path: Path) -> None:
    fill(tmp_path / "outputs", 2)
    with served(tmp_path, lambda: FakeRunner(0.02)) as running:
        page = visit(running)
        page.get_by_role("tab", name="History").click()
        page.get_by_role("list", name="Pictures").get_by_role("listitem").first.click()
        large = page.get_by_role("dialog", name="Picture of the history")
        has_count(large.get_by_role("img"), 1)
        held: list[Any] = []
        page.route("**/component_server/**", lambda route: held.append(route))  # the studio takes its time
        page.keyboard.press("ArrowRight")
        page.keyboard.press("f")
        page.keyboard.press("Delete")
        page.wait_for_timeout(300)
        asked = [route.request.post_data_json["fn_name"] for route in held]
        assert "detail" in asked and "change" not in asked
        for route in held:
            route.continue_()
        page.unroute("**/component_server/**")
        is_shown(large.get_by_role("button", name="Favourite", pressed=False))
        page.keyboard.press("Escape")
        page.get_by_text("2 pictures").wait_for()


def test_a_foreign_picture_dropped_onto_the_page_brings_its_settings(visit: Any, own: Served, tmp_path: Path) -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", FOREIGN)
    Image.new("RGB", (64, 64)).save(tmp_path / "foreign.png", pnginfo=chunks)
    page = visit(own)
    page.get_by_role("tab", name="History").click()
    drop(page, "foreign.png", (tmp_path / "foreign.png").read_bytes())
    assert page.evaluate("window.veiled")
    page.get_by_text("Settings of foreign.png, by Automatic1111").wait_for()
    is_shown(prompt(page))
    has_value(prompt(page), FOREIGN.split("\n")[0])
    has_value(page.get_by_role("textbox", name="Negative prompt", exact=True), "lowres")
    has_value(page.get_by_role("spinbutton", name="Steps", exact=True), "30")
    page.get_by_text("Its model, v1-5-pruned, is not here: storybook stays.").wait_for()
    is_shown(page.get_by_text("4x-UltraSharp"))
    page.get_by_role("button", name="More").click()
    page.wait_for_function("document.querySelector('[aria-label=Seed]')?.value === '3489123'")
    has_value(page.get_by_role("spinbutton", name="Width"), "512")
    has_value(page.get_by_role("spinbutton", name="Clip skip"), "2")
    has_value(page.get_by_label("Schedule", exact=True), "Karras")
    assert not page.evaluate("window.harmed")
    drop(page, "nonsense.png", b"hello")
    page.get_by_text(re.compile("nonsense.png is not a picture that can be read")).wait_for()
    for name in ("gigapixels.png", "packed.png"):
        drop(page, name, HARMFUL[name])
        is_shown(page.locator(".arrival[data-kind=error]").get_by_text(name))
    has_value(prompt(page), FOREIGN.split("\n")[0])  # what stood there stays


def test_scrolling_to_the_end_of_many_pictures_loads_what_is_in_sight(visit: Any, tmp_path: Path) -> None:
    fill(tmp_path / "outputs", 900)
    of(tmp_path / "outputs").scan()
    with served(tmp_path, lambda: FakeRunner(0)) as many:
        page = visit(many)
        loaded = Loaded(page)
        page.get_by_role("tab", name="History").click()
        is_shown(page.get_by_role("listitem", name="boat 899"))
        scroll(page, 1.0)
        is_shown(page.get_by_role("listitem", name="boat 0 "))
        assert {0, 840} <= loaded.offsets and len(loaded.offsets) <= 5, loaded.offsets  # of 15
        assert loaded.thumbs <= 200 and page.get_by_role("listitem").count() <= 100


def test_regions_of_a_picture_come_back_from_the_history(visit: Any, own: Served) -> None:
    page = visit(own)
    page.get_by_role("tab", name="Regions").click()
    page.get_by_label("Start from a layout").select_option("Living room")
    page.get_by_role("textbox", name="Prompt of sofa").wait_for()
    page.get_by_role("button", name="Generate").click()
    picture(page, "Picture, finished").wait_for()
    page.get_by_role("button", name="Clear everything").click()
    page.get_by_role("textbox", name="Prompt of sofa").wait_for(state="hidden")
    page.get_by_role("tab", name="History").click()
    page.get_by_role("list", name="Pictures").get_by_role("listitem").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Open in Regions").click()
    page.get_by_role("textbox", name="Prompt of sofa").wait_for()
