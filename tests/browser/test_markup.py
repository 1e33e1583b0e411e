"""Text that looks like markup stays text, wherever the page shows it: real Chromium."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from core import metadata
from core.errors import BadRequest
from core.models.catalogue import Catalogue
from core.request import Request
from tests.browser.test_history import drop
from tests.browser.test_presets import box
from tests.browser.test_regions import regions_tab
from tests.browser.test_text_to_image import generate
from tests.browser.waiting import is_shown, says
from tests.checkpoints import make_stable_diffusion
from tests.fakes import FakeRunner
from tests.holding import hold
from tests.loras import embedding, kohya
from tests.serving import THIRD_PARTY, Served, served
from ui.stream import Desk

pytestmark = [pytest.mark.browser, *(pytest.mark.filterwarnings(line) for line in THIRD_PARTY)]
EVIL = "<img src=x onerror=\"window.harmed='yes'\"><script>window.harmed='yes'</script><b id=evil>a boat</b>"
NAME = "<img src=x onerror=window.harmed=1><b id=evil>boat"  # of a file: without a slash

WORD = "&lt;img src=x onerror=window.harmed=1&gt;"  # of a LoRA's notes, which come without < and >


def unharmed(page: Any) -> None:
    page.wait_for_timeout(300)  # a picture that cannot be fetched says so a little later
    assert page.evaluate("window.harmed") is None
    assert page.evaluate("document.querySelectorAll('#evil, img[src=x]').length") == 0


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path, lambda: FakeRunner(0.05, records=True)) as studio:
        yield studio


def test_no_script_of_a_prompt_runs_anywhere(visit: Any, own: Served) -> None:
    page = visit(own)
    page.get_by_role("textbox", name="Negative prompt", exact=True).fill(EVIL)
    with hold(1):
        generate(page, EVIL, 8)
        page.get_by_role("button", name="Queue").click()
        is_shown(page.locator(".queue-panel").get_by_text("a boat").first)
        unharmed(page)
        page.keyboard.press("Escape")
    page.get_by_role("img", name="Picture, finished").wait_for()
    unharmed(page)
    page.get_by_role("tab", name="Live preview").click()
    page.get_by_role("img", name="x0, step 8 of 8").wait_for()
    is_shown(page.locator(".inspector").get_by_text("a boat").first)
    unharmed(page)
    page.get_by_role("tab", name="History").click()
    page.get_by_role("list", name="Pictures").get_by_role("listitem").first.click()
    is_shown(page.get_by_role("dialog").get_by_text("a boat").first)
    unharmed(page)
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Regions").click()
    page.get_by_label("Start from a layout").select_option("Living room")
    page.get_by_role("textbox", name="Prompt of sofa").fill(EVIL)
    page.get_by_role("button", name="Generate").click()
    page.get_by_role("img", name="Picture, finished").wait_for()
    unharmed(page)
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("textbox", name="Prompt", exact=True).fill(EVIL)
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_function("document.querySelector('[data-part=board]')?.dataset.state === 'done'")
    unharmed(page)


@pytest.fixture
def named(tmp_path: Path) -> Iterator[Served]:
    """A studio in which everything that has a name has a hostile one."""
    models = tmp_path / "models"
    make_stable_diffusion(models / NAME)
    (models / NAME / "README.md").write_text(f"---\nlicense: {EVIL}\n---\n")
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(models / NAME)
    kohya(pipe, models / "lora" / f"a {NAME}.safetensors", notes={
        "modelspec.trigger_phrase": WORD, "modelspec.title": EVIL,
        "ss_tag_frequency": json.dumps({"10_a": {f"{WORD} too": 9}})})
    (models / "lora" / f"torn{NAME}.safetensors").write_bytes(b"")
    embedding(models / "embeddings" / f"{NAME}.safetensors", [32])
    (tmp_path / "outputs").mkdir()
    metadata.save_png(np.zeros((64, 64, 3), np.uint8), tmp_path / "outputs" / f"{NAME}.png",
                      Request(prompt=EVIL, negative_prompt=EVIL, model=NAME))
    (tmp_path / "outputs" / f"torn{NAME}.png").write_bytes(b"x")
    with served(tmp_path, lambda: FakeRunner(0.02, records=True), Catalogue(models), NAME) as studio:
        yield studio


def test_names_of_models_loras_and_words_stay_text(visit: Any, named: Served) -> None:
    page = visit(named)
    page.get_by_label("Model", exact=True).click()
    is_shown(page.get_by_role("option", name=NAME))
    unharmed(page)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Models", exact=True).click()
    dialog = page.get_by_role("dialog", name="Models")
    is_shown(dialog.get_by_role("list", name="Models").get_by_text(NAME).first)
    dialog.get_by_role("button", name="Licence of").click()
    is_shown(dialog.locator(".model-licence", has_text=EVIL))
    unharmed(page)
    page.keyboard.press("Escape")
    chips = page.locator(".bench-prompt")
    chips.get_by_text("LoRAs and textual inversions").click()
    for word in (WORD, f"{WORD} too"):
        is_shown(chips.get_by_role("button", name=word, exact=True))
    is_shown(chips.get_by_text(f"torn{NAME}"))
    unharmed(page)
    for chip in chips.get_by_role("button", name=NAME).all():
        chip.click()
    page.get_by_role("textbox", name="Prompt", exact=True).press_sequentially(" <lora:a")
    is_shown(page.get_by_role("listbox", name="Words at hand").get_by_text(f"a {NAME}").first)
    unharmed(page)
    generate(page, "<lora:nobody:1>")
    is_shown(page.get_by_text("No LoRA named 'nobody'"))  # with the names there are
    unharmed(page)
    page.get_by_role("textbox", name="Prompt", exact=True).fill("a boat")
    page.get_by_role("button", name="Generate").click()
    page.get_by_role("img", name="Picture, finished").wait_for()
    unharmed(page)


def test_names_of_files_tags_and_settings_stay_text(visit: Any, named: Served) -> None:
    page = visit(named)
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", f"{EVIL}\nNegative prompt: {EVIL}\nSteps: 20, Sampler: {NAME}, Model: {NAME}2, "
                                  f"Refiner: {NAME}, Hires {NAME}: {NAME}, Seed: 1")
    path = named.studio.jobs.outputs / "foreign.png"
    Image.new("RGB", (64, 64)).save(path, pnginfo=chunks)
    for content, line in ((path.read_bytes(), f"Settings of {NAME}.png"), (b"x", f"{NAME}.png is not a picture")):
        drop(page, f"{NAME}.png", content)
        is_shown(page.locator(".arrival").get_by_text(line))
        unharmed(page)
    page.get_by_role("tab", name="History").click()
    says(page.locator(".history [data-part=note]"), f"torn{NAME}")
    pictures = page.get_by_role("list", name="Pictures").get_by_role("listitem")
    for number in range(2):
        pictures.nth(number).click()
        large = page.get_by_role("dialog", name="Picture of the history")
        is_shown(large.locator("[data-part=prompt]", has_text="a boat"))
        large.get_by_role("textbox", name="New tag").fill(NAME)
        page.keyboard.press("Enter")
        is_shown(large.get_by_role("button", name=f"Remove the tag {NAME}"))
        unharmed(page)
        page.keyboard.press("Escape")
    page.get_by_label("Tag", exact=True).select_option(label=NAME)
    page.get_by_text("2 pictures found").wait_for()
    unharmed(page)


def test_names_of_presets_regions_and_failures_stay_text(visit: Any, own: Served,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    page = visit(own)
    page.get_by_role("textbox", name="Prompt", exact=True).fill(EVIL)
    presets = box(page)
    for kind in ("Style:", "Settings:", "Negative prompt"):
        page.get_by_role("textbox", name="Negative prompt", exact=True).fill(EVIL)
        presets.get_by_label("Save as").click()
        page.get_by_role("option", name=kind).click()
        presets.get_by_label("Name").fill(NAME)
        presets.get_by_role("button", name="Save the form").click()
        is_shown(presets.get_by_text(f"Saved '{NAME}'."))
        presets.get_by_role("button", name="Apply").click()
        presets.get_by_text("Applied.").wait_for()
        unharmed(page)
    layout = {"prompt": EVIL, "regions": [{"name": EVIL, "prompt": EVIL, "box": [0, 0, 0.5, 0.5]}]}
    regions_tab(page).get_by_label("Layout or picture file").set_input_files(
        {"name": f"{NAME}.json", "mimeType": "application/json", "buffer": json.dumps(layout).encode()})
    page.get_by_role("textbox", name=f"Prompt of {EVIL}").wait_for()
    unharmed(page)
    page.get_by_role("button", name="Generate").click()
    page.get_by_role("img", name="Picture, finished").wait_for()
    unharmed(page)

    def fail(*_: object) -> None:
        raise BadRequest(f"There is no {EVIL} here.")

    monkeypatch.setattr(Desk, "lost", fail)  # gradio tells of an event that fails in HTML
    page.get_by_role("button", name="Generate").click()
    is_shown(page.get_by_test_id("toast-body").get_by_text(EVIL))
    unharmed(page)
