"""What endpoints answer with: files, and an object on how they came to be; and what components ask the server."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from core.checks import Note
from core.errors import BadRequest, LoomError
from core.jobs import Job
from core.owners import home
from ui.components.base import file_url
from ui.languages import say, speaking
from ui.stream import settings_line
from ui.studio import Studio

Answer = dict[str, Any]


async def to_the_end(studio: Studio, job: Job, notes: Sequence[Note] = ()) -> tuple[Any, dict]:
    """(PNG files, about them) once the job is over; it is stopped when nobody waits any more. Raises its LoomError."""
    try:
        async for _ in studio.jobs.watch(job):
            pass
    finally:  # nobody is left to want it when the client is gone
        studio.jobs.stop(job.id)
    return answer_of(studio, job, notes)


def answer_of(studio: Studio, job: Job, notes: Sequence[Note] = ()) -> tuple[Any, dict]:
    """(PNG files, about them) of a job that is over. Raises its LoomError, and BadRequest for one thrown away."""
    if job.state == "discarded":
        raise BadRequest("This run was discarded: ask for it again.")
    if job.error:
        raise job.error
    request, outputs = job.request, home(studio.jobs.outputs, job.owner)
    kept = job.trajectory if job.trajectory and job.trajectory.is_relative_to(outputs) else None
    lines = [*(note.text for note in notes), *([job.note] if job.note else [])]
    with speaking():
        settings = settings_line(request)
    info = {"seed": request.seed, "settings": settings, "request": request.to_dict(),
            "evaluations": job.steps[-1].evaluations if job.steps else 0, "seconds": round(job.seconds, 3),
            "stopped": job.state == "stopped", "notes": lines,
            "trajectory": kept.relative_to(outputs).as_posix() if kept else "",
            "urls": [file_url(path) for path in job.results]}
    return files(job.results), info


def files(paths: Sequence[Path]) -> Any:
    """PNG files as gradio sends them."""
    return [{"path": str(path.resolve()), "url": None, "orig_name": path.name, "mime_type": "image/png",
             "meta": {"_type": "gradio.FileData"}} for path in paths]


def carried(event: gr.EventData) -> Answer:
    """What a component says of its event; {} for what is no object."""
    return dict(event._data) if isinstance(event._data, dict) else {}


def answered(ask: Callable[..., Awaitable[Answer]]) -> Callable[[Any, Any], Awaitable[Answer]]:
    """What the page asked for, or {"error": one line, "field": the field it is about}."""
    @functools.wraps(ask)
    async def answer(self: Any, question: Any) -> Answer:
        try:
            return await ask(self, question)
        except LoomError as error:
            return {"error": str(error), "field": error.field or ""}
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return {"error": say("answers.odd"), "field": ""}

    return answer


def plain(method: Callable[[Any], Awaitable[Answer]]) -> Callable[[Any], Awaitable[Answer]]:
    """As gradio wants it: named like the method, with one argument."""
    async def ask(question: Any = None) -> Answer:
        return await method(question)

    ask.__name__ = method.__name__
    return ask
