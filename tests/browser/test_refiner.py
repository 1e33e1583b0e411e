"""SDXL's refiner in the forms: there for SDXL alone, kept by the browser, and in the picture that comes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core import metadata
from core.engine import Engine
from core.models.catalogue import Catalogue
from tests.browser import test_compare as comparing
from tests.browser.test_regions import DROP, drag, prompt_of, regions_tab, rest
from tests.browser.waiting import has_value, is_shown, says
from tests.loras import kohya
from tests.originals import make_pipeline, write_original
from tests.serving import THIRD_PARTY, Served, served

pytestmark = [pytest.mark.browser, *(pytest.mark.filterwarnings(line) for line in THIRD_PARTY)]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("shelf")
    for kind in ("sdxl", "refiner"):
        pipe = make_pipeline(kind)
        pipe.save_pretrained(folder / kind)
    write_original(make_pipeline("sd1"), folder / "sd1.safetensors")
    kohya(make_pipeline("sdxl"), folder / "lora/glow.safetensors")
    catalogue = Catalogue(folder)
    with served(tmp_path_factory.mktemp("real"), lambda: Engine(catalogue, "cpu"), catalogue, "sdxl") as running:
        running.studio.library.look()
        running.studio.library.wait()
        yield running


def refiner(page: Any) -> Any:
    return page.get_by_label("Refiner", exact=True).locator("visible=true")


def takes_over(page: Any) -> Any:
    return page.get_by_label("Takes over at").and_(page.locator("input, textarea")).locator("visible=true")


def choose(page: Any, share: str) -> None:
    page.get_by_role("button", name="More").locator("visible=true").first.click()
    refiner(page).click()
    page.get_by_role("option", name="refiner").click()
    takes_over(page).fill(share)
    takes_over(page).blur()


def choose_model(page: Any, name: str) -> None:
    page.get_by_label("Model", exact=True).click()
    page.get_by_role("option", name=name, exact=True).click()


def made(page: Any, studio: Served) -> Path:
    """The file of the picture that Generate makes."""
    outputs = Path(studio.studio.jobs.outputs)
    before = set(outputs.glob("**/*.png"))
    page.get_by_role("button", name="Generate", exact=True).locator("visible=true").click()
    page.get_by_role("img", name="Picture, finished").locator("visible=true").wait_for(timeout=120_000)
    for _ in range(1200):
        if new := set(outputs.glob("**/*.png")) - before:
            return new.pop()
        page.wait_for_timeout(100)
    raise AssertionError("no picture after two minutes")


def test_the_refiner_is_offered_for_sdxl_and_takes_part_in_the_picture(visit: Any, studio: Served) -> None:
    page = visit(studio)
    page.get_by_role("textbox", name="Prompt", exact=True).fill("a boat <lora:glow:1>")
    choose(page, "0.5")
    says(page.locator('[data-line="txt2img:prompt"]'), "LoRAs change the model alone")
    found = metadata.read_png(made(page, studio))
    assert (found.refiner, found.refiner_from) == ("refiner", 0.5)


def test_regions_are_refined_by_the_same_fields_which_a_picture_and_a_reload_bring_back(visit: Any,
                                                                                       studio: Served) -> None:
    page = regions_tab(visit(studio))
    drag(page, (0.3, 0.6), (0.7, 0.6))
    prompt_of(page, "region 1").fill("a boat <lora:glow:1>")
    rest(page).fill("the sea")
    choose(page, "0.4")
    says(page.locator('[data-line="regions:regions"]'), "LoRAs change the model alone")
    path = made(page, studio)
    found = metadata.read_png(path)
    assert (found.refiner, found.refiner_from, len(found.regions)) == ("refiner", 0.4, 1)

    page.wait_for_function("sessionStorage.getItem('latent-loom.regions')?.includes('\"0.4\"')")
    page.reload()
    regions_tab(page)
    page.get_by_role("button", name="More").locator("visible=true").first.click()
    has_value(refiner(page), "refiner")
    has_value(takes_over(page), "0.4")

    prompt_of(page, "region 1").fill("a boat")
    choose_model(page, "sd1")  # which takes none
    refiner(page).wait_for(state="detached")
    assert metadata.read_png(made(page, studio)).refiner == ""
    choose_model(page, "sdxl")
    is_shown(takes_over(page))
    takes_over(page).fill("0.9")
    page.evaluate(DROP, ["made.png", "image/png", list(path.read_bytes())])
    has_value(takes_over(page), "0.4")
    has_value(refiner(page), "refiner")


def test_a_comparison_with_and_without_it_shows_a_row_for_each_share(visit: Any, studio: Served) -> None:
    page = visit(studio)
    comparing.ask(page, ["Euler"], "3", width="128")
    choose(page, "none, 0.5")
    comparing.compare(page)
    comparing.board(page, "done")
    for share in ("no refiner", "refiner from 0.5"):
        comparing.tile(page, f"Euler, {share}, 3 steps, finished").wait_for()
    refiner(page).click()
    page.get_by_role("option", name="None").click()
    says(page.locator('[data-line="compare:status"]'), "1 cell ")
    choose_model(page, "sd1")
    refiner(page).wait_for(state="detached")
