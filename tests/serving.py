"""The whole studio on a free port, for tests of the page and its endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import app
from core.jobs import Jobs, Runner
from core.logins import Logins
from core.models.catalogue import Catalogue
from core.ownpresets import Presets
from core.presets import load_styles
from tests.fakes import FakeCatalogue, FakeRunner
from tests.holding import holdable
from ui.studio import Studio

# Of gradio and what it stands on, not ours: see gradio's routes.py and starlette's templating.
THIRD_PARTY = ("ignore::DeprecationWarning:gradio.*", "ignore::DeprecationWarning:starlette.*",
               "ignore::DeprecationWarning:websockets.*", "ignore::DeprecationWarning:uvicorn.*")


class Served(NamedTuple):
    address: str
    studio: Studio


@contextlib.contextmanager
def served(folder: Path, runner: Callable[[], Runner] | None = None, catalogue: Catalogue | None = None,
           model: str = "storybook", logins: Logins | None = None) -> Iterator[Served]:
    """A running studio; without arguments one whose runner is a FakeRunner of 0.05 s a step, and without logins."""
    jobs = Jobs(lambda: holdable((runner or FakeRunner)()), folder / "outputs", folder / "frames")
    studio = Studio(catalogue or FakeCatalogue(folder / "models"), jobs, load_styles(), model,
                    presets=Presets(folder / "presets"), logins=logins is not None)

    async def launch() -> tuple[str, Any]:  # where no loop runs, gradio makes one for every lock and closes none
        return app.launch(studio, "127.0.0.1", 0, logins)

    with ThreadPoolExecutor(1) as thread:  # Playwright's loop may run in this one
        address, page = thread.submit(asyncio.run, launch()).result()
    try:
        yield Served(address, studio)
    finally:
        page.close(verbose=False)
        jobs.close()
