"""Comparisons in the queue: every cell an ordinary job, a few at a time, so that other people's runs come between.

Cells first, then the reference runs, then the figures; tables and the labelled grid land beside the day's pictures.
A comparison that was stopped, or lost cells to errors, goes on with what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core import comparing, grid, metrics
from core.compare import Cell, Comparison, reference_of
from core.comparing import Result, Score
from core.errors import BadRequest, LoomError
from core.files import disk_errors
from core.job import Job
from core.jobs import Jobs
from core.request import Preview, Request
from core.trajectory import Trajectory

log = logging.getLogger(__name__)

AHEAD = 2  # cells in the queue at once: the device never waits, and others wait for two cells at most
KEPT = 4  # comparisons whose frames are kept
MAX_CELLS = 150
LOOK = 0.12  # seconds between looks at a comparison that is watched

State = Literal["running", "stopped", "done"]


@dataclass(eq=False)
class Contest:
    """A comparison on its way. Only its own thread writes to it; everybody may read. Lists: one entry per cell."""

    id: str
    comparison: Comparison
    preview: Preview
    folder: Path  # of tables and grid, once there are some
    owner: str = ""
    state: State = "running"
    phase: Literal["cells", "reference", "figures"] = "cells"
    jobs: list[Job | None] = field(default_factory=list)
    figures: list[dict[str, float]] = field(default_factory=list)
    changes: list[list[float]] = field(default_factory=list)  # of x0 from step to step, relative
    references: dict[Request, Job] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)  # grid.png, results.csv, results.json
    error: str = ""  # what ended it before its time
    changed: int = 0
    cancel: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        count = len(self.comparison.cells)
        self.jobs = [None] * count
        self.figures, self.changes = [{} for _ in range(count)], [[] for _ in range(count)]

    @property
    def version(self) -> int:
        """Grows with every change."""
        return self.changed + sum(job.version for job in [*self.jobs, *self.references.values()] if job)

    @property
    def over(self) -> bool:
        return self.state != "running"

    def missing(self) -> list[int]:
        """Cells that can be made and have not been."""
        return [k for k, (cell, job) in enumerate(zip(self.comparison.cells, self.jobs, strict=True))
                if cell.request and (job is None or job.state != "done")]

    def result(self, k: int) -> Result:
        """Cell number k (from 0) as far as it is."""
        cell, job = self.comparison.cells[k], self.jobs[k]
        return _result(job, cell) if job and job.over else Result(cell, error=cell.error)

    def rows(self) -> list[dict[str, Any]]:
        """What the tables hold: a row for every cell."""
        return [self.result(k).row() | self.figures[k] for k in range(len(self.jobs))]

    def runs(self) -> list[Job]:
        """All jobs there are, those of the references too."""
        return [job for job in [*self.jobs, *self.references.values()] if job]


class Contests:
    """The comparisons of a studio. score: prompt against picture, for the model of a comparison, or None; it is asked
    for in the comparison's own thread, where a heavy import holds nobody up."""

    def __init__(self, jobs: Jobs, score: Callable[[Comparison], Score | None] = lambda comparison: None):
        self.queue, self._score = jobs, score
        self._known: OrderedDict[str, Contest] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, comparison: Comparison, preview: Preview | None = None, owner: str = "") -> Contest:
        """Begin to make a comparison. Raises BadRequest for more cells than can be shown at once."""
        if len(comparison.cells) > MAX_CELLS:
            raise BadRequest(f"{len(comparison.cells)} cells are more than the page can show: take {MAX_CELLS} at "
                             "most, or make them with python -m core compare.")
        identity = secrets.token_urlsafe(12)
        folder = self.queue.outputs / time.strftime("%Y-%m-%d") / f"comparison-{time.strftime('%H%M%S')}-{identity[:6]}"
        contest = Contest(identity, comparison, preview or Preview(), folder, owner)
        with self._lock:
            self._known[identity] = contest
            over = [old for old in self._known.values() if old.over]
            for old in over[: max(0, len(self._known) - KEPT)]:
                del self._known[old.id]
                for job in old.runs():
                    job.held = False
        self._begin(contest)
        return contest

    def resume(self, contest: Contest) -> None:
        """Make what is missing. Harmless while it runs."""
        with self._lock:
            if not contest.over:
                return
            contest.state, contest.error = "running", ""
            contest.cancel = threading.Event()
        self._begin(contest)

    def stop(self, contest: Contest) -> None:
        """Stop before the next network call; finished cells stay."""
        contest.cancel.set()
        for job in contest.runs():
            self.queue.stop(job.id)
        contest.changed += 1

    def get(self, identity: str) -> Contest | None:
        return self._known.get(identity)

    async def watch(self, contest: Contest) -> AsyncIterator[Contest]:
        """The comparison now and after every change until it is over, and no preview is on its way any more; fast
        changes arrive as one."""
        seen = -1
        while True:
            over = contest.over and all(job.settled for job in contest.runs())
            version = contest.version
            if over or version != seen:
                seen = version
                yield contest
            if over:
                return
            await asyncio.sleep(LOOK)

    # -- in the comparison's own thread

    def _begin(self, contest: Contest) -> None:
        contest.changed += 1
        threading.Thread(target=self._work, args=[contest], name="comparison", daemon=True).start()

    def _work(self, contest: Contest) -> None:
        try:
            self._make(contest)
            self._measure(contest)
        except LoomError as error:
            contest.error = str(error)
        except Exception as error:  # our own mistake: the cells that there are stay
            log.exception("comparison %s failed", contest.id)
            contest.error = (f"Something broke inside the studio ({type(error).__name__}). The server's log has the "
                             "details; the finished cells are kept.")
        contest.changed += 1
        # state last: it is what watchers wait for
        contest.state = "stopped" if contest.error or contest.cancel.is_set() else "done"

    def _make(self, contest: Contest) -> None:
        contest.phase = "cells"
        pending: deque[int] = deque()
        for k in contest.missing():
            if len(pending) == AHEAD:
                self._end(contest, pending.popleft())
            if contest.cancel.is_set():
                break
            before = contest.jobs[k]
            contest.jobs[k] = self._submit(contest, contest.comparison.cells[k].request, contest.preview, before)
            contest.changed += before.version + 1 if before else 1  # the new job counts from nothing
            pending.append(k)
        for k in pending:
            self._end(contest, k)

    def _submit(self, contest: Contest, request: Request | None, preview: Preview, before: Job | None = None) -> Job:
        """A job for a cell; one that was stopped before goes on from its kept steps."""
        assert request is not None
        job = None
        if before and before.state == "stopped" and before.trajectory:
            with contextlib.suppress(LoomError):  # the file is gone, or of other weights: from the beginning then
                job = self.queue.submit_resume(before.trajectory, preview, contest.owner)
        job = job or self.queue.submit(request, preview, contest.owner)
        job.held = True
        if before:
            before.held = False
        if contest.cancel.is_set():  # set while the job was on its way: `stop` did not see it
            self.queue.stop(job.id)
        return job

    def _end(self, contest: Contest, k: int) -> None:
        job = contest.jobs[k]
        assert job is not None
        self.queue.wait(job)
        if job.state == "done" and job.trajectory:
            with contextlib.suppress(LoomError):  # gone already, where the disk is small: the plot does without
                contest.changes[k] = changes_of(Trajectory(job.trajectory, check=False))
        contest.changed += 1

    def _measure(self, contest: Contest) -> None:
        """Reference runs, figures, tables and grid, of the cells that there are."""
        steps = contest.comparison.reference_steps
        done = [k for k, job in enumerate(contest.jobs) if job and job.state == "done"]
        for k in done if steps else []:
            request = contest.comparison.cells[k].request
            assert request is not None
            wanted = reference_of(request, steps)
            before = contest.references.get(wanted)
            if contest.cancel.is_set() or (before and before.state in ("done", "failed")):
                continue
            contest.phase = "reference"
            contest.references[wanted] = job = self._submit(contest, wanted, Preview("none"), before)
            contest.changed += before.version + 1 if before else 1
            self.queue.wait(job)
            if job.error:
                contest.error = f"The reference of {steps} steps could not be made: {job.error}"
        if not done:
            return
        contest.phase = "figures"
        contest.changed += 1
        score = self._score(contest.comparison)
        for k in done:
            contest.figures[k] = self._figures(contest, k, done, score)
        with disk_errors("tables", contest.folder):
            contest.folder.mkdir(parents=True, exist_ok=True)
        comparing.write_tables(contest.rows(), contest.folder)
        results = [contest.result(k) for k in range(len(contest.jobs))]
        grid.save(comparing.sheet(contest.comparison, results), contest.folder / "grid.png")
        contest.files = [contest.folder / name for name in ("grid.png", "results.csv", "results.json")]

    def _figures(self, contest: Contest, k: int, done: list[int], score: Score | None) -> dict[str, float]:
        result, steps = contest.result(k), contest.comparison.reference_steps
        request = result.cell.request
        assert request is not None
        if steps:
            job = contest.references.get(reference_of(request, steps))
            other = _result(job, result.cell) if job and job.state == "done" else None
        else:
            cells = contest.comparison.cells
            same = (i for i in done if (one := cells[i].request) and comparing.same_start(one, request))
            other = contest.result(next(same))
        return comparing.figures(result, other, steps > 0, score)


def changes_of(run: Trajectory) -> list[float]:
    """How much x0 changed at each step but the first, over the size of what it was before."""
    estimates = [run.x0(k).astype(np.float64) for k in range(run.taken)]
    return [round(metrics.latent_distance(new, old), 5) for old, new in zip(estimates, estimates[1:], strict=False)]


def _result(job: Job, cell: Cell) -> Result:
    """A job that is over, as the tables want it. The picture of one that was stopped is no result."""
    whole = job.state == "done"
    return Result(cell, job.results[0] if whole and job.results else None, job.latents if whole else None,
                  job.steps[-1].evaluations if job.steps else 0, job.seconds, "",
                  str(job.error) if job.error else "" if whole else "stopped")
