"""The queue in a real browser: places and times, moved, paused, discarded, for ever, and the same after a reload."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.test_text_to_image import generate, picture, reached
from tests.browser.waiting import has_attribute, has_count, says
from tests.fakes import FakeRunner
from tests.holding import hold
from tests.serving import THIRD_PARTY, Served, served

pytestmark = [pytest.mark.browser, *(pytest.mark.filterwarnings(line) for line in THIRD_PARTY)]


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A studio whose steps take 0.2 s and can be kept."""
    with served(tmp_path_factory.mktemp("slow"), lambda: FakeRunner(0.2, records=True)) as running:
        yield running


def opened(page: Any) -> Any:
    """The queue's panel."""
    panel = page.get_by_role("region", name="Queue")
    if not panel.is_visible():
        page.get_by_role("button", name=re.compile("queue|paused", re.I)).first.click()
    return panel


def row(page: Any, prompt: str) -> Any:
    return opened(page).get_by_role("listitem", name=prompt, exact=True)


def press(page: Any, what: str, prompt: str) -> None:
    row(page, prompt).get_by_role("button", name=f"{what}: {prompt}", exact=True).click()


def order(page: Any) -> list[str]:
    opened(page)
    return list(page.locator(".queue-prompt").all_text_contents())


def until_order(page: Any, *prompts: str) -> None:
    opened(page)
    page.wait_for_function("(wanted) => [...document.querySelectorAll('.queue-prompt')].map((e) => e.textContent)"
                           ".join() === wanted", arg=",".join(prompts))


def test_three_runs_are_seen_moved_paused_and_discarded_and_a_reload_changes_nothing(visit: Any, slow: Served) -> None:
    page = visit(slow)
    generate(page, "measured", 4)
    picture(page, "Picture, finished").wait_for()
    for prompt, steps in (("one", 150), ("two", 10), ("three", 10)):
        generate(page, prompt, steps)
    page.get_by_role("button", name="3 in queue").wait_for()
    until_order(page, "one", "two", "three")
    row(page, "one").get_by_text(re.compile(r"^step \d+ of 150 · \d+ s left$")).wait_for()
    row(page, "two").get_by_text(re.compile(r"^1 before it · done in \d+ s$")).wait_for()
    row(page, "three").get_by_text(re.compile(r"^2 before it · done in \d+ s$")).wait_for()
    has_count(row(page, "one").locator("img"), 1)
    assert row(page, "two").locator("img").count() == 0

    press(page, "Move up", "three")
    until_order(page, "one", "three", "two")
    press(page, "Pause", "two")  # so that it does not slip through while we look
    row(page, "two").get_by_text("paused", exact=True).wait_for()

    page.keyboard.press("Escape")
    page.get_by_role("button", name="Pause run").click()
    page.get_by_text("· 10 steps ·").wait_for()  # the next one is on the stage
    until_order(page, "three", "one", "two")
    row(page, "one").get_by_text(re.compile(r"^paused after step \d+ of 150$")).wait_for()
    page.reload()
    page.get_by_role("button", name="Generate").wait_for()
    page.wait_for_function("document.querySelector('[data-part=stage]')?.dataset.ready === 'yes'")
    paused_at = re.search(r"\d+", row(page, "one").locator(".queue-words").text_content())
    assert paused_at and order(page)[-2:] == ["one", "two"]
    row(page, "three").wait_for(state="detached")

    page.keyboard.press("Escape")
    page.get_by_text(f"Paused after step {paused_at[0]} of 150", exact=True).filter(visible=True).first.wait_for()
    press(page, "Discard", "two")
    row(page, "two").wait_for(state="detached")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Resume run").click()
    reached(page, int(paused_at[0]) + 1)
    page.get_by_role("button", name="Discard run").click()
    page.get_by_text("nothing of this run is kept").wait_for()
    page.get_by_role("button", name="Queue", exact=True).click()
    page.get_by_text("Nothing runs, nothing waits.").wait_for()
    made = [job.request.prompt for job in slow.studio.jobs.known() if job.results]
    assert made == ["measured", "three"]


def test_forever_goes_on_with_new_seeds_over_a_reload_until_it_is_switched_off(visit: Any, slow: Served) -> None:
    page = visit(slow)
    before = len(slow.studio.jobs.known())
    page.get_by_role("textbox", name="Prompt", exact=True).fill("again")
    page.get_by_role("spinbutton", name="Steps", exact=True).fill("6")
    forever = page.get_by_role("button", name="Forever", exact=True)
    forever.click()  # nothing runs: it presses Generate
    seen = [stage_job(page)]
    for _ in range(2):
        page.wait_for_function(f"document.querySelector('[data-part=stage]')?.dataset.job !== {seen[-1]!r}")
        seen.append(stage_job(page))
        has_attribute(forever, "aria-pressed", "true")
    page.reload()
    page.wait_for_function("document.querySelector('[data-part=stage]')?.dataset.ready === 'yes'")
    page.wait_for_function(f"!{seen!r}.includes(document.querySelector('[data-part=stage]')?.dataset.job || '') && "
                           "document.querySelector('.stage [data-part=forever]')?.ariaPressed === 'true'")
    opened(page).get_by_role("button", name="End forever").click()
    page.get_by_text("Each last run is followed").wait_for(state="hidden")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Queue", exact=True).wait_for()
    made = slow.studio.jobs.known()[before:]
    assert len(made) >= 4 and len({job.request.seed for job in made}) == len(made)
    assert {job.request.prompt for job in made} == {"again"} and {job.state for job in made} == {"done"}
    page.wait_for_function("document.querySelector('.stage [data-part=forever]')?.ariaPressed === 'false'")

    with hold(1):
        forever.click()
        says(page.locator("#tab-text-to-image [data-part=status]"), "Step 1 of 6")
        page.get_by_role("button", name="Stop").click()  # ends it too
        page.get_by_text("Stopped after step 1").filter(visible=True).first.wait_for()
    page.wait_for_function("document.querySelector('.stage [data-part=forever]')?.ariaPressed === 'false'")


def stage_job(page: Any) -> str:
    page.wait_for_function("document.querySelector('[data-part=stage]')?.dataset.job")
    return str(page.evaluate("document.querySelector('[data-part=stage]').dataset.job"))
