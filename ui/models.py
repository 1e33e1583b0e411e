"""The list of models <-> the page: what it shows, and what choosing one does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import gradio as gr

from core.errors import LoomError
from core.models.header import shown
from ui.answers import carried
from ui.components.bar import bar_state
from ui.components.base import file_url
from ui.languages import word
from ui.studio import Studio

TICK = 0.4  # seconds between two looks at a model that loads
MOST_PICTURES = 200  # asked for in one go


def choices(studio: Studio) -> list[tuple[str, str]]:
    """(label, value) of the models that are here now; a refused one says why once it is chosen. With the pairs of
    model and VAE that somebody chose."""
    refused, names = studio.catalogue.refused(), studio.catalogue.names()
    pairs = sorted({studio.model, *studio.chosen}.difference(names))

    def label(name: str) -> Any:
        short = "Storybook" if name == "storybook" else Path(name).name
        return word("models.labelled-refused", name=short) if name in refused else short

    return [(label(name), name) for name in (*names, *pairs)]


def server_functions(studio: Studio) -> list[Callable[..., Any]]:
    """What the list asks the server for. Names and ids from the page only choose among what is listed here."""
    library, downloads = studio.library, studio.downloads

    def look(seen: Any) -> dict[str, Any]:
        """What has changed since {epoch, serial}; again: look into the folders. See Library.state."""
        seen = seen if isinstance(seen, dict) else {}
        library.look(again=seen.get("again") is True)
        epoch, serial = (value if isinstance(value := seen.get(key), int) else -1 for key in ("epoch", "serial"))
        now = downloads.now
        return {**library.state(epoch, serial), "vaes": sorted(studio.catalogue.vaes()),
                "folder": shown(studio.catalogue.models_dir), "offered": downloads.offered(),
                "download": now and {"name": now.name, "taken": now.taken, "total": now.total, "over": now.over,
                                     "error": now.error}}

    def pictures(names: Any) -> dict[str, str]:
        """Name -> address of its preview picture, "" without one."""
        asked = [str(name) for name in names[:MOST_PICTURES]] if isinstance(names, list) else []
        found = {name: library.thumbnail(name, studio.jobs.frames) for name in asked}
        return {name: file_url(path) if path else "" for name, path in found.items()}

    def licence(name: str) -> str:
        try:
            return library.licence(str(name))
        except LoomError as error:
            return str(error)

    def take_hash(name: str) -> None:
        library.hash(str(name))

    def download(name: str) -> str:
        """The reason why it did not begin, or nothing."""
        try:
            downloads.start(str(name))
        except LoomError as error:
            return str(error)
        return ""

    def stop_download(_asked: object = None) -> None:
        downloads.stop()

    return [look, pictures, licence, take_hash, download, stop_download]


def switching(studio: Studio) -> Callable[..., Any]:
    """The handler for choosing a model in the list."""

    async def switch(model: str, event: gr.EventData) -> AsyncIterator[tuple[Any, Any, Any]]:
        """Load the model that the event names, then make it the page's. One that fails leaves the page as it is.

        While runs wait, nothing is loaded before them: the model comes with its own first run.
        """
        name, began = str(carried(event).get("name", "")), time.monotonic()
        try:
            info = studio.catalogue.get(name)
            if not studio.jobs.queue_length():
                loading = asyncio.ensure_future(studio.jobs.load(name))
                while not loading.done():
                    told = {"state": "loading", "name": name, "seconds": round(time.monotonic() - began, 1),
                            "megabytes": info.megabytes}
                    yield told, gr.skip(), bar_state(studio, model)
                    await asyncio.wait({loading}, timeout=TICK)
                loading.result()
        except LoomError as error:
            if model != name:
                studio.jobs.warm(model)  # the one that was there comes back, if it had to go
            failed = {"state": "failed", "name": name, "error": str(error), "at": began}
            yield failed, gr.skip(), bar_state(studio, model)
            return
        studio.choose(name)
        chosen = {"state": "chosen", "name": name, "at": began}
        yield chosen, gr.Dropdown(choices=choices(studio), value=name), bar_state(studio, name)

    return switch
