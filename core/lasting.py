"""What the queue remembers from one studio to the next beside its jobs: "forever", whose turn it is, measured paces."""

from __future__ import annotations

from typing import Any

from core.forever import Forevers
from core.journal import Journal
from core.paces import Paces
from core.queue import Queue


class Lasting:
    """Written when it changes, read once. What is damaged, or cannot be written, costs the memory only."""

    def __init__(self, journal: Journal, forevers: Forevers, queue: Queue[Any], paces: Paces):
        self._journal, self._forevers, self._queue, self._paces = journal, forevers, queue, paces

    def recall(self) -> None:
        self._forevers.recall(self._journal.recall("forever"))
        self._queue.recall(self._journal.recall("turns"))
        self._paces.recall(self._journal.recall("paces"))

    def forever(self) -> None:
        self._journal.keep("forever", self._forevers.kept())

    def turns(self) -> None:
        self._journal.keep("turns", self._queue.kept())

    def paces(self) -> None:
        self._journal.keep("paces", self._paces.kept())
