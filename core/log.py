"""What the studio does, as events: one line of JSON each, for whoever operates it, and a call for whoever counts.

No line holds a prompt, nor any text that may hold one, unless that was asked for.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.errors import StartError
from core.job import Job

log = logging.getLogger("core.events")
log.setLevel(logging.INFO)  # without `write` nobody listens: the root logger shows warnings only

Listener = Callable[[str, Job], None]


class Events:
    """Of one studio. listeners: called in the thread in which something happened, also at each "step"."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []

    def tell(self, name: str, job: Job) -> None:
        log.info("job %s", name, extra={"event": name, "job": job})
        self._call(name, job)

    def step(self, job: Job) -> None:
        """A step was taken: told to the listeners only, a line each would be too many."""
        self._call("step", job)

    def _call(self, name: str, job: Job) -> None:
        for listener in self.listeners:
            listener(name, job)


class JsonLines(logging.Formatter):
    """Every record as one line. prompts: whether they, and other texts that may hold them, are written."""

    def __init__(self, prompts: bool = False):
        super().__init__()
        self.prompts = prompts

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        about: dict[str, Any] = {"time": f"{moment}.{int(record.msecs):03d}Z",
                                 "event": getattr(record, "event", record.levelname.lower())}
        job = getattr(record, "job", None)
        about |= self._job(job) if isinstance(job, Job) else self._words(record)
        return json.dumps(about, ensure_ascii=False)

    def _job(self, job: Job) -> dict[str, Any]:
        about: dict[str, Any] = {"job": job.id, "owner": job.owner, "model": job.request.model}
        if job.steps:
            about |= {"steps": len(job.steps), "evaluations": job.steps[-1].evaluations}
        if job.over:
            about |= {"seconds": round(job.seconds or (job.steps[-1].seconds if job.steps else 0.0), 3),
                      "pictures": len(job.results)}
        if job.error:
            about["error"] = type(job.error.__cause__ or job.error).__name__
        if self.prompts:
            about |= {"prompt": job.request.prompt, "negative_prompt": job.request.negative_prompt}
            about |= {"message": str(job.error)} if job.error else {}
        return about

    def _words(self, record: logging.LogRecord) -> dict[str, Any]:
        """A message's pattern is ours; what was put into it, or said by a library, may quote a prompt."""
        about: dict[str, Any] = {"from": record.name}
        if self.prompts:
            about["message"] = record.getMessage()
        elif record.name.partition(".")[0] in ("core", "ui", "app"):
            about["message"] = str(record.msg)
        if record.exc_info and record.exc_info[0]:
            about["error"] = record.exc_info[0].__name__
            if self.prompts:
                about["traceback"] = self.formatException(record.exc_info)
        return about


def write(where: str, prompts: bool = False) -> logging.Handler:
    """Write events to a file, which is gone on with, or to stderr ("-"). `end` takes the handler. Raises StartError."""
    root = logging.getLogger()
    try:
        handler: logging.Handler = logging.StreamHandler(sys.stderr) if where == "-" else \
            logging.FileHandler(Path(where), encoding="utf-8")
    except OSError as error:
        raise StartError(f"The log cannot be written to {where} ({error.strerror}): choose another file, or --log - "
                         "for the terminal.") from None
    handler.setFormatter(JsonLines(prompts))
    root.addHandler(handler)
    return handler


def end(handler: logging.Handler) -> None:
    logging.getLogger().removeHandler(handler)
    handler.close()
