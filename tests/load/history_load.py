"""A history of 10,000 pictures: `python -m tests.load.history_load` prints what opening the tab costs the server, and
how much of it a real Chromium loads while somebody scrolls through. Times are told, not judged.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from core import metadata
from core.history import of
from core.request import Request
from core.samplers import SAMPLERS
from tests.browser import chromium
from tests.events import Visitor
from tests.fakes import FakeRunner
from tests.serving import served

DAY = 250  # pictures


def fill(outputs: Path, count: int) -> None:
    """So many small pictures, in a folder for each day."""
    samplers = list(SAMPLERS)
    for k in range(count):
        folder = outputs / f"2026-{1 + k // DAY // 28:02d}-{1 + k // DAY % 28:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        picture = np.full((64, 64, 3), k % 256, np.uint8)
        metadata.save_png(picture, folder / f"{k:06d}.png", Request(
            prompt=f"boat {k} on a sea of {k % 97} waves", seed=k, sampler=samplers[k % len(samplers)]))


def opening(page: Visitor) -> dict[str, float]:
    """What the tab asks when it opens, and a search: seconds each takes."""
    (number, _), = [one for one in page.questions if one[1] == "thumbs"]
    took: dict[str, float] = {}

    def ask(what: str, name: str, question: Any) -> Any:
        began = time.perf_counter()
        answer = page.ask(number, name, question).json()
        took[what] = round(time.perf_counter() - began, 3)
        return answer

    first = ask("the first rows", "look", {"fresh": True, "offset": 0, "count": 60})
    ask("choices", "choices", {})
    ask("24 small pictures", "thumbs", {"ids": [row["id"] for row in first["rows"][:24]]})
    took["opening"] = round(sum(took.values()), 3)
    ask("a search", "look", {"words": "boat 77", "offset": 0, "count": 60})
    ask("the last rows", "look", {"offset": first["total"] - 60, "count": 60})
    return took


class Loaded:
    """Counts what a page of Playwright asks of the history."""

    def __init__(self, page: Any):
        self.looks, self.thumbs, self.bytes = 0, 0, 0
        self.offsets: set[int] = set()  # of the blocks of rows
        page.on("requestfinished", self._count)

    def _count(self, request: Any) -> None:
        if "component_server" not in request.url:
            return
        asked = json.loads(request.post_data or "{}")
        question = asked.get("data") or {}
        if asked.get("fn_name") == "look" and "count" in question:
            self.looks += 1
            self.offsets.add(question["offset"])
            self.bytes += request.sizes()["responseBodySize"]
        elif asked.get("fn_name") == "thumbs":
            self.thumbs += len(question["ids"])


def scroll(page: Any, part: float) -> None:
    """To this part of an open gallery, and wait until what is in sight there has come."""
    page.locator(".history-room").evaluate("(room, part) => { room.scrollTop = part * room.scrollHeight; }", part)
    page.wait_for_timeout(1500)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, default=10_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder / "outputs", chosen.pictures)
        with served(folder, lambda: FakeRunner(0)) as studio, httpx.Client(base_url=studio.address, timeout=600) as one:
            began = time.perf_counter()
            of(folder / "outputs").scan()
            print(f"building the index of {chosen.pictures:,} pictures: {time.perf_counter() - began:.2f} s")
            for what, seconds in opening(Visitor(one)).items():
                print(f"{what}: {seconds:.3f} s")
            scrolled(studio)


def scrolled(studio: Any) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        path = chromium.find(driver.chromium.executable_path)
        if path is None:
            print(chromium.ADVICE)
            return
        browser = driver.chromium.launch(executable_path=path, args=chromium.ARGUMENTS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        loaded = Loaded(page)
        page.goto(f"{studio.address}#history")
        page.get_by_role("list", name="Pictures").get_by_role("listitem").first.wait_for()
        for part in (0.0, 0.3, 0.6, 1.0):
            scroll(page, part)
            print(f"scrolled to {part:.0%}: {loaded.looks} answers, {len(loaded.offsets)} blocks of 60 rows, "
                  f"{loaded.thumbs} small pictures, {loaded.bytes / 1000:,.0f} kB; "
                  f"{page.get_by_role('listitem').count()} tiles in the page")
        browser.close()


if __name__ == "__main__":
    main()
