"""Samplers against solvers written from their papers, and on a Gaussian where the right answer is known."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torch import Tensor

from core import samplers
from core.denoise import Moment
from core.engine import Engine, _Solver
from core.errors import BadRequest
from core.request import Preview, Request
from core.samplers import SAMPLERS, predictor_corrector
from core.samplers.build import build, step_options
from tests import references
from tests.solving import TRAINING, solve

SIGMAS = references.training_sigmas()
STEPS, SEED = 8, 21


# -- the same denoiser, a solver from the paper


@pytest.fixture(scope="module")
def guided_in_double(engine: Engine) -> Callable[[Tensor, float], Tensor]:
    """(x0 + sigma * noise, timestep) -> guided epsilon, by a float64 copy of the network, written out here."""
    model = engine.load("eps", "fp32")
    unet = copy.deepcopy(model.unet).double()
    towards, away = (model.encode_prompt(text).double() for text in ("a red boat", "blue sofa"))

    @torch.inference_mode()
    def epsilon(scaled: Tensor, timestep: float) -> Tensor:
        one, other = (unet(scaled, timestep, encoder_hidden_states=text).sample for text in (towards, away))
        return other + 5.0 * (one - other)

    return epsilon


def denoiser(epsilon: Callable[[Tensor, float], Tensor], rounded: bool) -> references.Denoiser:
    """rounded: the network is told whole timesteps, as diffusers' multistep solvers do and k-diffusion does not."""
    def model(x: Tensor, sigma: float) -> Tensor:
        timestep = float(np.interp(math.log(sigma), np.log(SIGMAS), np.arange(1000)))
        return x - sigma * epsilon(x / math.sqrt(1 + sigma**2), round(timestep) if rounded else timestep)

    return model


def latents_of(engine: Engine, sampler: str, schedule: str) -> np.ndarray:
    request = Request(prompt="a red boat", negative_prompt="blue sofa", model="eps", width=64, height=64, steps=STEPS,
                      guidance=5.0, precision="fp32", seed=SEED, sampler=sampler, schedule=schedule)
    *_, done = engine.generate(request, Preview("none"))
    return done.latents


def start() -> tuple[Tensor, torch.Generator]:
    """The first noise of a run and its generator after it, float32 as in the engine."""
    generator = torch.Generator("cpu").manual_seed(SEED)
    return torch.randn(1, 4, 8, 8, generator=generator), generator


def assert_same(ours: np.ndarray, reference: Tensor) -> None:
    # The network runs in float32 on one side and in float64 on the other: 1e-6 of its output, which the first steps
    # multiply by sigma = 14.6. A wrong coefficient or noise draw shows in the first decimal.
    std = float(reference.std())
    np.testing.assert_allclose(ours / std, reference.numpy() / std, rtol=0, atol=1e-4)


def test_dpmpp_2m_karras_is_its_papers_algorithm(engine: Engine, guided_in_double: Any) -> None:
    sigmas = references.karras_sigmas(STEPS, SIGMAS[0], SIGMAS[-1])
    noise, _ = start()
    # diffusers keeps the picture in the variance-preserving form and starts it with noise of variance exactly 1
    x = noise.double() * math.sqrt(1 + sigmas[0] ** 2)
    expected = references.dpmpp_2m(denoiser(guided_in_double, rounded=True), x, sigmas)
    assert_same(latents_of(engine, "DPM++ 2M", "Karras"), expected)


def test_euler_a_is_k_diffusions(engine: Engine, guided_in_double: Any) -> None:
    times = np.linspace(999, 0, STEPS)
    sigmas = [*np.interp(times, np.arange(1000), SIGMAS), 0.0]
    noise, generator = start()
    x = noise.double() * sigmas[0]

    def model(x: Tensor, sigma: float) -> Tensor:  # here sigma is interpolated between timesteps, not its logarithm
        timestep = float(np.interp(sigma, SIGMAS, np.arange(1000)))
        return x - sigma * guided_in_double(x / math.sqrt(1 + sigma**2), timestep)

    expected = references.euler_ancestral(
        model, x, sigmas, lambda s, s_next: torch.randn(x.shape, generator=generator).double())
    assert_same(latents_of(engine, "Euler a", "Uniform"), expected)


def test_dpmpp_sde_is_k_diffusions(engine: Engine, guided_in_double: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # A Brownian path is rough: asked at a sigma that differs in the 7th digit it answers differently in the 3rd. So the
    # draws of our run are written down and given to the reference, which must ask for the same intervals in that order.
    draws: list[tuple[float, float, Tensor]] = []
    tree = diffusers.schedulers.scheduling_dpmsolver_sde.BrownianTreeNoiseSampler
    ask = tree.__call__

    def listen(self: Any, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        draws.append((float(sigma), float(sigma_next), ask(self, sigma, sigma_next)))
        return draws[-1][2]

    monkeypatch.setattr(tree, "__call__", listen)
    ours = latents_of(engine, "DPM++ SDE", "Karras")
    assert len(draws) == 2 * (STEPS - 1)
    left = iter(draws)

    def noise(sigma: float, sigma_next: float) -> Tensor:
        told, told_next, drawn = next(left)
        assert (sigma, sigma_next) == pytest.approx((told, told_next), rel=1e-4)  # float32, there and back by log
        return drawn.double()

    sigmas = references.karras_sigmas(STEPS, SIGMAS[0], SIGMAS[-1])
    x = start()[0].double() * sigmas[0]
    assert_same(ours, references.dpmpp_sde(denoiser(guided_in_double, rounded=False), x, sigmas, noise))


# -- a Gaussian whose exact denoiser is known


def run_gaussian(sampler: str, schedule: str, steps: int, side: int = 64, stop: int | None = None
                 ) -> tuple[Tensor, Tensor, _Solver]:
    """(result, unit noise at the start, solver) after `stop` steps; side 64: 16,384 independent samples."""
    def epsilon(x: Tensor, moment: Moment) -> Tensor:
        full = x * math.sqrt(1 + moment.sigma**2)
        return (full - references.gaussian_denoiser(full, moment.sigma)) / moment.sigma

    return solve(SAMPLERS[sampler], schedule, steps, TRAINING, epsilon, side=side, stop=stop)


# std of samples where 0.5 is right: first-order solvers shrink them on their way, the more the fewer steps; Langevin's
# walk does not come to rest at each level, and leaves them wide.
FIRST_ORDER = ("Euler a", "Euler", "DDIM", "DDIM CFG++", "DDPM", "Improved DDPM", "Langevin")
DISTILLED = ("LCM", "TCD")  # jump to x0 and add noise again: right only for networks trained for that
GAUSSIAN = [label for label in SAMPLERS if label not in DISTILLED]


@pytest.mark.parametrize("sampler", GAUSSIAN)
def test_samples_of_a_gaussian_have_its_width(sampler: str) -> None:
    entry = SAMPLERS[sampler]
    coarse, fine = (float(run_gaussian(sampler, entry.automatic, steps)[0].std()) for steps in (20, 40))
    # 16,384 samples: std has an error of 0.003 by chance. UniPC, DPM++ 3M SDE: 0.02 by measurement at 40 steps.
    assert abs(fine - 0.5) < (0.06 if sampler in FIRST_ORDER else 0.025)
    assert abs(fine - 0.5) < max(abs(coarse - 0.5), 0.005)


@pytest.mark.parametrize("sampler, order", [(label, entry.order) for label, entry in SAMPLERS.items() if entry.order])
def test_the_order_of_convergence_is_the_one_in_the_list(sampler: str, order: int) -> None:
    """Error of the probability flow from the first to the last positive sigma, at 40, 80 and 160 steps."""
    schedule = "Karras" if "Karras" in SAMPLERS[sampler].schedules else "Uniform"
    errors = []
    for steps in (40, 80, 160):
        x, noise, solver = run_gaussian(sampler, schedule, steps, side=2, stop=steps - 1)
        first, last = solver.sigmas[0], solver.sigmas[-1]
        kept = solver.lanes[0].scheduler.init_noise_sigma  # 1: the solver keeps x variance-preserving
        gain = x / noise * (math.sqrt((1 + last**2) / (1 + first**2)) if kept == 1 else 1 / kept)
        errors.append(abs(float(gain.mean()) / references.gaussian_path(first, last) - 1))
    measured = math.log2(errors[1] / errors[2])
    # the order is a limit: at 160 steps the next term of the error still counts up to a third (PLMS 1.7, LMS 3.8)
    assert measured == pytest.approx(order, abs=0.35), errors


def test_every_deterministic_sampler_has_an_order_and_no_other() -> None:
    assert all((entry.order is None) == entry.stochastic for entry in SAMPLERS.values())


@pytest.mark.parametrize("sampler", [label for label, entry in SAMPLERS.items() if entry.least_steps == 3])
def test_refused_step_counts_really_explode(sampler: str) -> None:
    spread = float(run_gaussian(sampler, SAMPLERS[sampler].automatic, 2)[0].std())
    assert not 0.3 < spread < 1.0, spread  # 0.5 is right: near half of it or less, or twice and more


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "UniPC", "DPM++ 3M SDE", "DPM++ 2M SDE Heun"])
def test_the_beta_schedules_marked_as_too_contrasty_are(sampler: str) -> None:
    beta = float(run_gaussian(sampler, "Beta", 20)[0].std())
    automatic = float(run_gaussian(sampler, SAMPLERS[sampler].automatic, 20)[0].std())
    assert beta > 0.56 and beta > automatic + 0.02


@pytest.mark.parametrize("sampler, steps", [("Langevin", 20), ("PC VE", 10), ("Restart", 5), ("DPM fast", 5)])
def test_the_step_counts_marked_as_noisy_are(sampler: str, steps: int) -> None:
    assert samplers.verdict(sampler, "Automatic", steps)
    assert float(run_gaussian(sampler, SAMPLERS[sampler].automatic, steps)[0].std()) > 0.55


def test_at_few_steps_pc_vp_is_better_off_with_the_ratio_of_ve_than_with_the_authors_own(
        monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []
    for snr in (0.01, 0.16):
        monkeypatch.setattr(predictor_corrector, "SNR", snr)
        widths.append(float(run_gaussian("PC VP", "Karras", 20)[0].std()))
    assert widths == pytest.approx([0.42, 0.47], abs=0.01)  # 0.5 is right


@pytest.mark.parametrize("sampler", ["PC VP", "PC VE", "Langevin"])
def test_the_beta_schedule_they_are_refused_is_far_off(sampler: str) -> None:
    with pytest.raises(BadRequest, match="has no Beta schedule"):
        samplers.resolve(sampler, "Beta", 20)
    assert abs(float(run_gaussian(sampler, "Beta", 20)[0].std()) - 0.5) > 0.1


def test_a_sampler_without_randomness_draws_nothing(engine: Engine) -> None:
    """Its table entry says so, and the picture must not hang on the generator after the first noise."""
    for sampler in (label for label, entry in SAMPLERS.items() if not entry.stochastic):
        results = [deterministic_run(sampler, seed) for seed in (1, 2)]
        assert torch.equal(*results), sampler


def deterministic_run(sampler: str, seed: int) -> Tensor:
    entry = SAMPLERS[sampler]
    scheduler = build(entry, entry.automatic, 4, TRAINING, seed)
    options: dict[str, Any] = step_options(scheduler, torch.Generator().manual_seed(seed))
    x = torch.ones(1, 4, 2, 2) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.step(scheduler.scale_model_input(x, t) * 0.9, t, x, return_dict=False, **options)[0]
    return x


def noise_of(sampler: str, seeds: tuple[int, ...]) -> Iterator[Tensor]:
    for seed in seeds:
        yield deterministic_run(sampler, seed)


@pytest.mark.parametrize("sampler", [label for label, entry in SAMPLERS.items() if entry.stochastic])
def test_a_stochastic_sampler_follows_its_seed(sampler: str) -> None:
    one, again, other = noise_of(sampler, (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
