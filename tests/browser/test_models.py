"""The list of models in a real Chromium: found, chosen, painted with, and back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.engine import Engine
from core.models.catalogue import Catalogue
from core.models.kept import Kept
from tests.browser.waiting import has_attribute
from tests.serving import THIRD_PARTY, Served, served

pytestmark = [pytest.mark.browser, *(pytest.mark.filterwarnings(line) for line in THIRD_PARTY)]
EVIL = "<img src=x onerror=window.hit=1>"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, models_dir: Path) -> Iterator[Served]:
    """A studio on two small checkpoints of diffusers folders, one with a hostile name and licence."""
    folder = tmp_path_factory.mktemp("many")
    shutil.copytree(models_dir / "eps", folder / "models" / "eps")
    shutil.copytree(models_dir / "v", folder / "models" / EVIL)
    (folder / "models" / EVIL / "README.md").write_text(f"---\nlicense: {EVIL}\n---\n")
    (folder / "models" / "old.ckpt").write_bytes(b"PK\x03\x04")
    catalogue = Catalogue(folder / "models")
    with served(folder, lambda: Engine(catalogue, "cpu"), catalogue, "eps") as running:
        yield running


def test_a_model_is_searched_chosen_painted_with_and_left_again(visit: Any, studio: Served) -> None:
    page = visit(studio)
    page.get_by_role("button", name="Models", exact=True).click()
    dialog = page.get_by_role("dialog", name="Models")
    search = dialog.get_by_role("searchbox", name="Search models")
    dialog.get_by_text("3 models · 1 cannot be loaded").wait_for()
    search.fill("v prediction onerror")
    dialog.get_by_text("1 of 4 shown").wait_for()
    dialog.get_by_role("button", name="Licence of").click()
    dialog.locator(".model-licence", has_text=EVIL).wait_for()
    assert not page.evaluate("window.hit") and not dialog.locator("img").count()
    search.fill("refused")
    dialog.get_by_text("python -m core convert").wait_for()
    search.fill("onerror")
    page.keyboard.press("ArrowDown")  # by keyboard alone
    page.keyboard.press("Enter")
    dialog.wait_for(state="hidden")
    page.wait_for_function("name => document.querySelector('[data-part=bar]')?.dataset.model === name", arg=EVIL)
    assert studio.studio.jobs.runner._model.info.name == EVIL  # type: ignore[union-attr]
    assert Kept(studio.studio.jobs.outputs).chosen == EVIL
    page.get_by_role("textbox", name="Prompt", exact=True).fill("a red boat")
    page.get_by_role("spinbutton", name="Steps").first.fill("2")
    page.get_by_role("button", name="Generate").click()
    page.get_by_role("img", name="Picture, finished").wait_for()
    page.reload()
    page.wait_for_function("name => document.querySelector('[data-part=bar]')?.dataset.model === name", arg=EVIL)
    page.get_by_role("button", name="Models", exact=True).click()
    dialog.get_by_role("button", name="Use eps").click()
    dialog.wait_for(state="hidden")
    page.wait_for_function("document.querySelector('[data-part=bar]')?.dataset.model === 'eps'")
    assert not page.evaluate("window.hit")


def test_a_model_that_breaks_while_it_loads_leaves_the_old_one(visit: Any, studio: Served) -> None:
    models = studio.studio.catalogue.models_dir
    page = visit(studio, width=390, height=844)
    page.get_by_role("button", name="Models", exact=True).click()
    dialog = page.get_by_role("dialog", name="Models")
    dialog.get_by_text("cannot be loaded").wait_for()
    shutil.copytree(models / "eps", models / "half")  # appears by itself
    shutil.rmtree(models / "half" / "tokenizer")
    dialog.get_by_role("button", name="Use half").click()
    dialog.get_by_text("half could not be loaded").wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    has_attribute(page.locator("[data-part=bar]"), "data-model", "eps")
    page.get_by_role("textbox", name="Prompt", exact=True).fill("a red boat")
    page.get_by_role("spinbutton", name="Steps").first.fill("2")
    page.get_by_role("button", name="Generate").click()
    page.get_by_role("img", name="Picture, finished").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
