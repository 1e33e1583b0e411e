"""LoRAs and textual inversions at hand: chips, completions and early refusals, in a real Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import diffusers
import pytest

from core.models.catalogue import Catalogue
from tests.browser.test_regions import canvas, regions_tab, rest
from tests.browser.test_text_to_image import prompt
from tests.browser.waiting import says
from tests.checkpoints import make_stable_diffusion
from tests.fakes import FakeRunner
from tests.loras import embedding, frequencies, kohya
from tests.originals import make_pipeline
from tests.serving import THIRD_PARTY, Served, served

pytestmark = [pytest.mark.browser, *(pytest.mark.filterwarnings(line) for line in THIRD_PARTY)]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A studio with a model, two LoRAs that fit it, one that does not, a broken one and a textual inversion."""
    folder = tmp_path_factory.mktemp("shelf")
    make_stable_diffusion(folder / "eps")
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder / "eps")
    kohya(pipe, folder / "lora/Ink Drawing.safetensors", notes=frequencies(ink_drawing=40, line_art=12))
    kohya(pipe, folder / "lora/people/anna_v2.safetensors", notes={"modelspec.trigger_phrase": "anna"})
    kohya(make_pipeline("sdxl"), folder / "lora/xl-glow.safetensors")
    (folder / "lora/torn.safetensors").write_bytes(b"")
    embedding(folder / "embeddings/badhands.safetensors", [32], vectors=3)
    with served(tmp_path_factory.mktemp("out"), lambda: FakeRunner(0.02), Catalogue(folder), "eps") as running:
        yield running


def holds(page: Any, selector: str, text: str) -> None:
    page.wait_for_function("([place, text]) => document.querySelector(place)?.value === text", arg=[selector, text])


def test_a_click_adds_a_lora_and_its_words_and_typing_completes_its_name(visit: Any, shelf: Served) -> None:
    page = visit(shelf)
    box = page.locator(".bench-prompt")
    box.get_by_text("LoRAs and textual inversions").click()
    box.get_by_role("button", name="Ink Drawing", exact=True).click()
    box.get_by_role("button", name="line art", exact=True).click()
    holds(page, "#prompt textarea", "<lora:Ink Drawing:1> line art")
    assert page.locator("[data-count='txt2img:prompt']").text_content() != ""
    box.get_by_text("1 for other models: xl-glow.").wait_for()
    box.get_by_text("torn: ").wait_for()
    says(box, "is empty")
    choices = page.get_by_role("listbox", name="Words at hand")
    prompt(page).fill("a boat ")
    prompt(page).press_sequentially("<lora:ann")
    choices.get_by_role("option", name=re.compile("anna_v2.*LoRA")).wait_for()
    page.keyboard.press("Tab")
    holds(page, "#prompt textarea", "a boat <lora:anna_v2:1>")
    prompt(page).press_sequentially(", bad")
    choices.get_by_role("option", name=re.compile("badhands.*textual inversion")).wait_for()
    page.keyboard.press("Enter")
    holds(page, "#prompt textarea", "a boat <lora:anna_v2:1>, badhands")
    # "," and "boat", letter by letter in this model's vocabulary, and the word's three vectors; nothing of the LoRA
    page.wait_for_function("document.querySelector('[data-count=\"txt2img:prompt\"]')?.textContent.startsWith('9/')")


def test_a_name_that_is_not_there_or_not_for_this_model_is_told_beside_the_prompt(visit: Any, shelf: Served) -> None:
    page = visit(shelf)
    prompt(page).fill("a boat <lora:ana_v2:0.8>")
    page.get_by_text("No LoRA named 'ana_v2'. Did you mean 'anna_v2'?").wait_for()
    prompt(page).fill("a boat <lora:xl-glow:0.8>")
    page.get_by_text("The LoRA 'xl-glow' is made for Stable Diffusion XL, and eps is none: choose").wait_for()
    prompt(page).fill("a boat <lora:anna_v2:0.8>")
    page.get_by_text("The LoRA 'xl-glow'").wait_for(state="detached")
    page.get_by_role("button", name="Generate").first.click()
    page.get_by_role("img", name="Picture, finished").wait_for()


def test_a_regions_prompt_takes_one_of_its_own(visit: Any, shelf: Served) -> None:
    page = regions_tab(visit(shelf))
    page.get_by_role("button", name="Add region").click()
    canvas(page).focus()
    page.keyboard.press("Enter")  # a box in the middle
    own = page.locator(".region-list textarea.region-prompt").first
    own.fill("a red boat")
    box = page.locator(".regions-paint")
    box.get_by_text("LoRAs and textual inversions").click()
    box.get_by_role("button", name="anna_v2", exact=True).click()
    holds(page, ".region-list textarea.region-prompt", "a red boat <lora:anna_v2:1>")
    status = page.locator('[data-line="regions:status"]')
    rest(page).fill("the sea")
    # 20 steps: the region's and the rest's own passes without a prompt are two, not one
    page.wait_for_function("place => place.textContent.includes('80 evaluations')", arg=status.element_handle())
    own.fill("a red boat <lora:nobody:1>")
    page.get_by_text("No LoRA named 'nobody'").wait_for()
