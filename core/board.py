"""The jobs that are known, and who watches them. Anybody may read; changes are made under one lock and told."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable

from core.job import Job
from core.log import Events
from core.request import Request

KEPT_JOBS = 60  # with their frames; older ones are forgotten, their results stay
KEPT_ESTIMATES = 8  # runs whose regions' own estimates stay in memory


class Board:
    """Jobs by name, oldest first. `lock` guards all that the queue consists of."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.events = Events()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._listeners: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}

    def get(self, identity: str) -> Job | None:
        return self._jobs.get(identity)

    def known(self) -> list[Job]:
        """The jobs that are not forgotten yet, oldest first."""
        with self.lock:
            return list(self._jobs.values())

    def pace(self, request: Request, worth: Callable[[Request], float] = lambda request: 1.0) -> float | None:
        """Seconds per whole pass of the last run with this model, size and windows; None before there was one.

        worth: of an evaluation of a run on average, in whole passes; less than 1 where regions were cropped.
        """
        kind = (request.model, request.width, request.height, request.panorama)
        for job in reversed(self.known()):
            asked = job.request
            if (asked.model, asked.width, asked.height, asked.panorama) == kind and job.over and job.steps:
                return job.steps[-1].seconds / (max(job.steps[-1].evaluations, 1) * worth(asked))
        return None

    def add(self, job: Job) -> None:
        """Known from now on; the oldest that are over are forgotten, with their frames."""
        with self.lock:
            self._jobs[job.id] = job
            free = [job for job in self._jobs.values() if not job.held]
            over = [job for job in free if job.over]
            for job in over[:-KEPT_ESTIMATES]:
                job.own_x0, job.latents = [], None  # a few MB each at 1024x1024
            for old in over[: max(0, len(free) - KEPT_JOBS)]:
                del self._jobs[old.id]
                self._listeners.pop(old.id, None)
                shutil.rmtree(old.frames_dir, ignore_errors=True)
        self.events.tell("restored" if job.rested else "queued", job)

    def change(self, job: Job, **values: object) -> None:
        """Set fields of a job and tell all who watch it."""
        def change() -> None:
            for name, value in values.items():
                setattr(job, name, value)

        before = job.state
        self.tell(job, change)
        if job.state != before:
            self.events.tell(job.state, job)

    @property
    def watchers(self) -> int:
        """How many follow a job at this moment."""
        with self.lock:
            return sum(map(len, self._listeners.values()))

    def tell(self, job: Job, change: Callable[[], object]) -> None:
        """Make a change to a job and tell all who watch it."""
        with self.lock:
            change()
            job.version += 1
            self.lock.notify_all()
            for loop, event in list(self._listeners.get(job.id, ())):
                with contextlib.suppress(RuntimeError):  # the watcher's loop is gone
                    loop.call_soon_threadsafe(event.set)

    async def watch(self, job: Job) -> AsyncIterator[Job]:
        """The job now, and again after every change until it has settled; fast changes arrive as one."""
        event = asyncio.Event()
        listener = (asyncio.get_running_loop(), event)
        with self.lock:
            self._listeners.setdefault(job.id, set()).add(listener)
        try:
            while True:
                event.clear()
                settled = job.settled
                yield job
                if settled:
                    return
                await event.wait()
        finally:
            with self.lock:
                others = self._listeners.get(job.id, set()) - {listener}
                if others:
                    self._listeners[job.id] = others
                else:
                    self._listeners.pop(job.id, None)

    def wait(self, job: Job, timeout: float | None = None) -> Job:
        """Block until the job is over (or the time is)."""
        with self.lock:
            self.lock.wait_for(lambda: job.over, timeout)
        return job
