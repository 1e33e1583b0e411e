"""The order of the queue: owners take turns, and each owner's jobs go in the order their owner likes.

Nothing but the order: no threads, no clock.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, TypeVar

REMEMBERED = 1_000  # turns after which an owner with nothing waiting counts as one who never had any

T = TypeVar("T")


class Queue(Generic[T]):
    """Round robin: the next item is one of the owner whose last turn is longest ago; who had none yet comes first."""

    def __init__(self) -> None:
        self._lanes: dict[str, list[T]] = {}  # owner -> own items in order; no lane is empty
        self._turns: dict[str, int] = {}  # owner -> number of the last turn
        self._count = 0
        self._order: list[T] | None = []

    def __len__(self) -> int:
        return len(self.order())

    def __contains__(self, item: T) -> bool:
        return item in self.order()

    def order(self) -> list[T]:
        """All items as they will come, if nothing changes."""
        if self._order is None:
            waiting = deque(deque(self._lanes[owner]) for owner in sorted(self._lanes, key=self._last_turn))
            self._order = []
            while waiting:
                lane = waiting.popleft()
                self._order.append(lane.popleft())
                if lane:
                    waiting.append(lane)
        return list(self._order)

    def of(self, owner: str) -> list[T]:
        """An owner's items, in order."""
        return list(self._lanes.get(owner, ()))

    def add(self, item: T, owner: str, first: bool = False) -> None:
        """Behind the owner's other items, or before them."""
        lane = self._lanes.setdefault(owner, [])
        lane.insert(0 if first else len(lane), item)
        self._order = None

    def take(self) -> T | None:
        """The next item, which leaves the queue; None when nobody waits."""
        if not self._lanes:
            return None
        owner = min(self._lanes, key=self._last_turn)
        self._count += 1
        self._turns[owner] = self._count
        self._turns = {name: turn for name, turn in self._turns.items()
                       if name in self._lanes or turn > self._count - REMEMBERED}
        item = self._lanes[owner][0]
        self.remove(item)
        return item

    def remove(self, item: T) -> bool:
        """Whether it was there."""
        for owner, lane in self._lanes.items():
            if item in lane:
                lane.remove(item)
                if not lane:
                    del self._lanes[owner]
                self._order = None
                return True
        return False

    def move(self, item: T, place: int) -> None:
        """To a place among its owner's items: 0 is the first. Places beyond the ends are the ends; of others' items no
        place changes. Harmless for an item that is not there."""
        for lane in self._lanes.values():
            if item in lane:
                lane.remove(item)
                lane.insert(max(place, 0), item)
                self._order = None

    def kept(self) -> dict[str, Any]:
        """Whose turn was when, for `recall` in another process."""
        return {"turns": self._turns, "count": self._count}

    def recall(self, about: dict[str, Any]) -> None:
        """Take over turns that were `kept`. What is damaged is left: then all count as new."""
        turns, count = about.get("turns"), about.get("count")
        if not isinstance(turns, dict) or type(count) is not int or count < 0:
            return
        self._turns = {name: turn for name, turn in turns.items() if type(turn) is int and 0 < turn <= count}
        self._count, self._order = count, None

    def _last_turn(self, owner: str) -> int:
        return self._turns.get(owner, 0)
