"""SDXL's refiner in the form: there for SDXL alone, and in the picture that comes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core import metadata
from core.engine import Engine
from core.models.catalogue import Catalogue
from tests.originals import make_pipeline, write_original
from tests.serving import Served, served


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("shelf")
    for kind in ("sdxl", "refiner"):
        pipe = make_pipeline(kind)
        pipe.save_pretrained(folder / kind)
    write_original(make_pipeline("sd1"), folder / "sd1.safetensors")
    catalogue = Catalogue(folder)
    with served(tmp_path_factory.mktemp("real"), lambda: Engine(catalogue, "cpu"), catalogue, "sdxl") as running:
        running.studio.library.look()
        running.studio.library.wait()
        yield running


def test_the_refiner_is_offered_for_sdxl_and_takes_part_in_the_picture(visit: Any, studio: Served) -> None:
    page = visit(studio)
    page.get_by_role("textbox", name="Prompt", exact=True).fill("a boat")
    page.get_by_role("button", name="More").first.click()
    field = page.get_by_label("Refiner", exact=True).locator("visible=true")
    field.click()
    page.get_by_role("option", name="refiner").click()
    page.get_by_role("spinbutton", name="Takes over at").locator("visible=true").fill("0.5")
    page.get_by_role("button", name="Generate", exact=True).locator("visible=true").click()
    page.get_by_role("img", name="Picture, finished").wait_for(timeout=120_000)
    while not (pictures := list(Path(studio.studio.jobs.outputs).glob("**/*.png"))):
        page.wait_for_timeout(100)
    found = metadata.read_png(pictures[0])
    assert (found.refiner, found.refiner_from) == ("refiner", 0.5)
