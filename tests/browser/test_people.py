"""Two people on one studio, each in a browser of their own: real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from core.logins import Logins
from tests.browser.waiting import has_count, is_shown
from tests.fakes import FakeRunner
from tests.serving import THIRD_PARTY, Served, served

pytestmark = [pytest.mark.browser, *(pytest.mark.filterwarnings(line) for line in THIRD_PARTY)]


@pytest.fixture
def shared(tmp_path: Any) -> Iterator[Served]:
    with served(tmp_path, lambda: FakeRunner(0.02, records=True), logins=Logins.of(["ann:a", "bob:b"])) as studio:
        yield studio


@pytest.fixture
def come(browser: Any, visit: Any) -> Iterator[Any]:
    """come(served, name, password): the page of somebody who has logged in."""
    contexts = []

    def open_page(server: Served, name: str, password: str) -> Any:
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        contexts.append(context)
        door = context.new_page()
        door.goto(server.address)
        door.get_by_text("Ask whoever runs this studio").wait_for()
        door.get_by_label("username").fill(name)
        door.get_by_label("password").fill(password)
        door.get_by_role("button", name="Login").click()
        door.get_by_role("button", name="Generate").wait_for(timeout=60_000)
        door.close()
        return visit(server, context=context)

    yield open_page
    for context in contexts:
        context.close()


def painted(page: Any, prompt: str) -> None:
    page.get_by_role("textbox", name="Prompt", exact=True).fill(prompt)
    page.get_by_role("button", name="Generate").click()
    page.get_by_role("img", name="Picture, finished").wait_for()


def test_each_sees_their_own_pictures_and_runs(come: Any, shared: Served) -> None:
    ann, bob = (come(shared, name, name[0]) for name in ("ann", "bob"))
    painted(ann, "ann's boat")
    painted(bob, "bob's barn")
    for page, own, other in ((ann, "ann's boat", "bob's barn"), (bob, "bob's barn", "ann's boat")):
        page.get_by_role("tab", name="History").click()
        page.get_by_text("1 picture", exact=True).wait_for()
        has_count(page.get_by_role("list", name="Pictures").get_by_role("listitem"), 1)
        page.get_by_role("tab", name="Live preview").click()
        page.get_by_role("img", name="x0, step 20 of 20").wait_for()
        is_shown(page.locator(".inspector").get_by_text(own).first)
        assert other not in page.locator("body").inner_text()
        page.reload()  # each comes back to their own
        page.get_by_role("img", name="x0, step 20 of 20").wait_for()
        is_shown(page.locator(".inspector").get_by_text(own).first)
        assert other not in page.locator("body").inner_text()
