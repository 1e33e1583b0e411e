"""The project's own solver loop on a function in the place of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event
from typing import Any

import torch
from torch import Tensor

from core import denoise
from core.course import Lane
from core.engine import _Solver
from core.samplers import Sampler
from core.samplers.build import build, step_options

# Stable Diffusion's, as a scheduler is told it.
TRAINING = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
            "prediction_type": "epsilon"}
Answer = Callable[[Tensor, denoise.Moment], Tensor]  # (x scaled for the network, where) -> the network's output


def solve(entry: Sampler, schedule: str, steps: int, training: dict[str, Any], answer: Answer, *, seed: int = 3,
          prediction: str = "epsilon", side: int = 4, stop: int | None = None) -> tuple[Tensor, Tensor, _Solver]:
    """(latents, unit noise at the start, solver) after `stop` of the steps; latents (1, 4, side, side)."""
    scheduler = build(entry, schedule, steps, training, seed)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, 4, side, side, generator=generator)
    start = noise * scheduler.init_noise_sigma
    text = torch.zeros(1, 1, 1)
    now: list[denoise.Moment] = []

    def predictor(x: Tensor, moment: denoise.Moment) -> denoise.Questions:
        now[:] = [moment]
        (output,) = yield [denoise.Ask(x, text)]
        return denoise.Prediction(output, x)

    def network(latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        return answer(latents, now[0])

    latents, solver = run(predictor, network, scheduler, entry.call_counts(steps), start, generator=generator,
                          prediction=prediction, stop=stop)
    return latents, noise, solver


def run(predictor: denoise.Predictor, network: denoise.Network, scheduler: Any, calls: Sequence[int], start: Tensor, *,
        generator: torch.Generator | None = None, prediction: str = "epsilon",
        stop: int | None = None) -> tuple[Tensor, _Solver]:
    """(latents, solver) after `stop` of the steps. calls: the network calls of each. start: as the solver scales it."""
    lane = Lane(start, scheduler, step_options(scheduler, generator or torch.Generator().manual_seed(3)), predictor)
    solver = _Solver([lane], denoise.Batches(network), prediction, len(calls), Event())
    for index, count in enumerate(calls[:stop]):
        assert solver.advance(index, count) is not None
    return lane.x, solver
