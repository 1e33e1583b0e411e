"""Runs without end: whenever an owner's last job is done, another one like it, with a new seed."""

from __future__ import annotations

from dataclasses import dataclass

from core.job import Job
from core.request import Preview, Request


@dataclass
class Forever:
    """One owner's. scope: the form that asked for it."""

    scope: str
    request: Request | None = None  # to be made again with new seeds; None: that of the owner's last job
    preview: Preview | None = None
    job: Job | None = None  # the newest that came of it


class Forevers:
    """By owner. Not kept over the studio's end."""

    def __init__(self) -> None:
        self._known: dict[str, Forever] = {}

    def begin(self, owner: str, scope: str, job: Job | None) -> None:
        """job: whose like is to be made from now on; None: as before, or like the owner's last."""
        known = self._known.get(owner)
        self._known[owner] = made = known if known and known.scope == scope else Forever(scope)
        if job is not None:
            made.request, made.preview = job.request, job.preview

    def end(self, owner: str) -> None:
        self._known.pop(owner, None)

    def of(self, owner: str) -> Forever | None:
        return self._known.get(owner)

    def after(self, job: Job) -> Forever | None:
        """What follows an owner's last job, if anything. One that failed, or could not be kept, ends it."""
        if job.state == "failed" or job.unsaved:
            self.end(job.owner)
        forever = self._known.get(job.owner)
        if forever and forever.request is None and job.lasting and job.past is None:
            forever.request, forever.preview = job.request, job.preview
        return forever

    def clear(self) -> None:
        self._known.clear()
