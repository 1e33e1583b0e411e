"""Runs without end: whenever an owner's last job is done, another one like it, with a new seed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from core.errors import LoomError
from core.job import Job
from core.request import Preview, Request

log = logging.getLogger(__name__)


@dataclass
class Forever:
    """One owner's. scope: the form that asked for it."""

    scope: str
    request: Request | None = None  # to be made again with new seeds; None: that of the owner's last job
    preview: Preview | None = None
    job: Job | None = None  # the newest that came of it


class Forevers:
    """By owner. `kept` and `recall` take them over the studio's end."""

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

    def kept(self) -> dict[str, Any]:
        return {owner: {"scope": one.scope, "request": one.request and one.request.to_dict(),
                        "preview": one.preview and [one.preview.decoder, one.preview.budget]}
                for owner, one in self._known.items()}

    def recall(self, about: dict[str, Any]) -> None:
        """Take over what was `kept`. One that is damaged is passed over."""
        for owner, one in about.items():
            try:
                self._known[owner] = Forever(str(one["scope"]), one["request"] and Request.parse(one["request"]),
                                             one["preview"] and Preview(*one["preview"]))
            except (LoomError, KeyError, TypeError, ValueError) as error:
                log.warning("a forever is not gone on with: %s", error)

    def owners(self) -> list[str]:
        return list(self._known)

    def clear(self) -> None:
        self._known.clear()
