"""The solvers that diffusers lacks, against the papers' algorithms in float64 and where the right answer is known."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from core.samplers import SAMPLERS, improved_ddpm, predictor_corrector
from core.samplers.build import build, noise_levels
from core.samplers.table import restart_step, restarts
from tests import references
from tests.solving import TRAINING

OWN = [label for label, entry in SAMPLERS.items() if "." in entry.scheduler]
SIGMAS = references.training_sigmas()
STEPS = 9


def denoised(x: Tensor, sigma: float) -> Tensor:
    """A denoiser that is not linear and mixes neighbours, float64."""
    scaled = x / math.sqrt(1 + sigma**2)
    return 0.6 * torch.tanh(1.7 * scaled.roll(1, -1)) + 0.3 * scaled / (1 + 0.2 * sigma)


def alpha(sigma: float) -> float:
    """1 - beta of Stable Diffusion's training where the noise level is sigma."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return 1 - float(np.interp(np.interp(math.log(sigma), np.log(SIGMAS), np.arange(1000)), np.arange(1000), betas))


def restarted(model: Any, x: Tensor, sigmas: list[float], noise: Any) -> Tensor:
    steps = len(sigmas) - 1
    times, down = restarts(steps)
    return references.restart(model, x, sigmas, noise, after=restart_step(steps) - 1, highest=2.0, steps=down,
                              times=times)


# label -> (reference, whether it keeps x0 + sigma noise unscaled)
PAPERS: dict[str, tuple[Callable[..., Tensor], bool]] = {
    "DPM++ 2S a": (references.dpmpp_2s_ancestral, True),
    "Restart": (restarted, True),
    "Langevin": (lambda model, x, sigmas, noise: references.annealed_langevin(
        model, x, sigmas[:-1], noise, epsilon=0.4 * sigmas[-2] ** 2, steps=5), True),
    "PC VE": (functools.partial(references.reverse_diffusion_langevin, snr=0.16), True),
    "PC VP": (functools.partial(references.ancestral_langevin, snr=0.16, alpha=alpha), False),
    "Improved DDPM": (functools.partial(references.improved_ddpm, v=0.5), False),
}


def ladder(schedule: str, steps: int) -> list[float]:
    """The schedule's noise levels and the final 0, from diffusers: float32, as every scheduler of its has them."""
    flags = {"Karras": {"use_karras_sigmas": True}, "Exponential": {"use_exponential_sigmas": True}, "Uniform": {}}
    scheduler = diffusers.EulerDiscreteScheduler(**TRAINING, **flags[schedule])
    scheduler.set_timesteps(steps)
    return [float(sigma) for sigma in scheduler.sigmas]


def own_run(scheduler: Any, x: Tensor, seed: int, model: Any = denoised) -> Tensor:
    """A scheduler on a denoiser, in float64; x as the solver scales it. The network is asked for epsilon."""
    generator = torch.Generator().manual_seed(seed)
    for t, sigma in zip(scheduler.timesteps, noise_levels(scheduler), strict=True):
        full = scheduler.scale_model_input(x, t) * math.sqrt(1 + sigma**2)
        x = scheduler.step((full - model(full, sigma)) / sigma, t, x, generator=generator, return_dict=False)[0]
    return x


def test_every_solver_of_our_own_has_its_paper_here() -> None:
    assert set(PAPERS) == set(OWN)


@pytest.mark.parametrize("steps", [4, STEPS, 20])
@pytest.mark.parametrize("sampler, schedule", [(label, schedule) for label in OWN
                                               for schedule in ("Karras", "Exponential", "Uniform")])
def test_each_solver_is_its_papers_algorithm(sampler: str, schedule: str, steps: int) -> None:
    """Same denoiser, same noise, float64. 1e-6: the scheduler keeps its noise levels in float32."""
    reference, unscaled = PAPERS[sampler]
    generator = torch.Generator().manual_seed(5)
    start = torch.randn(1, 4, 6, 6, generator=generator, dtype=torch.float64)
    scheduler = build(SAMPLERS[sampler], schedule, steps, TRAINING, 0)
    sigmas = ladder(schedule, steps)
    scale = sigmas[0] if unscaled else 1.0
    draws = torch.Generator().manual_seed(8)
    expected = reference(denoised, start * scale, sigmas,
                         lambda s, s_next: torch.randn(start.shape, generator=draws, dtype=torch.float64))
    ours = own_run(scheduler, start * scale, seed=8)
    assert float((ours - expected).abs().max()) <= 1e-6 * max(1.0, float(expected.abs().max()))
    assert float(expected.std()) > 0.01


@pytest.mark.parametrize("v, variance", [(0.0, "fixed_small"), (1.0, "fixed_large")])
def test_at_its_bounds_improved_ddpm_is_diffusers_ddpm(
        monkeypatch: pytest.MonkeyPatch, v: float, variance: str) -> None:
    monkeypatch.setattr(improved_ddpm, "PLACE", v)
    times = [999, 730, 500, 333, 120, 40, 0]  # at 0 neither adds noise
    ours = improved_ddpm.ImprovedDDPMScheduler(**TRAINING)
    theirs = diffusers.DDPMScheduler(**TRAINING, clip_sample=False, variance_type=variance)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    ends = []
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(timesteps=times)
        generator, z = torch.Generator().manual_seed(2), x
        for t in times:
            z = scheduler.step(torch.tanh(z.roll(1, -1)), t, z, generator=generator, return_dict=False)[0]
        ends.append(z)
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-4)  # theirs adds up 1000 float32 betas


def test_the_large_variance_is_exact_for_data_of_unit_variance_however_long_the_steps(
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Ho et al. 2020, section 3.2. The small one is exact for data that is one point."""
    for place, spread, steps in ((1.0, 1.0, 3), (0.0, 0.0, 3)):
        monkeypatch.setattr(improved_ddpm, "PLACE", place)
        scheduler = build(SAMPLERS["Improved DDPM"], "Uniform", steps, TRAINING, 0)
        start = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        levels = noise_levels(scheduler)
        if spread == 0:  # the starting noise is what such data is at the first level
            start = start * levels[0] / math.sqrt(1 + levels[0] ** 2)

        def exact(full: Tensor, sigma: float, variance: float = spread**2) -> Tensor:
            return full * variance / (variance + sigma**2)

        generator = torch.Generator().manual_seed(4)
        x = start
        for t, sigma, after in zip(scheduler.timesteps, levels, [*levels[1:], 0.0], strict=True):
            full = x * math.sqrt(1 + sigma**2)
            x = scheduler.step((full - exact(full, sigma)) / sigma, t, x, generator=generator, return_dict=False)[0]
            if after:
                right = math.sqrt((spread**2 + after**2) / (1 + after**2))
                assert float(x.std()) == pytest.approx(right, rel=0.03)  # 16,384 numbers: 0.6 % by chance


def test_restart_goes_back_up_from_the_level_it_says_and_comes_back_to_it() -> None:
    for steps, rises in ((5, 1), (20, 2), (40, 2)):
        levels = noise_levels(build(SAMPLERS["Restart"], "Karras", steps, TRAINING, 0))
        ups = [(a, b) for a, b in itertools.pairwise(levels) if b > a]
        main = references.karras_sigmas(steps, SIGMAS[0], SIGMAS[-1])
        assert len(ups) == rises and all(b == 2.0 for _, b in ups)
        assert all(a == pytest.approx(main[restart_step(steps)], rel=1e-4) for a, _ in ups)
    nearest = min(main, key=lambda s: abs(s - 0.1))
    assert main[restart_step(40)] == nearest  # on Stable Diffusion's levels


def test_a_corrector_step_has_the_signal_to_noise_ratio_it_is_asked_for() -> None:
    generator = torch.Generator().manual_seed(0)
    score, noise = torch.randn(2, 1, 4, 8, 8, generator=generator, dtype=torch.float64)
    x = torch.zeros_like(score)
    moved = predictor_corrector.langevin(x, 7 * score, noise, 1.0)
    drift = predictor_corrector.langevin(x, 7 * score, 0 * noise, 1.0)
    assert float(drift.norm()) == 0  # its size is measured against the noise it adds
    size = 2 * (0.16 * float(noise.norm()) / float(7 * score.norm())) ** 2
    signal, walk = size * float(7 * score.norm()), math.sqrt(2 * size) * float(noise.norm())
    assert signal / walk == pytest.approx(0.16)  # what the paper's r is
    torch.testing.assert_close(moved, 7 * size * score + math.sqrt(2 * size) * noise)
    assert torch.equal(predictor_corrector.langevin(x, 0 * score, noise, 1.0), x)  # no score, no step


MEAN = 0.7


@pytest.mark.parametrize("sampler", [label for label, entry in SAMPLERS.items()
                                     if entry.stochastic and label not in ("LCM", "TCD")])
def test_a_stochastic_sampler_hits_the_mean_and_the_width_of_a_gaussian(sampler: str) -> None:
    """Data N(0.7, 0.5^2), 100 steps. LCM and TCD jump to x0: right only for networks trained for that."""
    def epsilon(x: Tensor, sigma: float) -> Tensor:
        full = x * math.sqrt(1 + sigma**2)
        return (full - MEAN - references.gaussian_denoiser(full - MEAN, sigma)) / sigma

    entry = SAMPLERS[sampler]
    scheduler = build(entry, entry.automatic, 100, TRAINING, 3)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, 4, 48, 48, generator=generator) * scheduler.init_noise_sigma
    options = {} if sampler == "DPM++ SDE" else {"generator": generator}  # that one draws its noise itself
    for t, sigma in zip(scheduler.timesteps, noise_levels(scheduler), strict=True):
        x = scheduler.step(epsilon(scheduler.scale_model_input(x, t), sigma), t, x, return_dict=False, **options)[0]
    # 9,216 numbers: 0.005 by chance in the mean, 0.004 in the width. The start forgets that training ends at a signal
    # of 0.07: 0.7 of it may be missing at first.
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(x.std()) == pytest.approx(0.5, abs=0.03)
