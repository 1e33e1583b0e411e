"""What a network call costs with a sampler, over what it costs with Euler: both take turns, so that whatever else the
machine does meets both."""

from __future__ import annotations

import json
import statistics
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from core import samplers
from core.compare import steps_for
from core.comparing import Runner
from core.errors import LoomError
from core.files import disk_errors, write_text
from core.request import Preview, Request, Step

if TYPE_CHECKING:
    from core.report.measure import Plan

PACE = "Euler"  # the plainest solver
CALLS, ROUNDS = 6, 3


class Pace(NamedTuple):
    """Ratios: the least, the median and the largest of the rounds."""

    low: float
    middle: float
    high: float


def paces(plan: Plan, request: Request, runner: Runner, folder: Path, weights: str,
          cancel: threading.Event) -> dict[str, Pace] | None:
    """By sampler; those that fail are left out. None when it was stopped. request: the size and the model. What was
    measured before with the same weights, in folder/pace.json, is not measured again."""
    path = folder / "pace.json"
    held = _read(path, weights)
    warm = False
    for name in plan.names:
        if name in held:
            continue
        one = request.replace(sampler=name, steps=max(steps_for(name, CALLS), samplers.SAMPLERS[name].least_steps))
        base = request.replace(sampler=PACE, steps=CALLS)
        try:
            if not warm:
                _seconds(runner, base, cancel)
                warm = True
            ratios = [_seconds(runner, one, cancel) / _seconds(runner, base, cancel) for _ in range(ROUNDS)]
        except LoomError:
            continue
        if cancel.is_set():
            return None
        held[name] = Pace(min(ratios), statistics.median(ratios), max(ratios))
        with disk_errors("times", folder):
            write_text(path, json.dumps({"weights": weights, "paces": held}, indent=1))
    return {name: held[name] for name in plan.names if name in held}


def _seconds(runner: Runner, request: Request, cancel: threading.Event) -> float:
    """Of one evaluation, from the end of the first step to the end of the last: what comes before and after is no
    call's. Of a run that was stopped, any number."""
    steps = [event for event in runner.generate(request, Preview("none"), cancel) if isinstance(event, Step)]
    if len(steps) < 2:
        return 1.0
    return (steps[-1].seconds - steps[0].seconds) / (steps[-1].evaluations - steps[0].evaluations)


def _read(path: Path, weights: str) -> dict[str, Pace]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return {name: Pace(*map(float, ratios)) for name, ratios in held["paces"].items()} \
            if held["weights"] == weights else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
