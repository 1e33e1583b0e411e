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

from core.samplers import SAMPLERS, dpm_fast, improved_ddpm, predictor_corrector
from core.samplers.build import build, last_steps, noise_levels
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


def free(x: Tensor, sigma: float) -> Tensor:
    """Another denoiser: the same network without a prompt."""
    return 0.8 * torch.tanh(x.roll(2, -2) / math.sqrt(1 + sigma**2)) - 0.1


LAMBDA = 0.4


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
    "DDIM CFG++": (lambda model, x, sigmas, noise: references.ddim_cfgpp(model, free, x, sigmas, LAMBDA), False),
    "DPM fast": (lambda model, x, sigmas, noise: references.dpm_solver_fast(
        model, x, sigmas[0], sigmas[-2], len(sigmas) - 1), True),
}


def ladder(sampler: str, schedule: str, steps: int) -> list[float]:
    """The schedule's noise levels and the final 0, from diffusers: float32, as every scheduler of its has them."""
    entry = SAMPLERS[sampler]
    flags = {"Karras": {"use_karras_sigmas": True}, "Exponential": {"use_exponential_sigmas": True}, "Uniform": {}}
    scheduler = diffusers.EulerDiscreteScheduler(**TRAINING, **flags[schedule], **entry.settings,
                                                 timestep_spacing=entry.spacing)
    scheduler.set_timesteps(steps)
    return [float(sigma) for sigma in scheduler.sigmas]


def own_run(scheduler: Any, x: Tensor, seed: int, model: Any = denoised, scale: float = LAMBDA) -> Tensor:
    """A scheduler on a denoiser, in float64; x as the solver scales it. The network is asked for epsilon.

    Where the solver takes the unguided output too, that is `free`, and the model weighs `scale` against it.
    """
    generator = torch.Generator().manual_seed(seed)
    for t, sigma in zip(scheduler.timesteps, noise_levels(scheduler), strict=True):
        full = scheduler.scale_model_input(x, t) * math.sqrt(1 + sigma**2)
        output, more = (full - model(full, sigma)) / sigma, {}
        if scheduler.needs_unguided:
            more = {"unguided": (full - free(full, sigma)) / sigma}
            output = more["unguided"] + scale * (output - more["unguided"])
        x = scheduler.step(output, t, x, generator=generator, return_dict=False, **more)[0]
    return x


def test_every_solver_of_our_own_has_its_paper_here() -> None:
    assert set(PAPERS) == set(OWN)


@pytest.mark.parametrize("steps", [4, STEPS, 20])
@pytest.mark.parametrize("sampler, schedule", [(label, schedule) for label in OWN
                                               for schedule in ("Karras", "Exponential", "Uniform")
                                               if schedule in SAMPLERS[label].schedules])
def test_each_solver_is_its_papers_algorithm(sampler: str, schedule: str, steps: int) -> None:
    """Same denoiser, same noise, float64. 1e-6: the scheduler keeps its noise levels in float32."""
    reference, unscaled = PAPERS[sampler]
    generator = torch.Generator().manual_seed(5)
    start = torch.randn(1, 4, 6, 6, generator=generator, dtype=torch.float64)
    scheduler = build(SAMPLERS[sampler], schedule, steps, TRAINING, 0)
    sigmas = ladder(sampler, schedule, steps)
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


@pytest.mark.parametrize("schedule", ["Uniform", "SGM Uniform"])
def test_where_nothing_is_guided_cfgpp_is_diffusers_ddim(schedule: str) -> None:
    steps, spacing = 8, "trailing" if schedule == "SGM Uniform" else "leading"  # 8 divides 1000, as theirs wants it
    theirs = diffusers.DDIMScheduler(**TRAINING, clip_sample=False, set_alpha_to_one=True, steps_offset=1,
                                     timestep_spacing=spacing)  # alpha 1: it ends with the clean picture too
    theirs.set_timesteps(steps)
    one, other = (build(SAMPLERS["DDIM CFG++"], schedule, steps, TRAINING, 0) for _ in range(2))
    ends = []
    for scheduler, given in ((one, True), (other, False), (theirs, False)):
        z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        for t in scheduler.timesteps:
            output = torch.tanh(z.roll(1, -1))
            more = {"unguided": output} if given else {}
            z = scheduler.step(output, int(t), z, return_dict=False, **more)[0]
        ends.append(z)
    assert torch.equal(ends[0], ends[1])
    torch.testing.assert_close(ends[0], ends[2], rtol=0, atol=1e-5)  # levels and alphas are float32


def test_cfgpp_at_lambda_0_is_unguided_and_at_1_still_differs_from_the_prompt_alone() -> None:
    def run(scale: float) -> Tensor:
        scheduler = build(SAMPLERS["DDIM CFG++"], "Karras", STEPS, TRAINING, 0)
        start = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        return own_run(scheduler, start, 0, scale=scale)

    assert torch.equal(run(0), own_run_of_ddim(free))
    assert not torch.allclose(run(1), own_run_of_ddim(denoised), atol=0.05)  # the noise it puts back stays unguided


def own_run_of_ddim(model: Any) -> Tensor:
    scheduler = build(SAMPLERS["DDIM CFG++"], "Karras", STEPS, TRAINING, 0)
    scheduler.needs_unguided = False
    start = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return own_run(scheduler, start, 0, model)


def test_the_same_lambda_of_cfgpp_pulls_harder_the_more_steps_there_are() -> None:
    """With the prompt N(0.7, 0.3^2), without N(0, 0.5^2); at guidance 5, lambda 0.4: means 0.99 and 1.39."""
    def epsilon(full: Tensor, sigma: float, mean: float, std: float) -> Tensor:
        return sigma * (full - mean) / (std**2 + sigma**2)

    means = []
    for steps in (20, 50):
        scheduler = build(SAMPLERS["DDIM CFG++"], "Uniform", steps, TRAINING, 0)
        x = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
        for t, sigma in zip(scheduler.timesteps, noise_levels(scheduler), strict=True):
            full = x * math.sqrt(1 + sigma**2)
            away, towards = epsilon(full, sigma, 0, 0.5), epsilon(full, sigma, 0.7, 0.3)
            x = scheduler.step(away + LAMBDA * (towards - away), t, x, return_dict=False, unguided=away)[0]
        means.append(float(x.mean()))
    assert means == pytest.approx([0.99, 1.39], abs=0.03)


@pytest.mark.parametrize("calls, groups", [(3, [2, 1]), (4, [3, 1]), (5, [3, 2]), (6, [3, 2, 1]), (10, [3, 3, 3, 1]),
                                           (20, [3] * 6 + [2]), (30, [3] * 9 + [2, 1])])
def test_dpm_fast_uses_up_its_calls_in_groups_of_three(calls: int, groups: list[int]) -> None:
    """The rule of the paper and of k-diffusion. The questions of all groups stand at falling levels."""
    assert dpm_fast.orders(calls) == groups and sum(groups) == calls
    levels = noise_levels(build(SAMPLERS["DPM fast"], "Exponential", calls, TRAINING, 0))
    assert all(a > b for a, b in itertools.pairwise(levels)) and levels[-1] > SIGMAS[0]


def test_after_whole_groups_dpm_fast_has_order_3() -> None:
    errors = []
    for calls in (40, 82, 166):  # 13, 27 and 55 groups of three, and one call more
        scheduler = build(SAMPLERS["DPM fast"], "Exponential", calls, TRAINING, 0)
        x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        levels = noise_levels(scheduler)
        for t, sigma in zip(scheduler.timesteps[:-1], levels, strict=False):
            x = scheduler.step((x - references.gaussian_denoiser(x, sigma)) / sigma, t, x, return_dict=False)[0]
        errors.append(abs(float(x) / references.gaussian_path(levels[0], levels[-1]) - 1))
    assert math.log2(errors[1] / errors[2]) == pytest.approx(3, abs=0.2), errors  # 3.25, 3.14: it comes near from above


@pytest.mark.parametrize("skipped, order", [(3, 3), (4, 2), (5, 1), (9, 2), (10, 1), (11, 1)])
def test_dpm_fast_begun_amid_a_group_takes_the_rest_as_one_of_a_lower_order(skipped: int, order: int) -> None:
    """12 calls: groups of 3, 3, 3, 2 and 1. Where another sampler hands over, there is no memory of the group."""
    entry = SAMPLERS["DPM fast"]
    scheduler = last_steps(build(entry, "Exponential", 12, TRAINING, 0), entry, 12, skipped)
    levels = [float(sigma) for sigma in scheduler.sigmas]
    x = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64) * levels[0]
    expected = references.dpm_solver(denoised, x, levels[0], levels[order], order)
    for t, sigma in zip(scheduler.timesteps[:order], levels, strict=False):
        x = scheduler.step((x - denoised(x, sigma)) / sigma, t, x, return_dict=False)[0]
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-5)  # levels are float32


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
