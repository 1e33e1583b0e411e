"""A real Chromium against a real server. No request may leave the machine: each page asserts it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from urllib.parse import urlparse

import pytest

from core.engine import Engine
from core.models.catalogue import STORYBOOK, Catalogue
from tests.browser import chromium
from tests.fakes import FakeRunner
from tests.serving import Served, served

playwright = pytest.importorskip("playwright.sync_api") if not chromium.must_run() else __import__(
    "playwright.sync_api", fromlist=["sync_playwright"])

SEEN = """() => document.body.innerText.replace(/\\n+/g, "\\n").slice(0, 3000) + "\\npictures: "
    + [...document.querySelectorAll("[role=img], img")].filter((i) => i.offsetParent).map((i) => i.ariaLabel || i.alt)
        .filter(Boolean).join(" | ")"""
PageMaker = Callable[..., "playwright.Page"]


@pytest.fixture(scope="package")
def browser() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        path = chromium.find(driver.chromium.executable_path)
        if path is None:
            (pytest.fail if chromium.must_run() else pytest.skip)(chromium.ADVICE)
        opened = driver.chromium.launch(executable_path=path, args=chromium.ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="package")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A studio that paints discs, 0.1 s a step: for what the page does, whatever the engine."""
    with served(tmp_path_factory.mktemp("fake"), lambda: FakeRunner(0.1)) as running:
        yield running


@pytest.fixture(scope="package")
def real(tmp_path_factory: pytest.TempPathFactory, catalogue: Catalogue) -> Iterator[Served]:
    """A studio with the real engine on the embedded model; on a small random one while that is not there."""
    model = "storybook" if (STORYBOOK / "model_index.json").is_file() else "eps"
    with served(tmp_path_factory.mktemp("real"), lambda: Engine(catalogue, "cpu"), catalogue, model) as running:
        running.studio.jobs.warm(model)
        yield running


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """What stood on the pages of a test that failed."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for page in getattr(item, "pages", []):
            with contextlib.suppress(Exception):
                report.sections.append((f"page {page.url}", page.evaluate(SEEN)))


@pytest.fixture
def visit(browser: playwright.Browser, request: pytest.FixtureRequest) -> Iterator[PageMaker]:
    """visit(served, width=, height=, theme=, context=, locale=) opens the page, ready for typing."""
    contexts, outside, broken = [], [], []
    pages = request.node.pages = []

    def open_page(server: Served, width: int = 1440, height: int = 900, theme: str = "light",
                  context: playwright.BrowserContext | None = None, locale: str = "en-US") -> playwright.Page:
        if context is None:
            context = browser.new_context(viewport={"width": width, "height": height}, locale=locale)
            contexts.append(context)
            context.route(lambda url: not _local(url), lambda route: (outside.append(route.request.url), route.abort()))
        page = context.new_page()
        pages.append(page)
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.goto(f"{server.address}?__theme={theme}")
        page.locator("button.generate").first.wait_for()
        page.locator("[data-part=step]").first.wait_for()
        page.wait_for_function("document.querySelector('[data-part=stage]')?.dataset.ready === 'yes'")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not outside, f"the page asked for {outside}"
    assert not broken, f"the page's scripts failed: {broken}"


def _local(url: str) -> bool:
    parts = urlparse(url)
    return parts.scheme in ("data", "blob", "about") or parts.hostname in ("127.0.0.1", "localhost")
