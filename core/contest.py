"""One comparison on its way through the queue, as its own thread writes it and everybody may read it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.compare import Cell, Comparison, reference_of
from core.comparing import Result
from core.job import Job
from core.planes import Plane
from core.request import Preview, Request

State = Literal["running", "stopped", "done"]


@dataclass(eq=False)
class Film:
    """The animated grid, from the moment somebody asked for it."""

    kind: str  # of core.export.KINDS
    made: int = 0  # frames
    total: int = 0
    over: bool = False
    path: Path | None = None  # once it is there
    error: str = ""


@dataclass(eq=False)
class Contest:
    """A comparison. Only its own thread writes to it; everybody may read. Lists: one entry per cell."""

    id: str
    comparison: Comparison
    preview: Preview
    folder: Path  # of its record, tables and grid
    owner: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict)  # what `comparison` was planned from; empty: not recorded
    created: float = field(default_factory=time.time)
    state: State = "running"
    phase: Literal["cells", "reference", "figures"] = "cells"
    jobs: list[Job | None] = field(default_factory=list)
    figures: list[dict[str, float]] = field(default_factory=list)
    changes: list[list[float]] = field(default_factory=list)  # of x0 from step to step, relative
    planes: list[Plane] = field(default_factory=list)  # the paths of x0; one for the cells of each prompt, seed, size
    references: dict[Request, Job] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)  # grid.png, results.csv, results.json, the animated grid
    film: Film | None = None
    error: str = ""  # what ended it before its time
    # begins at the time in microseconds, which no count of changes outruns: a page that saw it before a restart sees it
    # go on
    changed: int = field(default_factory=lambda: time.time_ns() // 1000)
    cancel: threading.Event = field(default_factory=threading.Event)
    forgotten: bool = False  # nobody can ask for it any more
    stale: bool = False  # made with other weights than those that are here: it can be looked at, not gone on with
    restoring: bool = False  # opened again: curves, paths and previews are on their way

    def __post_init__(self) -> None:
        count = len(self.comparison.cells)
        self.jobs = [None] * count
        self.figures, self.changes = [{} for _ in range(count)], [[] for _ in range(count)]

    @property
    def version(self) -> int:
        """Grows with every change."""
        return self.changed + sum(job.version for job in self.runs())

    @property
    def over(self) -> bool:
        return self.state != "running"

    @property
    def settled(self) -> bool:
        """Over, and nothing about it will change unless somebody asks."""
        return self.over and not self.restoring and all(job.settled for job in self.runs()) and \
            (self.film is None or self.film.over)

    def missing(self) -> list[int]:
        """Cells that can be made and have not been."""
        return [k for k, (cell, job) in enumerate(zip(self.comparison.cells, self.jobs, strict=True))
                if cell.request and (job is None or job.state != "done")]

    def done(self) -> list[int]:
        """Cells that are finished."""
        return [k for k, job in enumerate(self.jobs) if job and job.state == "done"]

    @property
    def resumable(self) -> bool:
        return self.over and not self.stale and bool(self.missing() or self.unmeasured())

    def unmeasured(self) -> list[int]:
        """Finished cells that lack figures which they could have."""
        return [k for k in self.done() if not self.figures[k] or self._lacks_distance(k)]

    def _lacks_distance(self, k: int) -> bool:
        steps, job = self.comparison.reference_steps, self.jobs[k]
        if not steps or "distance" in self.figures[k] or job is None or job.latents is None:
            return False
        reference = self.references.get(reference_of(self.request(k), steps))
        return reference is None or reference.state == "stopped"

    def request(self, k: int) -> Request:
        """Of a cell that can be made."""
        request = self.comparison.cells[k].request
        assert request is not None
        return request

    def result(self, k: int) -> Result:
        """Cell number k (from 0) as far as it is."""
        cell, job = self.comparison.cells[k], self.jobs[k]
        return result_of(job, cell) if job and job.over else Result(cell, error=cell.error)

    def rows(self) -> list[dict[str, Any]]:
        """What the tables hold: a row for every cell."""
        return [self.result(k).row() | self.figures[k] for k in range(len(self.jobs))]

    def runs(self) -> list[Job]:
        """All jobs there are, those of the references too."""
        return [job for job in [*self.jobs, *self.references.values()] if job]


def result_of(job: Job, cell: Cell) -> Result:
    """A job that is over, as the tables want it. The picture of one that was stopped is no result."""
    whole = job.state == "done"
    return Result(cell, job.results[0] if whole and job.results else None, job.latents if whole else None,
                  job.steps[-1].evaluations if job.steps else 0, job.seconds, "",
                  str(job.error) if job.error else "" if whole else "stopped")
