"""Text that looks like markup stays text, wherever the page shows it: real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.test_text_to_image import generate
from tests.browser.waiting import is_shown
from tests.fakes import FakeRunner
from tests.serving import THIRD_PARTY, Served, served

pytestmark = [pytest.mark.browser, *(pytest.mark.filterwarnings(line) for line in THIRD_PARTY)]
EVIL = "<img src=x onerror=\"window.harmed='yes'\"><script>window.harmed='yes'</script><b id=evil>a boat</b>"


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
    generate(page, EVIL, 40)
    page.get_by_role("button", name="Queue").click()
    is_shown(page.locator(".queue-panel").get_by_text("a boat").first)
    unharmed(page)
    page.keyboard.press("Escape")
    page.get_by_role("img", name="Picture, finished").wait_for()
    unharmed(page)
    page.get_by_role("tab", name="Live preview").click()
    page.get_by_role("img", name="x0, step 40 of 40").wait_for()
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
