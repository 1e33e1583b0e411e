"""Previews beside the loop: nothing is left out, every step in order or the newest first, a budget is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from core.previewer import AHEAD, Costs, Previewer

X0 = np.zeros((1, 4, 2, 2), np.float32)
PICTURE = (np.zeros((2, 2, 3), np.uint8),)


class Decoder:
    """Takes as long as it is told; remembers the steps (the value in the latents) it has shown."""

    def __init__(self, seconds: float = 0.0, before: Callable[[], object] = lambda: None):
        self.seconds, self.before = seconds, before
        self.seen: list[int] = []
        self.called = False

    def __call__(self, x0: np.ndarray) -> tuple[np.ndarray, ...]:
        self.called = True
        self.before()
        time.sleep(self.seconds)
        self.seen.append(int(x0.flat[0]))
        return PICTURE


def feed(previewer: Previewer, steps: range, seconds: float = 0.0) -> None:
    for index in steps:
        previewer.put(index, X0 + index)
        time.sleep(seconds)


def test_every_step_is_shown_in_order_and_the_loop_runs_ahead_by_a_few_only() -> None:
    written: list[int] = []
    lead: list[int] = []
    decoder = Decoder(0.002)
    previewer = Previewer({"vae": decoder}, lambda index, pictures: written.append(index))
    for index in range(12):
        previewer.put(index, X0 + index)
        lead.append(index + 1 - len(written))
    previewer.finish()
    assert previewer.wait(5)
    assert written == decoder.seen == list(range(12))
    assert max(lead) <= AHEAD + 1  # those that wait, and the one in the decoder's hands


def test_what_previews_took_and_how_long_the_loop_stood_still_is_told() -> None:
    previewer = Previewer({"vae": Decoder(0.05)}, lambda index, pictures: None)
    feed(previewer, range(8))  # the loop takes no time, so it waits for all but the last few
    previewer.finish()
    assert previewer.wait(5)
    assert previewer.shown == {"vae": 8}
    # sleeps last as long as they are told or longer: all but the last few decodings lie within the waiting
    assert previewer.waited >= 0.2 and previewer.spent >= 0.2  # of 8 times 0.05
    within = Previewer({"linear": Decoder()}, lambda index, pictures: None, budget=0.5)
    feed(within, range(3))
    within.finish()
    assert within.wait(5) and within.waited == 0 and within.shown == {"linear": 3}


def test_within_a_budget_the_newest_step_comes_first_and_nothing_is_left_out() -> None:
    gate, written = threading.Event(), []
    decoder = Decoder(before=lambda: gate.wait(5))
    previewer = Previewer({"linear": decoder}, lambda index, pictures: written.append(index), budget=0.5)
    feed(previewer, range(1))
    while not decoder.called:  # the first one is at the decoder's gate
        time.sleep(0.001)
    feed(previewer, range(1, 6))
    assert written == []  # and the loop has not waited
    gate.set()
    previewer.finish()
    assert previewer.wait(5)
    assert written == decoder.seen == [0, 5, 4, 3, 2, 1]


def test_dropped_previews_end_at_once_and_let_go_of_a_waiting_loop() -> None:
    gate = threading.Event()
    previewer = Previewer({"vae": Decoder(before=lambda: gate.wait(5))}, lambda index, pictures: None)
    loop = threading.Thread(target=feed, args=(previewer, range(50)))
    loop.start()
    previewer.drop()
    gate.set()
    assert previewer.wait(5)
    loop.join(5)
    assert not loop.is_alive()


def test_a_budget_is_kept_and_what_it_left_out_is_made_up_for_at_the_end() -> None:
    written: list[int] = []
    starts: list[tuple[float, float]] = []  # when a decoding starts: what was spent, and the time since the start
    began = time.perf_counter()

    def note() -> None:
        starts.append((previewer.spent, time.perf_counter() - began))

    previewer = Previewer({"linear": Decoder(0.02, note)}, lambda index, pictures: written.append(index), budget=0.2)
    feed(previewer, range(40), 0.01)
    in_time = list(starts)
    assert 0 < len(in_time) < 40
    assert all(spent <= 0.2 * gone for spent, gone in in_time)
    previewer.finish()
    assert previewer.wait(10)
    assert sorted(written) == list(range(40))


@pytest.mark.parametrize("seconds, step, budget, expected", [
    ({"linear": 0.001, "tiny": 0.002, "vae": 0.5}, 0.1, 0.05, "tiny"),
    ({"linear": 0.001, "tiny": 0.011, "vae": 0.5}, 0.1, 0.05, "linear"),  # tiny would show less than every second step
    ({"linear": 0.001, "tiny": 0.002, "vae": 0.01}, 0.1, 0.05, "vae"),
    ({"linear": 0.9, "tiny": 0.9}, 0.1, 0.05, "linear"),  # nothing fits: the cheapest, now and then
    ({}, 0.1, 0.05, "linear")])
def test_the_best_decoder_that_fits_the_budget_is_chosen(
        seconds: dict[str, float], step: float, budget: float, expected: str) -> None:
    decoders = {name: Decoder() for name in ("linear", "tiny", "vae")}
    assert Costs(dict(seconds)).best(decoders, step, budget) == expected


def test_one_slow_measurement_counts_little() -> None:
    costs = Costs()
    costs.note("tiny", 0.01)
    costs.note("tiny", 5.0)
    assert costs.seconds["tiny"] == pytest.approx(0.015)
    costs.note("tiny", 0.008)
    assert costs.seconds["tiny"] == pytest.approx(0.008)


def test_with_a_budget_an_unmeasured_tiny_decoder_is_measured_once() -> None:
    costs, tiny, linear = Costs(), Decoder(0.05), Decoder()
    previewer = Previewer({"linear": linear, "tiny": tiny}, lambda index, pictures: None, budget=0.5, costs=costs)
    feed(previewer, range(20), 0.01)
    previewer.finish()
    assert previewer.wait(10)
    assert len(tiny.seen) == 1 and len(linear.seen) == 19 and costs.seconds["tiny"] >= 0.05


def test_a_preview_that_fails_ends_the_previews_and_says_why() -> None:
    def full(index: int, pictures: object) -> None:
        raise OSError(28, "No space left on device")

    previewer = Previewer({"vae": Decoder()}, full)
    feed(previewer, range(20))  # must not wait for previews that will never come
    assert previewer.wait(5)
    assert isinstance(previewer.error, OSError)
