"""The order of the queue: fair between owners, each owner's own order kept, nothing lost."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from core import queue as queue_module
from core.queue import Queue


def queue_of(*items: str) -> Queue[str]:
    """Items like a1: the first letter is the owner."""
    queue: Queue[str] = Queue()
    for item in items:
        queue.add(item, item[0])
    return queue


def drained(queue: Queue[str]) -> list[str]:
    return list(iter(queue.take, None))


def test_owners_take_turns_and_each_keeps_the_own_order() -> None:
    queue = queue_of("a1", "a2", "a3", "b1", "c1", "c2")
    assert queue.order() == ["a1", "b1", "c1", "a2", "c2", "a3"] and len(queue) == 6
    assert drained(queue) == ["a1", "b1", "c1", "a2", "c2", "a3"] and queue.take() is None


def test_who_comes_late_is_before_the_second_one_of_who_was_served() -> None:
    queue = queue_of("a1", "a2", "a3")
    assert queue.take() == "a1"
    queue.add("b1", "b")
    assert queue.order() == ["b1", "a2", "a3"]
    assert queue.take() == "b1"
    queue.add("b2", "b")  # who asks again at once waits for the other's turn
    assert drained(queue) == ["a2", "b2", "a3"]


@pytest.mark.parametrize("owners", list(itertools.product("abc", repeat=5)), ids="".join)
def test_for_every_mixture_the_order_told_is_the_order_that_comes(owners: tuple[str, ...]) -> None:
    items = [f"{owner}{k}" for k, owner in enumerate(owners)]
    queue = queue_of(*items)
    told = queue.order()
    came = drained(queue)
    assert came == told and sorted(came) == sorted(items)
    for owner in set(owners):
        assert [item for item in came if item[0] == owner] == [item for item in items if item[0] == owner]
    for k in range(len(came)):  # nobody is served twice more than somebody who still waits
        served, waiting = Counter(item[0] for item in came[:k]), {item[0] for item in came[k:]}
        assert all(served[owner] <= served[other] + 1 for owner in served for other in waiting)


@pytest.mark.parametrize("place", range(-1, 5))
@pytest.mark.parametrize("item", ["a1", "a2", "a3"])
def test_moving_changes_the_own_order_and_no_turn_of_others(item: str, place: int) -> None:
    queue = queue_of("a1", "b1", "a2", "b2", "a3", "c1")
    owners = [one[0] for one in queue.order()]
    queue.move(item, place)
    assert queue.of("a").index(item) == min(max(place, 0), 2)
    assert [one for one in queue.of("a") if one != item] == [one for one in ("a1", "a2", "a3") if one != item]
    assert [one[0] for one in queue.order()] == owners and queue.of("b") == ["b1", "b2"]


def test_what_was_paused_comes_first_of_its_owner() -> None:
    queue = queue_of("a1", "a2", "b1")
    assert queue.remove("a2") and not queue.remove("a2") and "a2" not in queue
    queue.add("a2", "a", first=True)
    assert queue.of("a") == ["a2", "a1"] and "a2" in queue
    queue.move("nobody", 0)
    assert len(queue) == 3 and queue.of("nobody") == []


def test_any_course_of_things_loses_nothing_and_doubles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "REMEMBERED", 5)
    for seed in range(200):
        rng, queue, waiting = random.Random(seed), queue_of(), set()
        for k in range(60):
            act = rng.choice(("add", "add", "take", "remove", "move"))
            if act == "add":
                item = f"{rng.choice('abcdefgh')}{k}"
                queue.add(item, item[0], first=rng.random() < 0.3)
                waiting.add(item)
            elif act == "take":
                expected = queue.order()[:1]
                taken = queue.take()
                assert [taken] == (expected or [None])
                waiting.discard(taken or "")
            elif waiting:
                item = rng.choice(sorted(waiting))
                if act == "remove":
                    assert queue.remove(item)
                    waiting.remove(item)
                else:
                    queue.move(item, rng.randrange(-2, 8))
            assert Counter(queue.order()) == Counter(waiting) and len(queue) == len(waiting)
        assert set(drained(queue)) == waiting and len(queue) == 0
