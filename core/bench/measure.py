"""What all measurements share: rows, ratios of runs that take turns, and one engine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from core.engine import Engine
from core.request import Done, Preview, Request

PROMPT = "a red sofa in a living room"
STEPS = 20


@dataclass(frozen=True)
class Row:
    """One measured figure. goal: what it should stay at or below, or reach where `at_least`; None when it is only
    reported."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    spread: tuple[float, float] | None = None  # smallest and largest round of a ratio
    at_least: bool = False  # more is better

    @property
    def met(self) -> bool | None:
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal


@dataclass(eq=False)
class Bench:
    """What the parts share: one engine, one request, the number of rounds."""

    engine: Engine
    request: Request
    rounds: int
    asked: str = ""  # what `--only` named: parts that take minutes on a processor run there only when they are named

    def ratios(self, base: Callable[[], Any], others: dict[str, Callable[[], Any]]) -> dict[str, Row]:
        """Each of `others` / `base`, taking turns; one round first for warming up."""
        taken: dict[str, list[float]] = {name: [] for name in others}
        for turn in range(self.rounds + 1):
            reference = seconds(base)
            for name, run in others.items():
                ratio = seconds(run) / reference
                if turn:
                    taken[name].append(ratio)
        return {name: Row(name, statistics.median(r), "ratio", spread=(min(r), max(r))) for name, r in taken.items()}

    def generate(self, preview: str = "none", request: Request | None = None) -> Done:
        *_, done = self.engine.generate(request or self.request, Preview(preview))
        assert isinstance(done, Done)
        return done


def seconds(run: Callable[[], Any]) -> float:
    """What `run` says it took, if it returns a float; else what it took."""
    began = time.perf_counter()
    said = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return said if isinstance(said, float) else time.perf_counter() - began


def named(row: Row, name: str, goal: float | None) -> Row:
    """A ratio under another name."""
    return Row(name, row.value, row.unit, goal, row.spread)


def line(row: Row) -> str:
    """A row of the table that people read."""
    number = f"{row.value:9.3f} {row.unit:5}"
    spread = f" [{row.spread[0]:.3f} .. {row.spread[1]:.3f}]" if row.spread else ""
    sign = ">=" if row.at_least else "<="
    goal = "" if row.goal is None else f"  goal {sign} {row.goal:g}: {'met' if row.met else 'not met'}"
    return f"{row.name:55} {number}{spread}{goal}"
