"""Previews beside the loop: a thread of their own decodes what the loop hands over.

Two manners. *Every step*: in order, with one decoder; the loop runs ahead by a few steps at most, so that people see
each step while it is news. *Within a budget*: the loop never waits; the newest step goes first, with the best decoder
that fits a share of the run's time, and what was left out is made up for when the run is over.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

log = logging.getLogger(__name__)

Show = Callable[[np.ndarray], tuple[np.ndarray, ...]]  # x0 (B, C, h, w) float32 -> B pictures (H, W, 3) uint8
BEST_FIRST = ("vae", "tiny", "linear")
OFTEN = 2  # with a budget, a decoder must be able to show every second step at least
AHEAD = 2  # steps that the loop may be ahead of the previews where every step is shown


@dataclass
class Costs:
    """Seconds that one step's decoding takes here, by decoder: measured, never assumed."""

    seconds: dict[str, float] = field(default_factory=dict)

    def note(self, decoder: str, seconds: float) -> None:
        """One measurement. A slow one raises the figure by half at most: something else may have been in the way."""
        self.seconds[decoder] = min(seconds, self.seconds.get(decoder, seconds) * 1.5)

    def best(self, decoders: Mapping[str, Show], step_seconds: float, budget: float) -> str:
        """The best decoder that can show every second step within the budget; unmeasured ones cannot."""
        known = [name for name in BEST_FIRST if name in decoders and name in self.seconds]
        affordable = [name for name in known if self.seconds[name] <= OFTEN * budget * step_seconds]
        return affordable[0] if affordable else "linear"


class Previewer:
    """One run's previews. decoders: by name. write(index, pictures): keeps a step's pictures; called in the thread.

    budget: share of the run's time for decoding and writing, with "linear" among the decoders; None: every step is
    shown by the one decoder given. A decoder or `write` that fails ends the previews, never the run. ended(error): the
    last that the thread calls, once all is shown, dropped or failed.
    """

    def __init__(self, decoders: Mapping[str, Show], write: Callable[[int, tuple[np.ndarray, ...]], None],
                 budget: float | None = None, costs: Costs | None = None,
                 ended: Callable[[Exception | None], None] = lambda error: None):
        assert budget is not None and "linear" in decoders or len(decoders) == 1
        self.decoders, self.budget, self.costs = decoders, budget, costs or Costs()
        self.error: Exception | None = None
        self.spent = 0.0  # seconds of decoding and writing while the run went on
        self.waited = 0.0  # seconds that the run stood still for it
        self.shown: Counter[str] = Counter()  # steps that each decoder has shown
        self._write, self._ended = write, ended
        self._todo: dict[int, np.ndarray] = {}
        self._taken = 0
        self._began = self._last = time.perf_counter()
        self._over = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="previews", daemon=True)
        self._thread.start()

    def put(self, index: int, x0: np.ndarray) -> None:
        """Step `index` has been taken. Without a budget this waits until the previews have nearly caught up."""
        with self._news:
            if self._over:  # dropped, or failed
                return
            self._todo[index] = x0
            self._taken += 1
            self._last = time.perf_counter()
            self._news.notify_all()
            if self.budget is None:
                self._news.wait_for(lambda: len(self._todo) <= AHEAD or self._over)
                self.waited += time.perf_counter() - self._last

    def finish(self) -> None:
        """The run is over: whatever is left is decoded now, without a budget."""
        with self._news:
            self._over = True
            self._news.notify_all()

    def drop(self) -> None:
        """Nobody will look: end after the step at hand."""
        with self._news:
            self._over = True
            self._todo.clear()
            self._news.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """After `finish` or `drop`: until the thread has ended; False when the time was up before."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # -- the thread

    def _work(self) -> None:
        while (task := self._next()) is not None:
            index, x0 = task
            try:
                self._show(index, x0)
            except Exception as error:  # a preview that fails must not cost the run
                log.warning("no more previews of this run: %s", error)
                self.error = error
                self.drop()
        self._ended(self.error)

    def _next(self) -> tuple[int, np.ndarray] | None:
        """The next step to show, once there is one and it may be decoded; None at the end."""
        with self._news:
            while True:
                if self._todo and (self._over or self._pause() <= 0):
                    index = min(self._todo) if self.budget is None else max(self._todo)
                    x0 = self._todo.pop(index)
                    self._news.notify_all()
                    return index, x0
                if self._over:
                    return None
                self._news.wait(self._pause() if self._todo else None)

    def _pause(self) -> float:
        """Seconds until the budget allows another decoding."""
        if self.budget is None:
            return 0.0
        return self.spent / self.budget - (time.perf_counter() - self._began)

    def _show(self, index: int, x0: np.ndarray) -> None:
        name = self._choose()
        began = time.perf_counter()
        pictures = self.decoders[name](x0)
        self.costs.note(name, time.perf_counter() - began)
        self._write(index, pictures)
        self.shown[name] += 1
        if not self._over:
            self.spent += time.perf_counter() - began

    def _choose(self) -> str:
        if self.budget is None:
            return next(iter(self.decoders))
        if "tiny" in self.decoders and "tiny" not in self.costs.seconds:
            return "tiny"  # once, to know what it costs
        return self.costs.best(self.decoders, (self._last - self._began) / max(self._taken, 1), self.budget)
