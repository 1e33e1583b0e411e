"""Regions against an independent reference that steps every region by itself and averages the latents, as
MultiDiffusion's paper says; in float64, so that only the mathematics can differ."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from core import denoise
from core.engine import Engine, Lane, _Solver
from core.layout import Layout, layout_of, predicted_evaluations, views_of, window_weights
from core.models.catalogue import Catalogue
from core.request import Preview, Region, Request
from core.samplers import SAMPLERS
from core.samplers.build import build, noise_levels, solver_scale, step_options

TRAINING = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
            "prediction_type": "epsilon"}
SIDE, STEPS, BOOTED = 12, 8, 3
SOFT = Request(width=96, height=96, regions=(
    Region(name="left", prompt="a", box=(0.0, 0.1, 0.55, 0.8), feather=8),
    Region(name="right", prompt="b", box=(0.4, 0.3, 1.0, 0.95)),  # overlaps the left one
))


def network(latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
    """A nonlinear function of everything a network sees, in float64."""
    shift = text.mean(dim=(1, 2))[:, None, None, None]
    level = float(timestep) / 1000
    return torch.tanh(1.3 * latents.roll(1, 3) + shift) * (0.4 + level) + 0.3 * latents + 0.1 * shift


def embedding(seed: int) -> Tensor:
    return torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layout_tensors(layout: Layout) -> tuple[list[Tensor], list[Tensor | None]]:
    weights = [torch.from_numpy(w.astype(np.float64))[None, None] for w in layout.weights]
    total = sum(weights)  # float32 weights sum to 1 within 1e-7 only; here they must to 1e-16
    masks = [None, *(torch.from_numpy(m.astype(np.float64))[None, None] for m in layout.masks[1:])]
    return [w / total for w in weights], masks


def fused_run(label: str, layout: Layout, guidance: Sequence[float], booted: int, noise: Tensor) -> Tensor:
    """This project's way: one solver on the fused output."""
    entry = SAMPLERS[label]
    scheduler = make_scheduler(label)
    weights, masks = layout_tensors(layout)
    predictors = [denoise.guided(embedding(k), embedding(99), g) for k, g in enumerate(guidance)]
    boot = denoise.Bootstrap(colours(), noise, booted, seed=5) if booted else None
    predictor = denoise.regions(predictors, weights, masks, range(len(weights)), boot)
    generator = torch.Generator().manual_seed(3)
    lane = Lane(noise * scheduler.init_noise_sigma, scheduler, step_options(scheduler, generator), predictor)
    solver = _Solver([lane], denoise.Batches(network), "epsilon", STEPS, threading.Event())
    for index, calls in enumerate(entry.call_counts(STEPS)):
        solver.advance(index, calls)
    return lane.x


def reference_run(label: str, layout: Layout, guidance: Sequence[float], booted: int, noise: Tensor) -> Tensor:
    """The paper's way: each region has a solver of its own, and the stepped latents are averaged after every call."""
    count = len(guidance)
    schedulers = [make_scheduler(label) for _ in range(count)]
    generators = [torch.Generator().manual_seed(3) for _ in range(count)]  # the same noise for all
    weights, masks = layout_tensors(layout)
    sigmas = noise_levels(schedulers[0])
    x = noise * schedulers[0].init_noise_sigma
    step_of_call = [i for i, calls in enumerate(SAMPLERS[label].call_counts(STEPS)) for _ in range(calls)]
    boot = denoise.Bootstrap(colours(), noise, booted, seed=5)
    for call, t in enumerate(schedulers[0].timesteps):
        stepped = []
        scale = solver_scale(schedulers[0], sigmas[call])
        for k in range(count):
            seen = x / scale
            mask = masks[k]
            if mask is not None and step_of_call[call] < booted:
                seen = boot.view(seen, mask, k, denoise.Moment(t, sigmas[call], step_of_call[call], STEPS))
            away = network(seen, t, embedding(99))
            output = away + guidance[k] * (network(seen, t, embedding(k)) - away)
            options = step_options(schedulers[k], generators[k])
            stepped.append(schedulers[k].step(output, t, seen * scale, return_dict=False, **options)[0])
        x = sum(w * s for w, s in zip(weights, stepped, strict=True))
    return x


def make_scheduler(label: str):
    entry = SAMPLERS[label]
    schedule = "Uniform" if "Karras" not in entry.schedules else entry.automatic
    scheduler = build(entry, schedule, STEPS, TRAINING, seed=3)
    for name in ("sigmas", "alphas_cumprod", "alpha_t", "sigma_t", "lambda_t", "sigmas_interpol", "final_alpha_cumprod"):
        if isinstance(getattr(scheduler, name, None), Tensor):
            setattr(scheduler, name, getattr(scheduler, name).double())
    return scheduler


def colours() -> Tensor:
    return torch.randn(20, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def paper(request: Request) -> Request:
    return request.replace(masks="paper")


@pytest.mark.parametrize("label", [label for label in SAMPLERS])
@pytest.mark.parametrize("booted", [0, BOOTED])
@pytest.mark.parametrize("masks", ["area", "paper"])
def test_one_fused_step_equals_stepping_every_region_and_averaging(label, booted, masks, noise):
    layout = layout_of(SOFT.replace(masks=masks), 8)
    ours = fused_run(label, layout, [3.0, 5.0, 1.5], booted, noise)
    theirs = reference_run(label, layout, [3.0, 5.0, 1.5], booted, noise)
    assert torch.isfinite(theirs).all()
    # Relative, because sigma-space solvers carry values of tens; what remains is rounding.
    assert (ours - theirs).abs().max() <= 1e-6 * max(1.0, float(theirs.abs().max()))
