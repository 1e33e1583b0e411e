"""The history -> what the gallery shows. The only adapter between core.history and the page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from core import contestfile, metadata
from core.errors import BadRequest, LoomError
from core.history import Entry, History, Query, of
from core.history.companion import steps_of
from core.history.thumbs import thumb
from core.owners import home
from core.request import MAX_SEED, Request
from ui.answers import Answer, answered, plain
from ui.arrival import others
from ui.components.base import file_url
from ui.inspection import when
from ui.languages import say
from ui.owners import owner_of
from ui.stream import settings_line

MOST_THUMBS = 24  # that are made for one answer
SHOWN = 200  # characters of a prompt in a tile's name
_WORDS = ("words", "model", "sampler", "since", "until", "tag")


class Shelf:
    """What the gallery asks the server: each method takes one object and gives one. Everybody sees their own pictures.

    outputs, frames: as in core.jobs.Jobs.
    """

    def __init__(self, outputs: Path, frames: Path):
        self._outputs, self._frames = outputs, frames

    @property
    def history(self) -> History:
        """That of whoever is asking."""
        return of(home(self._outputs, owner_of()))

    @property
    def spare(self) -> Path:
        return home(self._frames, owner_of()) / "thumbs"

    def functions(self) -> list[Callable[..., Any]]:
        """For gradio, which names them after their `__name__` and passes one argument."""
        return [plain(getattr(self, name)) for name in
                ("look", "thumbs", "detail", "choices", "change", "empty_trash")]

    @answered
    async def look(self, question: Any) -> Answer:
        """{words, model, ..., favourites, trash, offset, count} -> {"total", "rows", "building", "note"}"""
        query, offset = _query(question), int(question.get("offset", 0))
        count = int(question.get("count", 60))

        def find() -> Answer:
            building = self.history.refresh() if question.get("fresh") else False
            total, entries = self.history.search(query, offset, count)
            skipped = self.history.skipped()
            notes = [self.history.note] * bool(self.history.note)
            if skipped:
                first, rest = skipped[0], len(skipped) - 1
                notes.append(say("history.skipped", first=first, n=rest) if rest else first)
            return {"total": total, "rows": [self._row(entry) for entry in entries], "building": building,
                    "note": " ".join(notes)}

        return await asyncio.to_thread(find)

    @answered
    async def thumbs(self, question: Any) -> Answer:
        """{ids} -> {"urls": {id: address}}; one that cannot be made has an empty one."""
        def make() -> Answer:
            urls = {}
            for identity in list(question["ids"])[:MOST_THUMBS]:
                try:
                    urls[str(identity)] = file_url(thumb(self.history, self.history.get(int(identity)), self.spare))
                except LoomError:
                    urls[str(identity)] = ""
            return {"urls": urls}

        return await asyncio.to_thread(make)

    @answered
    async def detail(self, question: Any) -> Answer:
        """{id} -> everything about a picture, for the large view."""
        return await asyncio.to_thread(lambda: self._detail(self.history.get(int(question["id"]))))

    @answered
    async def choices(self, question: Any) -> Answer:
        """What can be searched for."""
        return dict(await asyncio.to_thread(self.history.choices))

    @answered
    async def change(self, question: Any) -> Answer:
        """{id, one of: favourite, tags, deleted} -> the row as it is then."""
        identity = int(question["id"])

        def work() -> Answer:
            if "deleted" in question:
                move = self.history.delete if question["deleted"] else self.history.restore
                return self._row(move(identity))
            return self._row(self.history.mark(identity, question.get("favourite"), question.get("tags")))

        return await asyncio.to_thread(work)

    @answered
    async def empty_trash(self, question: Any) -> Answer:
        """-> {"gone": how many}"""
        return {"gone": await asyncio.to_thread(self.history.empty_trash)}

    def _row(self, entry: Entry) -> Answer:
        path = self.spare / "" if self.history.note else self.history.thumb_path(entry)
        return {"id": entry.id, "width": entry.width, "height": entry.height, "prompt": entry.prompt[:SHOWN],
                "when": when(entry.made), "favourite": entry.favourite, "tags": list(entry.tags),
                "thumb": file_url(path) if path.is_file() else ""}

    def _detail(self, entry: Entry) -> Answer:
        path = self.history.path(entry)
        found = metadata.read(path)
        settings = found.settings
        line = settings_line(found.request) if found.request else ""
        if settings and not line:
            given = settings.values
            names = ("seed", "sampler", "schedule", "steps", "guidance", "model")
            line = " · ".join(say(f"history.given.{name}", value=given[name]) for name in names if name in given)
        deleted = entry.deleted is not None
        return {**self._row(entry), "prompt": entry.prompt, "negative": entry.negative, "url": file_url(path),
                "name": path.name, "line": line, "program": entry.program,
                "about": f"{when(entry.made)} · {entry.width} × {entry.height} px · {entry.bytes / 1000:,.0f} kB",
                "other": others(settings), "settings": settings is not None,
                "regions": entry.regions, **({"run": "", "picture": 0} if deleted else self._run(path, found.request)),
                "compare": "" if deleted else contestfile.of_picture(path, self.history.outputs), "deleted": deleted}

    def _run(self, path: Path, request: Request | None) -> Answer:
        """The kept steps a picture came of, by their place below the outputs, "" when there are none; and which of that
        run's pictures it is."""
        kept = steps_of(path)
        run = next((other for other in kept if other.stem == path.stem), kept[0] if kept else None)
        if run is None:
            return {"run": "", "picture": 0}
        first = run.stem.rpartition("-")[2]  # its seed; each further picture has the next
        picture = (request.seed - int(first)) % (MAX_SEED + 1) if request and first.isdecimal() else 0
        return {"run": run.relative_to(self.history.outputs).as_posix(), "picture": picture}

    def file(self, event: Mapping[str, Any]) -> Path:
        """The picture that an event is about. Raises LoomError."""
        try:
            return self.history.path(self.history.get(int(event.get("id", ""))))
        except (TypeError, ValueError):
            raise BadRequest(say("history.not-there")) from None


def _query(question: Mapping[str, Any]) -> Query:
    return Query(**{name: str(question.get(name) or "") for name in _WORDS},
                 favourites=bool(question.get("favourites")), trash=bool(question.get("trash")))
