"""The page in a browser that speaks Chinese: no English is left but what has no other name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.logins import Logins
from tests.browser.conftest import PageMaker, playwright
from tests.browser.waiting import says
from tests.fakes import FakeRunner
from tests.holding import hold
from tests.serving import THIRD_PARTY, Served, served
from ui.languages import ENGLISH, table

pytestmark = [pytest.mark.filterwarnings(line) for line in THIRD_PARTY]

# Every text in sight: what stands there, and what is read out, shown in an empty field, or told when one points there.
SEEN = """() => {
  const seen = new Set();
  const visible = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const walk = document.createTreeWalker(document.querySelector("gradio-app, body"), NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const parent = walk.currentNode.parentElement;
    if (!parent || parent.closest("script, style, footer, .card") || !visible(parent)) continue;
    seen.add(walk.currentNode.data.trim());
  }
  for (const element of document.querySelectorAll("[aria-label], [title], [placeholder]")) {
    if (element.closest("footer") || !visible(element)) continue;
    for (const name of ["aria-label", "title", "placeholder"]) seen.add((element.getAttribute(name) || "").trim());
  }
  return [...seen].filter(Boolean);
}"""
CHINESE = re.compile("[\u4e00-\u9fff]")
TABS = ("text-to-image", "regions", "compare", "live-preview", "history")


def english_of() -> re.Pattern[str]:
    """Any text of the page as it is in English, whatever its values, where Chinese has another."""
    chinese = table("zh-CN")
    texts = [text for key, text in table(ENGLISH).items()
             if len(re.sub(r"\{\w+\}|\W", "", text)) > 3 and chinese.get(key) != text]
    return re.compile("|".join(re.sub(r"\\\{\w+\\\}", ".*", re.escape(text)) for text in texts))


def left_in_english(texts: list[str]) -> list[str]:
    """What core tells of a model or an error may stand inside of a Chinese text."""
    pattern = english_of()
    return [text for text in texts if pattern.fullmatch(text) and not CHINESE.search(text)]


def test_no_english_is_left_in_any_tab(fake: Served, visit: PageMaker) -> None:
    page = visit(fake, locale="zh-CN")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    for name in TABS:
        page.locator(f"#tab-{name}-button").click()
        panel = page.locator(f"#tab-{name}")
        panel.locator(".own").first.wait_for(state="attached")
        for fold in panel.locator(".more button.label-wrap:not(.open)").all():
            if fold.is_visible():
                fold.click()
        page.wait_for_timeout(500)  # what answers the opening
        seen = page.evaluate(SEEN)
        assert len(seen) > 15 and sum(bool(CHINESE.search(text)) for text in seen) > 10, name
        assert left_in_english(seen) == [], name


def test_english_would_be_found(fake: Served, visit: PageMaker) -> None:
    seen = visit(fake, locale="en-US").evaluate(SEEN)
    assert {"Text to image", "Generate", "What should be in the picture?", "Queue"} <= set(left_in_english(seen))


def test_a_run_is_told_in_chinese_from_its_queue_to_its_picture(fake: Served, visit: PageMaker, tmp_path: Path) -> None:
    page = visit(fake, locale="zh-CN")
    page.get_by_label("提示词", exact=True).fill("a red sofa")
    status = page.locator("#tab-text-to-image [data-part=status]")
    with hold(2):
        page.get_by_role("button", name="生成", exact=True).click()
        says(status, "第 2/20 步 · sigma")
        assert left_in_english(page.evaluate(SEEN)) == []
    page.wait_for_function("""() => /^用时 .+ 秒完成/.test(
        document.querySelector("#tab-text-to-image [data-part=status]").textContent)""")
    assert status.inner_text().startswith("用时")
    meta = page.locator("#tab-text-to-image [data-part=meta]").inner_text()
    assert "种子" in meta and "20 步" in meta and "seed" not in meta
    page.locator("#tab-history-button").click()
    page.locator(".gallery-tile").first.click()
    page.wait_for_timeout(500)
    assert left_in_english(page.evaluate(SEEN)) == []
    page.screenshot(path=str(tmp_path / "history.png"))


def test_what_is_wrong_with_a_page_is_told_by_its_own_words(fake: Served, visit: PageMaker) -> None:
    """Errors of core are English everywhere; the form keeps what was typed."""
    page = visit(fake, locale="zh-CN")
    steps = page.get_by_role("spinbutton", name="步数").first
    steps.fill("-3")
    steps.press("Enter")
    page.locator("[data-line='txt2img:steps'][data-kind=error]").wait_for()
    assert steps.input_value() == "-3"


def test_the_login_is_told_in_the_browsers_language(browser: playwright.Browser, tmp_path: Path) -> None:
    with served(tmp_path, lambda: FakeRunner(0), logins=Logins.of(["ann:a"])) as studio:
        for locale, told, hidden in (("zh-CN", "请联系", "Ask whoever"), ("de-DE", "Ask whoever", "请联系")):
            with browser.new_context(locale=locale) as context:
                page = context.new_page()
                page.goto(studio.address)
                page.get_by_text(told).wait_for()
                assert not page.get_by_text(hidden).is_visible()
