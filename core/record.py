"""What is kept of a run: its outline, known before the first step, and a record of each step. numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from core import samplers
from core.errors import BadRequest
from core.request import MAX_STEPS, Request

_MOST_STEPS = 100 * MAX_STEPS  # of a run whose forks took other samplers again and again


class Leg(NamedTuple):
    """A stretch of a run with one solver and one source of noise. A run that was never forked has one.

    A leg whose solver is that of the leg before goes on with its memory; another solver starts afresh.
    """

    start: int  # the run's step it begins with
    sampler: str
    schedule: str  # resolved, never "Automatic"
    steps: int  # of the solver's whole schedule
    seed: int  # of the noise drawn from here on
    skipped: int = 0  # steps at the beginning of that schedule that are left out
    moved: bool = False  # its first step is a DDIM move from where it starts down to its first noise level

    @classmethod
    def whole(cls, request: Request) -> Leg:
        """The one leg of a run from its beginning."""
        _, schedule = samplers.resolve(request.sampler, request.schedule, request.steps)
        return cls(0, request.sampler, schedule, request.steps, request.seed)

    @classmethod
    def parse(cls, values: Sequence[Any]) -> Leg:
        """From JSON. Raises BadRequest for a solver nobody knows, ValueError and TypeError for anything else."""
        leg = cls(*values)
        samplers.resolve(leg.sampler, leg.schedule, leg.steps)
        if not all(type(n) is int for n in (leg.start, leg.steps, leg.seed, leg.skipped)) or \
                not (0 <= leg.start <= _MOST_STEPS and 0 <= leg.skipped < leg.steps <= MAX_STEPS):
            raise ValueError(values)
        return leg

    @property
    def solver(self) -> tuple[str, str, int]:
        return self.sampler, self.schedule, self.steps

    @property
    def calls(self) -> list[int]:
        """Network calls of each of its steps, were it the last leg."""
        entry = samplers.SAMPLERS[self.sampler]
        return [1] * self.moved + entry.last_counts(self.steps, self.skipped)


def calls_of(legs: Sequence[Leg]) -> list[int]:
    """Network calls of each step of a run."""
    counts: list[int] = []
    solver = None
    for leg in legs:
        if leg.solver != solver:
            counts = counts[:leg.start] + leg.calls
            solver = leg.solver
    return counts


@dataclass(frozen=True)
class Parent:
    """Where a fork comes from."""

    file: str  # name of the parent's trajectory
    step: int  # the first step that is the fork's own
    changes: Mapping[str, Any] = field(default_factory=dict)  # fields of the request, with their new values


@dataclass(frozen=True)
class Outline:
    """What is known of a run before its first step, and is the same for all of them."""

    request: Request  # its precision resolved
    model: str  # fingerprint of the weights
    device: str  # cpu, cuda, mps
    prediction: str  # of the model: epsilon, v_prediction, sample
    legs: tuple[Leg, ...]
    regions: tuple[int, ...] = ()  # those whose own x0 is kept; 0: the background
    guided: bool = True  # some step keeps what the network said without the prompt
    parent: Parent | None = None
    refiner: str = ""  # fingerprint of the refiner's weights; empty where there is none

    @property
    def calls(self) -> list[int]:
        return calls_of(self.legs)

    def changed(self, changes: Mapping[str, Any]) -> Request:
        """The request of a fork. Raises BadRequest for a change that a run in its middle cannot take."""
        for name in ("model", "width", "height", "batch"):
            if changes.get(name, getattr(self.request, name)) != getattr(self.request, name):
                raise BadRequest(f"A fork keeps its parent's {name}, {getattr(self.request, name)}: leave it as it is, "
                                 "or make a new picture.", name)
        return Request.parse(self.request.to_dict() | dict(changes))


class Record(NamedTuple):
    """The arrays of one step beyond `Step`'s: n network calls, B pictures, C channels, h x w latent cells; float32."""

    outline: Outline
    timesteps: Sequence[float]  # of each call
    sigmas: Sequence[float]
    samples: np.ndarray  # (n, B, C, h, w): what the solver stepped from, scaled as the network sees it
    outputs: np.ndarray  # (n, B, C, h, w): fused and guided, in the model's own prediction type
    unguided: np.ndarray | None  # (B, C, h, w): the output of the first call without the prompt
