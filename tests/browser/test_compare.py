"""What a person does in the Compare tab, in a real Chromium."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from core.samplers import SAMPLERS
from tests.browser.waiting import has_attribute, has_count, has_value, is_shown, is_ticked, says
from tests.fakes import FakeRunner
from tests.holding import hold
from tests.serving import THIRD_PARTY, Served, served

pytestmark = [pytest.mark.browser, *(pytest.mark.filterwarnings(line) for line in THIRD_PARTY)]

CELLS = ["Euler, 4 steps", "Euler, 8 steps", "DDIM, 4 steps", "DDIM, 8 steps"]


def open_tab(page: Any) -> None:
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_function("document.querySelector('[data-part=board]')?.dataset.ready === 'yes'")


def ask(page: Any, samplers: list[str], steps: str, equal: bool = False, prompt: str = "a red boat",
        reference: str = "0", width: str = "64") -> None:
    open_tab(page)
    page.get_by_role("textbox", name="Prompt", exact=True).fill(prompt)
    for name in SAMPLERS:
        page.get_by_role("checkbox", name=name, exact=True).set_checked(name in samplers)
    page.get_by_role("checkbox", name="Equal work").set_checked(equal)
    page.get_by_role("textbox", name="Steps", exact=True).fill(steps)
    page.get_by_role("textbox", name="Seeds", exact=True).fill("3")
    page.get_by_role("spinbutton", name="Reference").fill(reference)
    page.get_by_role("button", name="More").click()
    for side in ("Width", "Height"):
        page.get_by_role("spinbutton", name=side).fill(width)
        page.get_by_role("spinbutton", name=side).press("Tab")
    page.get_by_role("button", name="More").click()


def compare(page: Any) -> None:
    page.get_by_role("button", name="Compare", exact=True).click()


def board(page: Any, state: str) -> None:
    page.wait_for_function("(state) => document.querySelector('[data-part=board]')?.dataset.state === state", arg=state)


def stopped_in_the_second_cell(page: Any) -> None:
    """Begins the comparison of CELLS and stops it while the second one is in its middle."""
    with hold(5):
        compare(page)
        tile(page, "Euler, 8 steps, step 5 of 8").wait_for()
        page.get_by_role("button", name="Stop", exact=True).click()
        board(page, "stopped")


def tile(page: Any, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def cells(page: Any, state: str) -> int:
    return int(page.locator(f'.tile[data-state="{state}"]').count())


def pixels(page: Any) -> list[str]:
    """What each tile shows, as data."""
    return list(page.evaluate("[...document.querySelectorAll('.tile canvas')].map((canvas) => canvas.toDataURL())"))


def settled(page: Any) -> None:
    """Every tile shows the step that it names."""
    page.wait_for_function("""() => [...document.querySelectorAll('.tile canvas')].every((canvas) =>
        (canvas.dataset.key || '') === (canvas.dataset.shown || ''))""")


def test_cells_fill_live_and_one_scrubber_moves_them_all(visit: Any, fake: Served) -> None:
    page = visit(fake)
    ask(page, ["Euler", "DDIM"], "4 8")
    with hold(2, 3) as held:
        compare(page)
        for waiting, name in zip((3, 2, 1, 0), CELLS, strict=True):  # live: in mid-run, one after the other
            for step in (2, 3):
                tile(page, f"{name}, step {step} of {name.split()[1]}").wait_for()
                assert cells(page, "waiting") == waiting
                held.go()
    for name in CELLS:
        tile(page, f"{name}, finished").wait_for()
    board(page, "done")
    settled(page)
    finished = pixels(page)
    page.get_by_role("slider", name="Step", exact=True).fill("2")
    for name, step in zip(CELLS, (1, 2, 1, 2), strict=True):  # shorter runs in proportion
        tile(page, f"{name}, step {step} of {name.split()[1]}").wait_for()
    settled(page)
    assert all(now != before for now, before in zip(pixels(page), finished, strict=True))
    page.get_by_role("slider", name="Step", exact=True).press("End")
    for name in CELLS:
        tile(page, f"{name}, finished").wait_for()


def test_stop_keeps_finished_cells_and_resume_completes_only_what_is_missing(visit: Any, fake: Served) -> None:
    page = visit(fake)
    ask(page, ["Euler", "DDIM"], "4 8")
    stopped_in_the_second_cell(page)
    assert cells(page, "done") == 1
    is_shown(tile(page, "Euler, 4 steps, finished"))
    identity = page.locator("[data-part=board]").get_attribute("data-comparison")
    contest = fake.studio.contests.get(identity)
    assert contest and contest.missing() == [1, 2, 3]
    kept = contest.jobs[0]
    page.get_by_role("button", name="Resume", exact=True).click()
    board(page, "done")
    for name in CELLS:
        tile(page, f"{name}, finished").wait_for()
    assert contest.jobs[0] is kept and all(job and job.state == "done" for job in contest.jobs)
    assert not page.get_by_role("button", name="Resume", exact=True).is_visible()


def test_a_reload_comes_back_to_the_running_comparison_and_to_what_was_typed(visit: Any, fake: Served) -> None:
    page = visit(fake)
    ask(page, ["Euler", "DDIM"], "4 8")
    with hold(5):
        compare(page)
        tile(page, "Euler, 8 steps, step 5 of 8").wait_for()
        page.reload()
        open_tab(page)
        tile(page, "Euler, 8 steps, step 5 of 8").wait_for()
    for name in CELLS:
        tile(page, f"{name}, finished").wait_for()
    board(page, "done")
    has_value(page.get_by_role("textbox", name="Prompt", exact=True), "a red boat")
    is_ticked(page.get_by_role("checkbox", name="DDIM", exact=True))
    is_ticked(page.get_by_role("checkbox", name="Heun", exact=True), False)


def test_a_comparison_survives_the_studio_and_is_gone_on_with(visit: Any, real: Served) -> None:
    page = visit(real)
    ask(page, ["Euler", "DDIM"], "4 8", width="128")
    stopped_in_the_second_cell(page)
    identity = page.locator("[data-part=board]").get_attribute("data-comparison")
    contests = real.studio.contests
    before = contests.get(identity)
    assert before and cells(page, "done") == 1
    pictures = [job.results for job in before.jobs if job and job.state == "done"]
    contests._known.clear()  # a new studio knows what is on disk and nothing else
    page.reload()
    open_tab(page)
    tile(page, "Euler, 4 steps, finished").wait_for()
    after = contests.get(identity)
    assert after and after is not before
    page.get_by_role("button", name="Resume", exact=True).click()
    board(page, "done")
    assert [job.results for job in after.jobs if job][:1] == pictures  # not made again
    assert cells(page, "done") == 4


def test_earlier_comparisons_are_opened_from_the_list_after_a_restart(visit: Any, tmp_path: Path) -> None:
    with served(tmp_path, lambda: FakeRunner(0.1)) as first:
        page = visit(first)
        ask(page, ["Euler", "DDIM"], "4 8")
        stopped_in_the_second_cell(page)
        page.close()
    with served(tmp_path, lambda: FakeRunner(0.01)) as second:
        page = visit(second, width=390, height=844)
        open_tab(page)
        box, *inside = (part.bounding_box() for part in page.locator(".board-empty, .board-empty > *").all())
        assert box and all(one and one["x"] + one["width"] <= box["x"] + box["width"] for one in inside)
        earlier = page.get_by_label("Earlier comparisons").first
        says(earlier.locator("option").nth(1), "“a red boat” · 2 samplers · 2 steps")
        earlier.select_option(index=1)
        board(page, "stopped")
        assert cells(page, "done") == 1
        is_shown(tile(page, "Euler, 4 steps, finished"))
        says(page.locator(".board [data-part=status]"), "Stopped: 1 of 4 cells are kept")
        page.get_by_role("button", name="Resume", exact=True).click()
        board(page, "done")
        assert cells(page, "done") == 4
        record = next(tmp_path.glob("outputs/*/comparison-*/comparison.json"))
        record.write_text("{}")
        second.studio.contests._known.clear()
        page.reload()
        open_tab(page)
        page.get_by_text("This comparison is not in the outputs folder any more").filter(visible=True).first.wait_for()
        page.close()


def test_paths_are_drawn_and_the_grid_becomes_a_film(visit: Any, real: Served, tmp_path: Path) -> None:
    page = visit(real)
    ask(page, ["Euler", "DDIM", "Heun"], "6", width="128")
    compare(page)
    board(page, "done")
    paths = page.get_by_role("img", name=re.compile("^Paths of x0"))
    paths.wait_for()
    page.get_by_text(re.compile(r"The plane holds \d+ % of the variance")).wait_for()
    dots = [page.evaluate("[...document.querySelectorAll('[data-part=paths] .curve-at')].map((dot) => "
                          "[dot.getAttribute('cx'), dot.getAttribute('cy')].join())")
            for step in ("3", "6") if page.locator("[data-part=board] input[aria-label=Step]").fill(step) is None]
    assert len(dots[0]) == 3 and all(a != b for a, b in zip(*dots, strict=True))  # the slider moves every run's dot
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")  # the pair in sight leaves the plots free
    assert page.evaluate("document.querySelector('.duel').getBoundingClientRect().bottom <= "
                         "document.querySelector('.curves').getBoundingClientRect().top")
    page.locator("[data-part=paths] .curve-at").first.hover()  # one pointed at is lit everywhere, clicked it is chosen
    has_count(page.locator(".tile.lit, .board-table tr.lit"), 2)
    has_count(page.locator("[data-part=curves] .curve-line.lit"), 1)
    has_attribute(page.locator(".tile.lit"), "aria-label", "Euler, 6 steps, finished")
    page.locator("[data-part=paths] .curve-at").first.click()
    has_value(page.get_by_label("Right picture"), "0")
    with page.expect_download() as download:
        page.get_by_role("button", name="Make the animated grid").click()
    download.value.save_as(tmp_path / "grid.webp")
    with Image.open(tmp_path / "grid.webp") as film:
        assert film.n_frames == 7  # every step, and the finished pictures
    is_shown(page.get_by_role("link", name="Download grid.webp"))


def test_a_failing_cell_says_why_in_its_place(visit: Any, fake: Served) -> None:
    page = visit(fake)
    ask(page, ["Euler"], "2 6", prompt="fail at step 4")
    compare(page)
    board(page, "done")
    assert cells(page, "done") == 1
    says(page.locator('.tile[data-state="failed"] .tile-words'), "gave no numbers")
    says(page.locator(".board [data-part=status]"), "1 of 2 cells done · 1 failed")


def test_two_cells_are_laid_over_each_other_with_a_divider_for_the_keyboard(visit: Any, fake: Served) -> None:
    page = visit(fake)
    ask(page, ["Euler", "DDIM"], "2 3")
    compare(page)
    board(page, "done")
    page.locator(".tile").nth(2).click()
    page.locator(".tile").nth(1).click(modifiers=["Shift"])
    left, right = (page.locator(f".duel [data-part={side}]") for side in ("left", "right"))
    has_attribute(left, "aria-label", "Euler, 3 steps, finished")
    has_attribute(right, "aria-label", "DDIM, 2 steps, finished")
    page.get_by_role("slider", name="Divider").press("ArrowRight")
    assert right.evaluate("(canvas) => canvas.style.clipPath") == "inset(0px 0px 0px 51%)"
    page.get_by_role("button", name="Swap").click()
    has_attribute(left, "aria-label", "DDIM, 2 steps, finished")


def test_the_table_is_sorted_and_grid_and_tables_can_be_taken_away(visit: Any, fake: Served) -> None:
    page = visit(fake)
    ask(page, ["Euler", "Heun"], "7 3", equal=True)
    compare(page)
    board(page, "done")
    sort = page.get_by_role("button", name="Evaluations")
    sort.click()
    column = page.locator(".board-table tbody td:nth-child(3)")
    *values, none = column.all_inner_texts()
    assert none == "–"  # Heun cannot make do with three calls, and stands last either way
    assert [int(text) for text in values] == sorted(int(text) for text in values) and len(values) == 3
    sort.click()
    assert column.all_inner_texts() == [*reversed(values), "–"]
    for name in ("grid.png", "results.csv", "results.json"):
        with page.expect_download() as download:
            page.get_by_role("link", name=f"Download {name}").click()
        assert download.value.suggested_filename == name


def test_what_it_will_cost_and_what_is_known_to_go_wrong_is_said_before(visit: Any, fake: Served) -> None:
    page = visit(fake)
    ask(page, ["Euler", "LCM"], "4 8")
    page.get_by_text("4 cells · 48 evaluations").wait_for()
    page.get_by_text("LCM is made for models distilled for it").filter(visible=True).first.wait_for()
    for name in ("Euler", "LCM"):
        page.get_by_role("checkbox", name=name, exact=True).uncheck()
    page.get_by_text("Tick a sampler at least.").wait_for()
    compare(page)
    has_attribute(page.locator("[data-part=board]"), "data-state", "empty")


def test_one_click_begins_a_sensible_comparison_with_figures_on_a_phone(visit: Any, real: Served) -> None:
    page = visit(real, width=390, height=844)
    ask(page, [], "4 8", reference="12", prompt="")
    with hold(2):
        page.get_by_role("button", name="Compare four samplers").click()
        page.get_by_role("button", name="Stop", exact=True).click()
        board(page, "stopped")
    assert page.get_by_role("textbox", name="Prompt", exact=True).input_value()
    has_count(page.locator(".tile"), 12)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_distances_fall_and_curves_are_drawn(visit: Any, real: Served) -> None:
    page = visit(real)
    ask(page, ["Euler"], "4 24", reference="60")
    compare(page)
    page.get_by_role("img", name="Distance to the reference, against evaluations").wait_for()
    page.get_by_role("img", name="Change of x0").first.wait_for()
    head = page.locator(".board-table th").all_inner_texts()
    column = page.locator(f".board-table tbody td:nth-child({head.index('Distance') + 1})")
    has_count(column.filter(has_text="–"), 0)  # figures come one by one
    few, many = (float(text) for text in column.all_inner_texts())
    assert 0 < many < few
