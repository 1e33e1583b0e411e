"""Runs that stand still where a test looks at them: what it waits for is then still there, however slow the page."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from core.request import Done, Step


class Hold:
    """Where runs stand still; go() lets the one that stands there go on."""

    def __init__(self, after: tuple[int, ...]) -> None:
        self._after = after
        self._gone = threading.Semaphore(0)
        self._over = threading.Event()

    def go(self) -> None:
        self._gone.release()

    def end(self) -> None:
        self._over.set()

    def at(self, step: int, cancel: threading.Event) -> None:
        """Waits if runs stand still after this step (counted from 1); who stops or pauses the run ends that."""
        while step in self._after and not self._over.is_set() and not cancel.is_set():
            if self._gone.acquire(timeout=0.02):
                return


_holds: list[Hold] = []


@contextlib.contextmanager
def hold(*after: int) -> Iterator[Hold]:
    """Every run of a served studio stands still after each of these steps, until go() or the end of the block."""
    held = Hold(after)
    _holds.append(held)
    try:
        yield held
    finally:
        _holds.remove(held)
        held.end()


def holdable(runner: Any) -> Any:
    """The runner, whose runs `hold` can reach."""
    generate = runner.generate

    def held(request: Any, preview: Any = None, cancel: threading.Event | None = None,
             past: Any = None) -> Iterator[Step | Done]:
        cancel = cancel or threading.Event()
        with contextlib.closing(generate(request, preview, cancel, past)) as events:
            for event in events:
                yield event
                for one in list(_holds) if isinstance(event, Step) else ():
                    one.at(event.index + 1, cancel)

    runner.generate = held
    return runner
