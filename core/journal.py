"""What of the queue is to survive the studio: one small file for each job, and one for their order.

A job's file is written when it is queued and goes when it is over. Everything is written aside and renamed, so that a
studio that was killed at any moment finds each job either whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from core.errors import BadRequest, LoomError
from core.files import disk_errors, write_text
from core.job import Job
from core.owners import home
from core.request import Preview, Request
from core.trajectory import Past, Trajectory

log = logging.getLogger(__name__)

FOLDER = ".queue"  # below the outputs
ORDER = "order.json"
MAX_BYTES = 20_000_000  # of a job's file: 32 painted masks of 4096x4096 take less
MAX_TRIES = 3  # of a run under which the studio ended each time, without a step between
NAME = re.compile(r"[\w-]{6,40}")


class Journal:
    """One studio's. A second one with the same outputs folder finds it taken: `usable` is false, and it keeps none."""

    def __init__(self, outputs: Path):
        self.folder = Path(outputs).resolve() / FOLDER
        self._claim: IO[str] | None = None

    def open(self) -> bool:
        """Take the journal for this studio, until `close` or the process's end; whether that worked."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            claim = (self.folder / "taken").open("w", encoding="utf-8")
            if _lock(claim):
                self._claim = claim
                return True
            claim.close()
        log.warning("the queue is not kept: %s cannot be written, or another studio uses it", self.folder)
        return False

    @property
    def usable(self) -> bool:
        return self._claim is not None

    def close(self) -> None:
        if self._claim is not None:
            self._claim.close()
            self._claim = None

    def add(self, job: Job) -> None:
        """Raises OutputError."""
        past = job.past and {"file": str(job.past.run.path), "steps": job.past.steps,
                             "changes": None if job.past.changes is None else dict(job.past.changes)}
        about = {"id": job.id, "created": job.created, "owner": job.owner, "request": job.request.to_dict(),
                 "preview": {"decoder": job.preview.decoder, "budget": job.preview.budget}, "past": past,
                 "word": job.word}
        with disk_errors("queue", self.folder):
            write_text(self._file(job.id), json.dumps(about, ensure_ascii=False))

    def remove(self, identity: str) -> None:
        """Harmless for what is not there. A disk that refuses costs a run that is made again, to the same file."""
        self.let_go(identity)
        try:
            self._file(identity).unlink(missing_ok=True)
            self._mark(identity).unlink(missing_ok=True)  # last: a stop outlives its job, not the other way round
        except OSError as error:
            log.warning("the queue cannot be kept: %s", error)

    def stop(self, identity: str, unwanted: bool) -> None:
        """Somebody has stopped a job that may take a moment to end: should the studio end first, it stays stopped."""
        with contextlib.suppress(OSError):
            self._mark(identity).write_text("discard" if unwanted else "stop", encoding="utf-8")

    def stopped(self, identity: str) -> tuple[bool, bool]:
        """(whether a job that is left was stopped, whether its steps are to be thrown away)."""
        with contextlib.suppress(OSError, ValueError):
            return True, self._mark(identity).read_text(encoding="utf-8") == "discard"
        return False, False

    def _mark(self, identity: str) -> Path:
        return self.folder / f"{identity}.stop"

    def keep(self, name: str, about: dict[str, Any]) -> None:
        """Something else to remember, where the journal is this studio's."""
        if self.usable:
            try:
                write_text(self.folder / f"{name}.state", json.dumps(about, ensure_ascii=False))
            except OSError as error:
                log.warning("%s cannot be kept for the next start: %s", name, error)

    def recall(self, name: str) -> dict[str, Any]:
        """Empty when there is nothing, or it is damaged."""
        try:
            return _json(self.folder / f"{name}.state")
        except FileNotFoundError:
            return {}
        except BadRequest:
            log.warning("what was kept of %s is damaged, and forgotten", name)
            return {}

    def begin(self, identity: str, kept: int) -> None:
        """A run begins, with so many kept steps. It is counted until it gets further, so that one that brings the whole
        studio down, by taking all memory say, does not do so at every start."""
        tries, before = self._tries(identity)
        with contextlib.suppress(OSError):
            write_text(self.folder / f"{identity}.tries", f"{tries + 1 if kept == before else 1} {kept}")

    def let_go(self, identity: str) -> None:
        """It did not bring the studio down."""
        with contextlib.suppress(OSError):
            (self.folder / f"{identity}.tries").unlink(missing_ok=True)

    def _tries(self, identity: str) -> tuple[int, int]:
        """(beginnings, steps that were kept then)."""
        with contextlib.suppress(OSError, ValueError):
            tries, kept = (self.folder / f"{identity}.tries").read_text(encoding="utf-8").split()
            return int(tries), int(kept)
        return 0, 0

    def arrange(self, order: Sequence[Job], paused: Sequence[Job]) -> None:
        """Keep the order, where it is another than that of the jobs' coming, and which of them are paused."""
        about = {"order": [job.id for job in order], "paused": [job.id for job in paused]}
        try:
            write_text(self.folder / ORDER, json.dumps(about))
        except OSError as error:
            log.warning("the order of the queue cannot be kept: %s", error)

    def read(self, frames: Path) -> list[tuple[Job, bool]]:
        """(job, whether it is paused) in their order. What is damaged is passed over with a line in the log.

        frames: a folder for previews. A job whose past is gone is there, failed, and says so.
        """
        arranged: dict[str, Any] = {}
        with contextlib.suppress(FileNotFoundError, BadRequest):
            arranged = _json(self.folder / ORDER)
        order, paused = (names if isinstance(names := arranged.get(key), list) else [] for key in ("order", "paused"))
        jobs = []
        for path in self.folder.glob("*.json"):
            if path.name == ORDER:
                continue
            try:
                jobs.append(_job(_json(path), frames))
            except (LoomError, KeyError, TypeError, ValueError) as error:
                log.warning("a job of the queue cannot be read: %s: %s", path.name, " ".join(str(error).split())[:200])
        places = {name: k for k, name in enumerate(order) if isinstance(name, str)}
        jobs.sort(key=lambda job: (places.get(job.id, len(places)), job.created))
        hopeless = [job.id for job in jobs if self._tries(job.id)[0] >= MAX_TRIES]
        for job in jobs:
            if job.id in hopeless:
                job.note = "The studio ended under this run again and again: resume it once more, or discard it."
        return [(job, job.id in paused or job.id in hopeless) for job in jobs]

    def _file(self, identity: str) -> Path:
        return self.folder / f"{identity}.json"


def _job(about: dict[str, Any], frames: Path) -> Job:
    """Raises LoomError, KeyError, TypeError and ValueError for what is no job."""
    identity, created = str(about["id"]), float(about["created"])
    if not NAME.fullmatch(identity) or not math.isfinite(created):
        raise ValueError(identity)
    preview = Preview(**about["preview"])
    owner = str(about["owner"])
    job = Job(identity, Request.parse(about["request"]), preview, home(frames, owner) / identity, owner, created,
              word=str(about["word"]), lasting=True, rested=True)
    if past := about["past"]:
        changes = past["changes"]
        try:
            run = Trajectory(Path(str(past["file"])))
            job.past = Past(run, int(past["steps"]), None if changes is None else dict(changes))
            job.request = job.past.request
        except LoomError as error:
            job.state, job.error = "failed", error
    return job


def _json(path: Path) -> dict[str, Any]:
    """Raises BadRequest for what is damaged, FileNotFoundError."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("too large")
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise BadRequest(f"{path.name} is damaged ({error}): its run must be asked for again.") from None
    if not isinstance(about, dict):
        raise BadRequest(f"{path.name} is damaged: its run must be asked for again.")
    return about


def _lock(file: IO[str]) -> bool:
    """Take a file for this process; the system lets go of it when the process ends, however it ends."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
