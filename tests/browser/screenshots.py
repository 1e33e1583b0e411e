"""Screenshots of the page for the README: `python -m tests.browser.screenshots docs/pictures`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from core.engine import Engine
from core.models.catalogue import Catalogue
from tests.browser import chromium
from tests.browser.test_text_to_image import reached
from tests.serving import Served, served

PROMPT = "a living room with a red sofa in the centre, a house plant on the left and a painting at the top right"
SHOTS = [("desktop-light", 1440, 900, "light"), ("desktop-dark", 1440, 900, "dark"),
         ("phone-light", 390, 844, "light"), ("phone-dark", 390, 844, "dark")]


def shoot(browser: Any, server: Served, folder: Path, name: str, width: int, height: int, theme: str) -> None:
    """One picture of a run in its middle, one of its end."""
    page = _opened(browser, server, width, height, theme)
    page.wait_for_function("document.querySelector('[data-part=stage]')?.dataset.ready === 'yes'")
    page.get_by_role("textbox", name="Prompt", exact=True).fill(PROMPT)
    page.get_by_role("button", name="More").click()
    page.get_by_role("spinbutton", name="Seed").fill("10")
    page.get_by_role("button", name="More").click()
    page.evaluate("window.scrollTo(0, 0)")
    page.get_by_role("button", name="Generate").click()
    page.mouse.move(0, 0)
    reached(page, 8)
    page.screenshot(path=folder / f"{name}-running.png")
    page.get_by_role("img", name="Picture, finished").wait_for(timeout=300_000)
    page.wait_for_timeout(300)
    page.screenshot(path=folder / f"{name}.png")
    page.close()


def shoot_regions(browser: Any, server: Served, folder: Path, name: str, width: int, height: int, theme: str) -> None:
    """The Regions tab after a run of the living room."""
    page = _opened(browser, server, width, height, theme)
    page.get_by_role("tab", name="Regions").click()
    page.get_by_label("Start from a layout").select_option("Living room")
    page.get_by_role("textbox", name="Prompt of sofa").wait_for()
    page.get_by_role("button", name="Generate").click()
    page.get_by_role("img", name="Picture, finished").wait_for()
    page.get_by_role("button", name="Masks", exact=True).click()
    page.evaluate("window.scrollTo(0, 0)")
    page.mouse.move(0, 0)
    page.wait_for_timeout(600)
    page.screenshot(path=folder / f"regions-{name}.png")
    page.close()


def shoot_live(browser: Any, server: Served, folder: Path, name: str, width: int, height: int, theme: str) -> None:
    """The Live preview tab at a step of a run, and a branch of it beside its parent."""
    page = _opened(browser, server, width, height, theme)
    page.wait_for_function("document.querySelector('[data-part=stage]')?.dataset.ready === 'yes'")
    page.get_by_role("textbox", name="Prompt", exact=True).fill("a red boat on the sea")
    page.get_by_role("button", name="More").click()
    page.get_by_role("spinbutton", name="Seed").fill("11")
    page.get_by_role("button", name="Generate").click()
    page.get_by_role("tab", name="Live preview").click()
    page.get_by_role("img", name="x_t, step 20 of 20").wait_for()
    step = page.get_by_role("slider", name="Step", exact=True)
    step.fill("9")
    page.get_by_role("button", name="Channels", exact=True).click()
    page.get_by_role("img", name="x0 channel 4, step 9 of 20").wait_for()
    _still(page)
    page.screenshot(path=folder / f"live-{name}.png", full_page=width > 800)
    page.get_by_role("button", name="Channels", exact=True).click()
    step.fill("3")
    page.get_by_role("button", name="Branch from here").click()
    page.get_by_role("textbox", name="Prompt", exact=True).fill("a blue boat on the sea")
    page.get_by_role("button", name="Run the branch").click()
    for who in ("parent", "branch"):
        page.get_by_role("img", name=f"x0 of the {who}, step 20 of 20").wait_for()
    _still(page)
    page.screenshot(path=folder / f"live-branch-{name}.png")
    page.close()


def shoot_compare(browser: Any, server: Served, folder: Path, name: str, width: int, height: int, theme: str) -> None:
    """The Compare tab with four samplers at equal work, from its first cell to its figures."""
    page = _opened(browser, server, width, height, theme)
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_function("document.querySelector('[data-part=board]')?.dataset.ready === 'yes'")
    page.get_by_role("textbox", name="Prompt", exact=True).fill("a red boat on the sea")
    page.get_by_role("textbox", name="Seeds", exact=True).fill("11")
    page.get_by_role("spinbutton", name="Reference").fill("20")
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_function("document.querySelector('[data-part=board]')?.dataset.state === 'done'")
    page.evaluate("window.scrollTo(0, 0)")
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)
    page.screenshot(path=folder / f"compare-{name}.png", full_page=True)
    page.close()


def _opened(browser: Any, server: Served, width: int, height: int, theme: str) -> Any:
    page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=1)
    page.set_default_timeout(600_000)
    page.goto(f"{server.address}?__theme={theme}")
    return page


def _still(page: Any) -> None:
    page.wait_for_function("() => ['left', 'right'].every((name) => "
                           "!document.querySelector(`[data-part=\"${name}-note\"]`).textContent)")
    page.evaluate("window.scrollTo(0, 0)")
    page.mouse.move(0, 0)
    page.wait_for_timeout(800)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures")
    model = sys.argv[2] if len(sys.argv) > 2 else "storybook"
    folder.mkdir(parents=True, exist_ok=True)
    catalogue = Catalogue(extra=model)
    with tempfile.TemporaryDirectory() as work, sync_playwright() as driver:
        with served(Path(work), lambda: Engine(catalogue), catalogue, model) as server:
            server.studio.jobs.warm(model)
            path = chromium.find(driver.chromium.executable_path)
            browser = driver.chromium.launch(executable_path=path, args=chromium.ARGUMENTS)
            for name, width, height, theme in SHOTS:
                shoot(browser, server, folder, name, width, height, theme)
                shoot_regions(browser, server, folder, name, width, height, theme)
                shoot_live(browser, server, folder, name, width, height, theme)
                shoot_compare(browser, server, folder, name, width, height, theme)
            browser.close()


if __name__ == "__main__":
    main()
