"""The Live preview tab: look inside a run, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from core import export as exporting
from core import views
from core.errors import BadRequest, LoomError
from core.export import Options
from core.samplers import SAMPLERS
from ui import composition, form
from ui.answers import Answer, answered, carried, plain
from ui.components.base import file_url
from ui.components.inspector import Inspector
from ui.inspection import NEW_THUMBS, Inspection, empty, told, write
from ui.languages import say
from ui.owners import owner_of
from ui.runform import WATCH, page_of
from ui.studio import Studio

MOST_FRAMES = 8  # in one answer


class LivePreview:
    """Builds the tab inside the current gr.Tab and wires it."""

    def __init__(self, studio: Studio):
        self.inspection = Inspection(studio.jobs)
        self.inspector = Inspector(empty(), samplers=list(SAMPLERS),
                                   server_functions=Answers(self.inspection).functions())
        self.inspector.follow(self.follow, None, [self.inspector], **WATCH)

    async def follow(self, event: gr.EventData, request: gr.Request) -> AsyncIterator[Any]:
        """The run this page looks into, and every change of it."""
        asked = carried(event)
        async for state in self.inspection.follow(page_of(request), str(asked.get("run", "")),
                                                  str(asked.get("place", "")), owner_of(request)):
            yield state


class Answers:
    """What the inspector asks the server: each method takes one object and gives one. Steps count from 1 there."""

    def __init__(self, inspection: Inspection):
        self.inspection, self.jobs = inspection, inspection.jobs

    def functions(self) -> list[Callable[..., Any]]:
        """For gradio, which names them after their `__name__` and passes one argument."""
        return [plain(getattr(self, name)) for name in
                ("runs", "state", "frames", "look", "keep", "branch", "resume", "export", "stop")]

    @answered
    async def runs(self, question: Any) -> Answer:
        """{"runs": [{run, now, prompt, words, thumb}], "more"}"""
        rows, more = await asyncio.to_thread(self.inspection.listed, owner_of())
        fresh = NEW_THUMBS
        for row in rows:
            if row["now"]:
                continue
            try:
                found = await asyncio.to_thread(self.inspection.find, row["run"], owner_of())
                if found.active:
                    continue
                known = self.inspection.has_thumb(found)
                if known or fresh > 0:
                    fresh -= not known
                    row["thumb"] = await self.inspection.thumb(found)
            except LoomError:
                continue  # the list must not fail for one file
        return {"runs": rows, "more": more}

    @answered
    async def state(self, question: Any) -> Answer:
        """A run as it stands."""
        found = await self._find(question)
        return await asyncio.to_thread(self.inspection.state, found)

    @answered
    async def frames(self, question: Any) -> Answer:
        """{run, source, picture, steps} -> {"urls"}"""
        found = await self._find(question)
        wanted = [int(step) - 1 for step in question["steps"][:MOST_FRAMES]]
        source, picture = str(question["source"]), int(question["picture"])
        paths = await asyncio.gather(*(  # together, so that a run is interrupted once for all of them
            self.inspection.frame(found, k, source, picture, found.decoder) for k in wanted))
        return {"urls": [file_url(path) for path in paths]}

    @answered
    async def look(self, question: Any) -> Answer:
        """{run, step, picture, view} -> {"words", "pictures": [{label, url}]}"""
        found = await self._find(question)
        kept, view = found.kept, str(question["view"])
        step, picture = int(question["step"]) - 1, int(question["picture"])
        loop = asyncio.get_running_loop()

        def decode(latents: np.ndarray) -> np.ndarray:
            shown = self.jobs.decode(latents, kept.request, found.decoder, kept.outline.model)
            return asyncio.run_coroutine_threadsafe(_await(shown), loop).result()[0]

        seen = await asyncio.to_thread(views.look, view, kept, step, picture, decode)
        assert found.open is not None
        shown = []
        for number, made in enumerate(seen.pictures):
            path = found.open.folder / f"{view}-{found.decoder}-{step:03d}-{picture}-{number}.jpg"
            await asyncio.to_thread(write, made.pixels, path)
            shown.append({"label": told(made.label), "url": file_url(path)})
        return {"words": told(seen.words), "pictures": shown}

    @answered
    async def keep(self, question: Any) -> Answer:
        """{run, step, picture} -> {"url", "name"} of a PNG among the outputs."""
        found = await self._find(question)
        step, picture = int(question["step"]) - 1, int(question["picture"])
        views.check_step(found.kept, step, picture)
        path = (await self.jobs.keep_step(found.kept, step))[picture]
        return {"url": file_url(path), "name": path.name}

    @answered
    async def branch(self, question: Any) -> Answer:
        """{run, step, changes: field -> what was typed, "canvas" -> what is painted} -> {"run"}: the branch shares the
        steps up to this one."""
        found = await self._find(question)
        changes = {name: form.number(value) if name in ("guidance", "seed") else value
                   for name, value in dict(question["changes"]).items()}
        if canvas := changes.pop("canvas", None):  # what is painted in the Regions tab
            changes["regions"] = composition.regions_of(canvas, found.kept.request)
        job = self.jobs.submit_fork(found.kept, int(question["step"]), changes, owner=owner_of(), lasting=True)
        return {"run": job.id}

    @answered
    async def resume(self, question: Any) -> Answer:
        """{run} -> {"run"}: the same run, going on."""
        found = await self._find(question)
        return {"run": self.jobs.submit_resume(found.kept, owner=owner_of(), lasting=True).id}

    @answered
    async def stop(self, question: Any) -> Answer:
        job = self.jobs.get(str(question["run"]))
        if job and job.owner == owner_of():
            self.jobs.stop(job.id)
        return {}

    @answered
    async def export(self, question: Any) -> Answer:
        """{run, picture, kind, source, order, seconds, side} -> {"url", "name", "words"}"""
        found = await self._find(question)
        kept, picture = found.kept, int(question["picture"])
        options = Options(str(question["kind"]), str(question["source"]), str(question["order"]),
                          form.number(question["seconds"]), form.number(question["side"]))
        reels = {name: [await self.inspection.frame(found, k, name, picture, "vae") for k in range(kept.taken)]
                 for name in (("xt", "x0") if options.source == "both" else (options.source,))}
        pictures = {name: [_pixels(path) for path in paths] for name, paths in reels.items()}
        left, right = (pictures["xt"], pictures["x0"]) if options.source == "both" else (pictures[options.source], [])
        labels = [f"step {step.index + 1} · sigma {step.sigma:.3g}" for step in kept.steps[:kept.taken]]
        assert found.open is not None
        name = f"{kept.path.stem}-{options.source}{exporting.KINDS[options.kind].suffix}"
        path = await asyncio.to_thread(exporting.export, left, right, labels, found.open.folder / name, options)
        return {"url": file_url(path), "name": name, "words": _size(path.stat().st_size)}

    async def _find(self, question: Any) -> Any:
        if not isinstance(question, dict):
            raise BadRequest(say("answers.odd"))
        return await asyncio.to_thread(self.inspection.find, str(question["run"]), owner_of())


async def _await(shown: Awaitable[Any]) -> Any:
    return await shown


def _pixels(path: Any) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{max(count // 1000, 1)} kB"
