"""Jobs -> what the stage shows. The only adapter between the queue and the page.

Every state is whole (never a difference), small, and JSON; pixels travel as addresses of files.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from core import metadata, samplers
from core.errors import LoomError
from core.jobs import Job, Jobs
from core.request import Request
from ui.components.base import file_url
from ui.languages import say

REFRESH = 1.0  # seconds after which a waiting run's place in the queue is looked at again
LOOK = 0.1  # seconds between looks for the next run of "forever"
MAX_PAGES = 1_000  # whose list of runs is remembered

State = dict[str, Any]


def settings_line(request: Request) -> str:
    """The settings in words, without the prompt: "seed 11 · DPM++ 2M Karras · 20 steps ..."."""
    sampler = request.sampler
    try:
        sampler = f"{sampler} {samplers.resolve(sampler, request.schedule, request.steps)[1]}"
    except LoomError:
        pass
    parts = [say("settings.seed", seed=request.seed), sampler, say("settings.steps", n=request.steps),
             say("settings.guidance", guidance=f"{request.guidance:g}"), f"{request.width}×{request.height} px"]
    if request.batch > 1:
        parts.append(say("settings.pictures", n=request.batch))
    parts.append(Path(request.model).name)
    if request.refiner:
        parts.append(say("settings.refiner", refiner=Path(request.refiner).name, share=f"{request.refiner_from:g}"))
    return " · ".join(parts)


def state_of(job: Job, jobs: Jobs, behind: Sequence[str] = (), scope: str = "") -> State:
    """What the stage shows of a job. behind: ids of the same page's other jobs. scope: the form it belongs to."""
    steps = [[round(step.sigma, 3), round(step.seconds, 2)] for step in list(job.steps)]
    over = job.over
    ahead, left, exact = jobs.forecast(job)
    forever = jobs.forever(job.owner)
    results = list(job.results) if over else []
    request = job.request
    return {
        "job": job.id, "version": job.version, "state": job.state, "behind": list(behind),
        "ahead": ahead, "total": job.total, "exact": exact, "ending": job.cancel.is_set(), "resting": job.resting,
        "forever": forever is not None and forever.scope == scope,
        "width": request.width, "height": request.height, "batch": request.batch,
        "frames": file_url(job.frames_dir) if job.preview.decoder != "none" else "",
        "without": sorted(job.without_frame), "steps": steps, "left": None if left is None else round(left, 2),
        "results": [file_url(path) for path in results], "names": [path.name for path in results],
        "seconds": round(job.seconds, 2), "evaluations": job.steps[-1].evaluations if job.steps else 0,
        "error": str(job.error) if job.error else "", "note": job.note, "previews": previews_line(job) if over else "",
        "seed": request.seed, "prompt": request.prompt, "line": settings_line(request),
        "text": metadata.to_text(request), "found": found_in(job) if over else [],
    }


def previews_line(job: Job) -> str:
    """What a run's previews cost: "previews by the full decoder: 0.31 s beside the run, which waited 0.02 s".

    Empty before the first one, and for a run without. Waiting is what the run itself lost; work beside it also takes
    from it where cores are few, which only runs with and without tell apart: `python -m core bench`.
    """
    cost = job.previewer
    if cost is None or not cost.shown:
        return ""
    names = say("previews.and").join(say(f"previews.{name}") for name, _ in cost.shown.most_common())
    return say("previews.cost", names=names, spent=f"{cost.spent:.2f}", waited=f"{cost.waited:.2f}")


def found_in(job: Job) -> list[list[list[Any]]]:
    """For each picture [name, prompt, 0..1] of its regions: how surely the prompt's thing is there. Empty where
    nobody can tell."""
    regions = job.request.regions
    return [[[regions[number - 1].name, regions[number - 1].prompt, round(score, 2)]
             for number, score in scores.items() if 0 < number <= len(regions)] for scores in job.scores]


def turn_after(turn: int) -> int:
    """The number of a page's next follower. Later ones have larger numbers, also after the studio was started anew:
    when a follower ends gradio tells its last state again, which the page then knows for an old one."""
    return max(turn + 1, time.time_ns() // 1_000_000)


def empty(examples: Sequence[str], message: str = "", title: str = "") -> State:
    """The stage before the first run. message: one line on why it is empty, if that needs saying; title: a key."""
    return {"job": "", "state": "empty", "examples": list(examples), "error": message, "title": title}


class Desk:
    """Which runs each open page follows, in order. A page is gradio's session, new after every reload.

    scope: the form whose runs they are; what it makes "forever" is followed too.
    """

    def __init__(self, jobs: Jobs, scope: str = ""):
        self.jobs, self.scope = jobs, scope
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

    def attach(self, page: str, identities: Sequence[object], owner: str = "") -> Job | None:
        """Let a page follow its owner's jobs, known by name; the last of them, or None when the studio knows none."""
        known = (self.jobs.get(str(identity)) for identity in list(identities)[:50])
        found = [job for job in known if job and job.owner == owner]
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

    def last(self, page: str) -> Job | None:
        """The newest run that a page follows."""
        runs = self._pages.get(page)
        return runs[-1] if runs else None

    async def follow(self, page: str) -> AsyncIterator[State]:
        """The page's runs, one after the other, until all are over. A later follower of the same page takes over."""
        turn = self._turn[page] = turn_after(self._turn.get(page, 0))
        while self._turn.get(page) == turn and (runs := self._pages.get(page)):
            runs[:] = [job for job in runs if not job.over] or runs[-1:]
            job, told = self._foremost(runs), False
            async with contextlib.aclosing(_ticks(self.jobs, job)) as ticks:
                async for _ in ticks:
                    if self._turn.get(page) != turn:
                        return
                    state = self._state(job, runs, turn)
                    told = state["forever"]
                    yield state
                    if not job.over and self._foremost(runs) is not job:
                        break
            if job.settled and runs == [job]:
                if following := await self._one_more(page, turn, job):
                    runs.append(following)
                elif self._turn.get(page) == turn:  # it stays on the stage, and is where a reload comes back to
                    if told:  # ended elsewhere after the run's last change
                        yield self._state(job, runs, turn)
                    self._pages.pop(page, None)

    def _state(self, job: Job, runs: Sequence[Job], turn: int) -> State:
        behind = [other.id for other in runs if other is not job]
        return {**state_of(job, self.jobs, behind, self.scope), "turn": turn}

    def _foremost(self, runs: Sequence[Job]) -> Job:
        """What is worth looking at: what runs, else what comes next, else what is paused."""
        ranks = {"running": 0, "waiting": 1, "paused": 2}
        return min(runs, key=lambda job: (ranks.get(job.state, 3), self.jobs.position(job)))

    async def _one_more(self, page: str, turn: int, job: Job) -> Job | None:
        """What "forever" makes after a job, once it is there; None when it is off."""
        while self._turn.get(page) == turn and (forever := self.jobs.forever(job.owner)):
            if forever.scope != self.scope:
                break
            if forever.job and forever.job.created > job.created:
                return forever.job
            await asyncio.sleep(LOOK)
        return None


async def _ticks(jobs: Jobs, job: Job) -> AsyncGenerator[None, None]:
    """One tick per change of the job; while it waits, one now and then for its place in the queue and its time."""
    changes = jobs.watch(job)
    change = asyncio.ensure_future(anext(changes, None))
    try:
        while True:
            await asyncio.wait({change}, timeout=REFRESH)
            if change.done():
                if change.result() is None:
                    return
                change = asyncio.ensure_future(anext(changes, None))
            elif job.state != "waiting":
                continue
            yield
    finally:
        change.cancel()
        await asyncio.gather(change, return_exceptions=True)
        await changes.aclose()  # type: ignore[attr-defined]
