"""How long runs take on this machine, from those that it has made: the queue's times."""

from __future__ import annotations

import statistics
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from core import samplers
from core.errors import LoomError
from core.job import Job
from core.request import Request

KEPT = 5  # last runs of a kind whose median counts: one that was disturbed changes nothing
KINDS = 200
LOADED = 0.5  # seconds before the first step, above which a model was loaded


class Seconds(NamedTuple):
    """A prediction. exact: a run of just this kind was measured; else one of the same model, scaled by the work."""

    value: float
    exact: bool


class Forecast(NamedTuple):
    """When a job will be done, if nothing changes. ahead: runs before it. left: seconds until its end, with what those
    take; None while nothing like one of them was measured."""

    ahead: int
    left: float | None
    exact: bool = True


@dataclass
class _Measured:
    model: str
    work: float  # of a step; see _work
    step: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))  # seconds of a step
    rest: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))  # beside the steps


class Paces:
    """By kind: model, size, sampler, and whatever else decides how long a step takes."""

    def __init__(self) -> None:
        self._kinds: OrderedDict[tuple[object, ...], _Measured] = OrderedDict()  # the last measured last
        self._loads: dict[str, float] = {}  # seconds that each model took to come into memory

    def note(self, job: Job, rest: float | None = None, load: float = 0.0) -> None:
        """A run's steps were measured. rest: seconds of the run beyond them, once it is done; load: those before its
        first step."""
        if job.pace is None:
            return
        kind = _kind(job)
        measured = self._kinds.setdefault(kind, _Measured(job.request.model, _work(job.request)))
        measured.step.append(job.pace)
        if rest is not None:
            measured.rest.append(max(rest, 0.0))
        if load > LOADED:
            self._loads[job.request.model] = load
        self._kinds.move_to_end(kind)
        while len(self._kinds) > KINDS:
            self._kinds.popitem(last=False)

    def kept(self) -> dict[str, Any]:
        """Figures for `recall` in another process; no prompts."""
        return {"loads": self._loads, "kinds": [[list(kind), one.model, one.work, list(one.step), list(one.rest)]
                                                for kind, one in self._kinds.items()]}

    def recall(self, about: dict[str, Any]) -> None:
        """Take over what was `kept`; nothing of what is damaged."""
        try:
            loads = {str(model): _figure(seconds) for model, seconds in about["loads"].items()}
            kinds: OrderedDict[tuple[object, ...], _Measured] = OrderedDict()
            for kind, model, work, step, rest in about["kinds"][-KINDS:]:
                kinds[tuple(kind)] = _Measured(str(model), _figure(work, above=True), _figures(step), _figures(rest))
                if not step:
                    raise ValueError(kind)
        except (KeyError, TypeError, ValueError, AttributeError):
            return
        self._kinds, self._loads = kinds, loads

    def of(self, job: Job, running: Job | None = None) -> Seconds | None:
        """Seconds that are left of a job once it has the device. running: one whose pace so far counts as well."""
        steps = job.total - (len(job.steps) if job.state == "running" or job.rested else 0)
        if job.state == "running" and job.pace is not None:
            found = self._kinds.get(_kind(job))
            return Seconds(steps * job.pace + (_median(found.rest) if found else 0.0), True)
        if found := self._kinds.get(_kind(job)):
            return Seconds(steps * statistics.median(found.step) + _median(found.rest), True)
        if running is not None and running.pace is not None and running.request.model == job.request.model:
            exact = _kind(running) == _kind(job)
            return Seconds(steps * running.pace * _work(job.request) / _work(running.request), exact)
        for other in reversed(self._kinds.values()):
            if other.model == job.request.model:
                scale = _work(job.request) / other.work
                return Seconds(scale * (steps * statistics.median(other.step) + _median(other.rest)), False)
        return None

    def forecast(self, job: Job, before: Sequence[Job]) -> Forecast:
        """before: the job that has the device, and those that wait and come earlier; nobody, where that is `job`."""
        line = [*before, job]
        running = next((one for one in line if one.state == "running"), None)
        total, exact, model = 0.0, True, ""
        for one in line:
            seconds = self.of(one, running)
            if seconds is None:
                return Forecast(len(before), None)
            loads = bool(model) and one.request.model != model
            total += seconds.value + (self._loads.get(one.request.model, 0.0) if loads else 0.0)
            exact, model = exact and seconds.exact, one.request.model
        return Forecast(len(before), total, exact)


def _median(values: Sequence[float] | deque[float]) -> float:
    return statistics.median(values) if values else 0.0


def _figures(values: Any) -> deque[float]:
    return deque(map(_figure, values), maxlen=KEPT)


def _figure(value: Any, above: bool = False) -> float:
    """Raises ValueError and TypeError for what is no time or amount."""
    if not 0 <= float(value) < float("inf") or (above and not value):
        raise ValueError(value)
    return float(value)


def _kind(job: Job) -> tuple[object, ...]:
    asked = job.request
    return (asked.model, asked.precision, asked.width, asked.height, asked.batch, asked.sampler, asked.guidance > 1,
            len(asked.regions), asked.panorama, asked.stride, asked.crop_after < 1, job.preview.decoder)


def _work(request: Request) -> float:
    """Of a step, as far as it can be told without the model: pixels, network calls and prompts."""
    try:
        entry, _ = samplers.resolve(request.sampler, request.schedule, request.steps)
        calls = entry.network_calls(request.steps) / request.steps
    except LoomError:  # the run will say so
        calls = 1.0
    prompts = len(request.regions) + 1 + (request.guidance > 1)
    return request.width * request.height * request.batch * calls * prompts
