"""Jobs -> what the stage shows. The only adapter between the queue and the page.

Every state is whole (never a difference), small, and JSON; pixels travel as addresses of files.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from core import metadata, samplers
from core.errors import LoomError
from core.jobs import Job, Jobs
from core.request import Request
from ui.components.base import file_url

REFRESH = 1.0  # seconds after which a waiting run's place in the queue is looked at again
MAX_PAGES = 1_000  # whose list of runs is remembered

State = dict[str, Any]


def settings_line(request: Request) -> str:
    """The settings in words, without the prompt: "seed 11 · DPM++ 2M Karras · 20 steps ..."."""
    sampler = request.sampler
    try:
        sampler = f"{sampler} {samplers.resolve(sampler, request.schedule, request.steps)[1]}"
    except LoomError:
        pass
    batch = f"{request.batch} pictures · " if request.batch > 1 else ""
    return (f"seed {request.seed} · {sampler} · {request.steps} step{'s' * (request.steps > 1)} · "
            f"guidance {request.guidance:g} · {request.width}×{request.height} px · {batch}"
            f"{Path(request.model).name}")


def state_of(job: Job, jobs: Jobs, behind: Sequence[str] = ()) -> State:
    """What the stage shows of a job. behind: ids of the same page's jobs that come after it."""
    steps = [[round(step.sigma, 3), round(step.seconds, 2)] for step in list(job.steps)]
    over = job.over
    left = job.seconds_left
    results = list(job.results) if over else []
    request = job.request
    return {
        "job": job.id, "version": job.version, "state": job.state, "behind": list(behind),
        "ahead": jobs.position(job), "total": job.total,
        "width": request.width, "height": request.height, "batch": request.batch,
        "frames": file_url(job.frames_dir) if job.preview.decoder != "none" else "",
        "without": sorted(job.without_frame), "steps": steps, "left": None if left is None else round(left, 2),
        "results": [file_url(path) for path in results], "names": [path.name for path in results],
        "seconds": round(job.seconds, 2), "evaluations": job.steps[-1].evaluations if job.steps else 0,
        "error": str(job.error) if job.error else "", "note": job.note,
        "seed": request.seed, "prompt": request.prompt, "line": settings_line(request),
        "text": metadata.to_text(request), "found": found_in(job) if over else [],
    }


def found_in(job: Job) -> list[list[list[Any]]]:
    """For each picture [name, prompt, 0..1] of its regions: how surely the prompt's thing is there. Empty where
    nobody can tell."""
    regions = job.request.regions
    return [[[regions[number - 1].name, regions[number - 1].prompt, round(score, 2)]
             for number, score in scores.items() if 0 < number <= len(regions)] for scores in job.scores]


def empty(examples: Sequence[str], message: str = "", title: str = "") -> State:
    """The stage before the first run. message: one line on why it is empty, if that needs saying."""
    return {"job": "", "state": "empty", "examples": list(examples), "error": message, "title": title}


class Desk:
    """Which runs each open page follows, in order. A page is gradio's session, new after every reload."""

    def __init__(self, jobs: Jobs):
        self.jobs = jobs
        self._pages: OrderedDict[str, list[Job]] = OrderedDict()
        self._turn: dict[str, int] = {}
        self._lost: set[str] = set()

    def add(self, page: str, job: Job) -> None:
        runs = self._pages.setdefault(page, [])
        if job not in runs:
            runs.append(job)
        self._pages.move_to_end(page)
        while len(self._pages) > MAX_PAGES:
            old, _ = self._pages.popitem(last=False)
            self._turn.pop(old, None)

    def attach(self, page: str, identities: Sequence[object]) -> Job | None:
        """Let a page follow jobs it knows by name; the last of them, or None when the studio knows none."""
        found = [job for job in (self.jobs.get(str(identity)) for identity in list(identities)[:50]) if job]
        for job in found:
            self.add(page, job)
        if identities and not found:
            self._lost.add(page)
        return found[-1] if found else None

    def lost(self, page: str) -> bool:
        """Whether the page asked for runs that nobody knows (any more). Told once."""
        known = page not in self._lost
        self._lost.discard(page)
        return not known

    async def follow(self, page: str) -> AsyncIterator[State]:
        """The page's runs, one after the other, until all are over. A later follower of the same page takes over."""
        turn = self._turn[page] = self._turn.get(page, 0) + 1
        while self._turn.get(page) == turn and (runs := self._pages.get(page)):
            async for _ in _ticks(self.jobs, runs[0]):
                if self._turn.get(page) != turn:
                    return
                yield state_of(runs[0], self.jobs, [job.id for job in runs[1:]])
            if len(runs) == 1:  # the last one stays on the stage, and is where a reload comes back to
                del self._pages[page]
            else:
                runs.pop(0)


async def _ticks(jobs: Jobs, job: Job) -> AsyncIterator[None]:
    """One tick per change of the job, and one per change of its place in the queue."""
    changes = jobs.watch(job)
    change = asyncio.ensure_future(anext(changes, None))
    place = jobs.position(job)
    try:
        while True:
            await asyncio.wait({change}, timeout=REFRESH)
            if change.done():
                if change.result() is None:
                    return
                change = asyncio.ensure_future(anext(changes, None))
            elif place == (place := jobs.position(job)):
                continue
            yield
    finally:
        change.cancel()
        await asyncio.gather(change, return_exceptions=True)
        await changes.aclose()  # type: ignore[attr-defined]
