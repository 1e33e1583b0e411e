"""Small work for the device, such as one decode: done between two steps of whatever runs."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from typing import Any, NamedTuple

from core.job import Runner
from core.request import Request


class _Favour(NamedTuple):
    request: Request  # whose model it needs
    work: Callable[[Runner], Any]
    answer: Future[Any]

    def fits(self, running: Request) -> bool:
        return (self.request.model, self.request.precision) == (running.model, running.precision)


class Favours:
    """Asked for from any thread, done in the worker's. Every one is answered, if only with an error."""

    def __init__(self) -> None:
        self._waiting: deque[_Favour] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, request: Request, work: Callable[[Runner], Any]) -> Future[Any]:
        """request: whose model the work needs."""
        favour = _Favour(request, work, Future())
        self._waiting.append(favour)
        return favour.answer

    def do(self, runner: Callable[[], Runner], running: Request | None = None) -> None:
        """Do what waits. running: the request in progress; what needs another model in its place waits for its end."""
        for favour in list(self._waiting):
            if running is not None and not favour.fits(running):
                continue
            try:
                self._waiting.remove(favour)
            except ValueError:  # refused in this very moment
                continue
            if not favour.answer.set_running_or_notify_cancel():
                continue  # whoever asked has left
            try:
                favour.answer.set_result(favour.work(runner()))
            except Exception as error:
                favour.answer.set_exception(error)

    def refuse(self, error: Exception) -> None:
        """Answer all that wait with an error: the studio closes."""
        while self._waiting:
            with contextlib.suppress(InvalidStateError, IndexError):
                self._waiting.popleft().answer.set_exception(error)
