"""Pictures of the history opened in the tab they came of, in a fresh browser: all of it comes back."""

from __future__ import annotations

import re
from typing import Any

import pytest

from core.history import Query, of
from core.trajectory import runs
from tests.browser.test_compare import ask, board, cells, compare, settled, tile
from tests.browser.test_live_preview import picture
from tests.browser.test_text_to_image import generate, scrubber
from tests.browser.waiting import has_attribute, has_count, has_value, is_ticked, says
from tests.serving import THIRD_PARTY, Served

pytestmark = [pytest.mark.browser, *(pytest.mark.filterwarnings(line) for line in THIRD_PARTY)]

FIELDS = {"Steps": "6 8", "Seeds": "3 5", "Prompt": "a blue house"}
NUMBERS = {"Guidance": "3.5", "Width": "64", "Height": "64", "Reference": "8"}
CELLS = [f"{sampler}, seed {seed}, {calls} calls" for sampler in ("Euler", "Heun") for seed in (3, 5)
         for calls in (6, 8)]  # at equal work the steps count calls, of which Heun makes two a step
PIXELS = """() => [...document.querySelectorAll('.tile')].map((tile) => [tile.getAttribute('aria-label'),
    tile.querySelector('canvas').toDataURL()])"""
FILM = """() => [...document.querySelectorAll('.pane-mat img')].map((image) => {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  canvas.getContext('2d').drawImage(image, 0, 0);
  return [image.alt, canvas.toDataURL()];
})"""


def found(page: Any, words: str, count: int) -> Any:
    """The pictures of a prompt in the History tab."""
    page.get_by_role("tab", name="History").click()
    page.get_by_role("searchbox", name="Search prompts").fill(words)
    page.get_by_text(f"{count} picture{'s' * (count > 1)} found", exact=True).wait_for()
    pictures = page.get_by_role("list", name="Pictures").get_by_role("listitem")
    has_count(pictures, count)
    return pictures


def open_in(page: Any, tab: str) -> None:
    """The picture in the large view."""
    page.get_by_role("dialog").get_by_role("button", name=f"Open in {tab}").click()
    has_attribute(page.get_by_role("tab", name=tab), "aria-selected", "true")


def runs_followed(page: Any) -> list[str]:
    """What Live preview asks for from now on: "now", or a run's name."""
    asked: list[str] = []

    def note(request: Any) -> None:
        data = (request.post_data_json or {}).get("event_data") if "/queue/join" in request.url else None
        if isinstance(data, dict) and "place" in data:
            asked.append(data["run"])

    page.on("request", note)
    return asked


def test_a_cell_brings_its_comparison_back_with_all_that_was_asked(visit: Any, real: Served) -> None:
    page = visit(real)
    ask(page, ["Euler", "Heun"], "6 8", equal=True, prompt=FIELDS["Prompt"], reference="8")
    page.get_by_role("textbox", name="Seeds", exact=True).fill("3 5")
    page.get_by_role("button", name="More").click()
    page.get_by_role("spinbutton", name="Guidance").fill("3.5")
    page.get_by_role("spinbutton", name="Guidance").press("Tab")
    compare(page)
    board(page, "done")
    settled(page)
    identity = page.locator("[data-part=board]").get_attribute("data-comparison")
    made = page.evaluate(PIXELS)
    assert sorted(name for name, _ in made) == sorted(f"{name}, finished" for name in CELLS)
    page.close()

    page = visit(real)  # which remembers nothing
    found(page, "blue house", len(CELLS) + 2).nth(4).click()  # a reference run for each seed is kept, too
    open_in(page, "Compare")
    board(page, "done")
    has_attribute(page.locator("[data-part=board]"), "data-comparison", identity)
    for name in CELLS:
        tile(page, f"{name}, finished").wait_for()
    settled(page)
    assert page.evaluate(PIXELS) == made and cells(page, "done") == len(CELLS)
    for name, value in FIELDS.items():
        has_value(page.get_by_role("textbox", name=name, exact=True), value)
    page.get_by_role("button", name="More").click()
    for name, value in NUMBERS.items():
        has_value(page.get_by_role("spinbutton", name=name), value)
    for name, ticked in {"Euler": True, "Heun": True, "DDIM": False, "DPM++ 2M": False, "Equal work": True}.items():
        is_ticked(page.get_by_role("checkbox", name=name, exact=True), ticked)


def test_a_picture_of_a_batch_brings_its_own_steps_back(visit: Any, real: Served) -> None:
    page = visit(real)
    page.get_by_role("button", name="More").click()
    page.get_by_role("spinbutton", name="Seed").fill("11")
    page.get_by_role("spinbutton", name="Pictures").fill("2")
    page.get_by_label("Sampler", exact=True).first.click()
    page.get_by_role("option", name="Heun", exact=True).click()
    generate(page, "a white tree", 5)
    page.get_by_role("img", name=re.compile("Picture.*finished")).first.wait_for()
    run = next(run for run in runs(real.studio.jobs.outputs) if run.request.prompt == "a white tree")
    assert (run.total, run.request.batch, run.request.sampler) == (5, 2, "Heun")
    page.close()

    films = {}
    for seed in (11, 12):
        page = visit(real)
        followed = runs_followed(page)
        pictures = found(page, "white tree", 2)
        listed = [entry.seed for entry in of(real.studio.jobs.outputs).search(Query(words="white tree"))[1]]
        pictures.nth(listed.index(seed)).click()
        says(page.get_by_role("dialog"), f"seed {seed} · Heun")
        open_in(page, "Live preview")
        has_value(page.get_by_label("Picture", exact=True), str(seed - 11))
        picture(page, "x0, step 5 of 5").wait_for()  # a run that is opened shows its end
        films[seed] = []
        for step, info in enumerate(run.steps, 1):
            scrubber(page).fill(str(step))
            for source in ("x0", "x_t"):
                picture(page, f"{source}, step {step} of 5").wait_for()
            page.wait_for_function("() => !document.querySelector('.pane-mat img:is(.ghost, .coarse)')")
            sigma = f"{info.sigma:.2f}" if info.sigma < 10 else f"{info.sigma:.1f}"
            says(page.locator(".inspector"), f"Step {step} of 5 · sigma {sigma} · t {info.timestep:.0f}")
            films[seed].append(page.evaluate(FILM))
        assert len(followed) == 1 and followed[0].endswith(run.path.name)  # no other run was in sight before it
        shown = [data for step in films[seed] for _, data in step]
        assert len(set(shown)) == len(shown) == 2 * run.total
        page.close()
    assert all(one[1] != other[1] for a, b in zip(films[11], films[12], strict=True)
               for one, other in zip(a, b, strict=True))  # each picture has steps of its own
