"""Solvers written from their papers in float64, for comparison; and the Gaussian on which everything is known exactly.

Contract as in k-diffusion: model(x, sigma) -> denoised, where x = x0 + sigma * noise, not rescaled.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from torch import Tensor

Denoiser = Callable[[Tensor, float], Tensor]
Noise = Callable[[float, float], Tensor]  # (sigma, sigma_next) -> standard normal, shaped like x


def karras_sigmas(steps: int, lowest: float, highest: float, rho: float = 7.0) -> list[float]:
    """The noise levels of Karras et al. 2022, arXiv:2206.00364, and the final 0."""
    low, high = lowest ** (1 / rho), highest ** (1 / rho)
    return [(high + i / (steps - 1) * (low - high)) ** rho for i in range(steps)] + [0.0]


def dpmpp_2m(model: Denoiser, x: Tensor, sigmas: list[float]) -> Tensor:
    """DPM-Solver++(2M) of Lu et al. 2022, arXiv:2211.01095, in the paper's variance-preserving form."""
    def alpha(s: float) -> float:
        return 1 / math.sqrt(1 + s * s)

    y = x * alpha(sigmas[0])  # the paper's x: alpha * x0 + (alpha * sigma) * noise
    last: tuple[Tensor, float] | None = None  # the previous denoised, and the previous h
    for s, s_next in zip(sigmas, sigmas[1:], strict=False):
        denoised = model(y / alpha(s), s)
        if s_next == 0:
            return denoised  # lambda is infinite: e^-h is 0, and the first-order step is exact
        h = math.log(s) - math.log(s_next)  # lambda = log(alpha / (alpha * sigma))
        mixed = denoised
        if last is not None:
            r = last[1] / h
            mixed = (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * last[0]
        y = (alpha(s_next) * s_next) / (alpha(s) * s) * y - alpha(s_next) * math.expm1(-h) * mixed
        last = denoised, h
    raise AssertionError("sigmas end with 0")


def ancestral(s: float, s_next: float) -> tuple[float, float]:
    """(sigma to go down to, sigma of the fresh noise) of an ancestral step with eta 1, as k-diffusion defines it."""
    up = math.sqrt(s_next**2 * (s**2 - s_next**2) / s**2)
    return math.sqrt(s_next**2 - up**2), up


def euler_ancestral(model: Denoiser, x: Tensor, sigmas: list[float], noise: Noise) -> Tensor:
    """`sample_euler_ancestral` of k-diffusion, eta 1."""
    for s, s_next in zip(sigmas, sigmas[1:], strict=False):
        down, up = ancestral(s, s_next)
        x = x + (x - model(x, s)) / s * (down - s)
        if s_next > 0:
            x = x + up * noise(s, s_next)
    return x


def dpmpp_sde(model: Denoiser, x: Tensor, sigmas: list[float], noise: Noise) -> Tensor:
    """`sample_dpmpp_sde` of k-diffusion, eta 1, r 1/2: DPM-Solver++(S) in time t = -log(sigma), two calls a step."""
    for s, s_next in zip(sigmas, sigmas[1:], strict=False):
        denoised = model(x, s)
        if s_next == 0:
            return denoised
        middle = math.sqrt(s * s_next)
        down, up = ancestral(s, middle)
        half = down / s * x - math.expm1(math.log(down / s)) * denoised + up * noise(s, middle)
        second = model(half, middle)  # r = 1/2: the mean of both questions is the second alone
        down, up = ancestral(s, s_next)
        x = down / s * x - math.expm1(math.log(down / s)) * second + up * noise(s, s_next)
    raise AssertionError("sigmas end with 0")


GAUSSIAN_STD = 0.5  # of the data; the prior that real latents have is 1


def gaussian_denoiser(x: Tensor, sigma: float) -> Tensor:
    """The exact mean of x0 ~ N(0, 0.5^2) given x = x0 + sigma * noise."""
    return x * GAUSSIAN_STD**2 / (GAUSSIAN_STD**2 + sigma**2)


def gaussian_path(start: float, sigma: float) -> float:
    """By how much the exact probability flow shrinks x between two noise levels."""
    return math.sqrt((GAUSSIAN_STD**2 + sigma**2) / (GAUSSIAN_STD**2 + start**2))


def training_sigmas() -> np.ndarray:
    """(1000,) noise levels of Stable Diffusion's training, from its betas: 0.00085 to 0.012, linear in the root."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = np.cumprod(1 - betas)
    return np.sqrt((1 - kept) / kept)


# -- solvers that diffusers lacks


def dpmpp_2s_ancestral(model: Denoiser, x: Tensor, sigmas: list[float], noise: Noise) -> Tensor:
    """`sample_dpmpp_2s_ancestral` of k-diffusion, eta 1: DPM-Solver++(2S) with r 1/2 in time t = -log(sigma)."""
    for s, s_next in zip(sigmas, sigmas[1:], strict=False):
        denoised = model(x, s)
        if s_next == 0:
            return denoised
        down, up = ancestral(s, s_next)
        t, t_next = -math.log(s), -math.log(down)
        h = t_next - t
        middle = math.exp(-(t + h / 2))
        x_2 = middle / s * x - math.expm1(-h / 2) * denoised
        x = down / s * x - math.expm1(-h) * model(x_2, middle) + up * noise(s, s_next)
    raise AssertionError("sigmas end with 0")


def restart(model: Denoiser, x: Tensor, sigmas: list[float], noise: Noise, *, after: int, highest: float, steps: int,
            times: int) -> Tensor:
    """Restart of Xu et al. 2023, arXiv:2306.14878, as `restart_sampler` of Automatic1111 goes through it.

    after: the step of the way down at whose end it goes back to `highest`; steps: down again, Karras-spaced.
    """
    def slope(x: Tensor, s: float) -> Tensor:
        return (x - model(x, s)) / s

    intervals: list[tuple[float, float]] = []
    for k, (s, s_next) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
        intervals.append((s, s_next))
        if k == after:
            inner = karras_sigmas(steps + 1, s_next, highest)[:-1]
            intervals += list(zip(inner, inner[1:], strict=False)) * times
    before = sigmas[0]
    for s, s_next in intervals:
        if s > before:
            x = x + math.sqrt(s**2 - before**2) * noise(before, s)
        d = slope(x, s)
        euler = x + (s_next - s) * d
        x = euler if s_next == 0 else x + (s_next - s) * (d + slope(euler, s_next)) / 2
        before = s_next
    return x


def annealed_langevin(model: Denoiser, x: Tensor, sigmas: list[float], noise: Noise, epsilon: float,
                      steps: int) -> Tensor:
    """Algorithm 1 of Song & Ermon 2019, arXiv:1907.05600, then the clean estimate. sigmas: without a final 0."""
    for s in sigmas:
        alpha = epsilon * s**2 / sigmas[-1] ** 2
        for _ in range(steps):
            score = (model(x, s) - x) / s**2
            x = x + alpha / 2 * score + math.sqrt(alpha) * noise(s, s)
    return model(x, sigmas[-1])


def reverse_diffusion_langevin(model: Denoiser, x: Tensor, sigmas: list[float], noise: Noise, snr: float) -> Tensor:
    """Algorithm 2 (VE) of Song et al. 2021, arXiv:2011.13456, with algorithm 4 as its corrector; one corrector step."""
    for s, s_next in zip(sigmas, sigmas[1:], strict=False):
        spread = s**2 - s_next**2
        x = x + spread * (model(x, s) - x) / s**2
        if s_next == 0:
            return x
        x = x + math.sqrt(spread) * noise(s, s_next)
        z, g = noise(s_next, s_next), (model(x, s_next) - x) / s_next**2
        size = 2 * (snr * float(z.square().sum().sqrt()) / float(g.square().sum().sqrt())) ** 2
        x = x + size * g + math.sqrt(2 * size) * z
    raise AssertionError("sigmas end with 0")


def ancestral_langevin(model: Denoiser, x: Tensor, sigmas: list[float], noise: Noise, snr: float,
                       alpha: Callable[[float], float]) -> Tensor:
    """DDPM (algorithm 2 of Ho et al. 2020, arXiv:2006.11239, small variance) in the place of the predictor of Song et
    al.'s algorithm 3 (VP), with algorithm 5 as its corrector; one corrector step. alpha(sigma): 1 - beta there."""
    def epsilon(x: Tensor, s: float) -> Tensor:
        full = x * math.sqrt(1 + s**2)
        return (full - model(full, s)) / s

    for s, s_next in zip(sigmas, sigmas[1:], strict=False):
        x = ddpm_mean(x, epsilon(x, s), s, s_next)
        if s_next == 0:
            return x
        x = x + math.sqrt(ddpm_variances(s, s_next)[0]) * noise(s, s_next)
        z, g = noise(s_next, s_next), -epsilon(x, s_next) * math.sqrt(1 + s_next**2) / s_next
        size = 2 * alpha(s_next) * (snr * float(z.square().sum().sqrt()) / float(g.square().sum().sqrt())) ** 2
        x = x + size * g + math.sqrt(2 * size) * z
    raise AssertionError("sigmas end with 0")


def improved_ddpm(model: Denoiser, x: Tensor, sigmas: list[float], noise: Noise, v: float) -> Tensor:
    """DDPM with the variance of Nichol & Dhariwal 2021, arXiv:2102.09672: log-linear between its two bounds."""
    for s, s_next in zip(sigmas, sigmas[1:], strict=False):
        full = x * math.sqrt(1 + s**2)
        x = ddpm_mean(x, (full - model(full, s)) / s, s, s_next)
        if s_next == 0:
            return x
        small, large = ddpm_variances(s, s_next)
        x = x + math.sqrt(math.exp(v * math.log(large) + (1 - v) * math.log(small))) * noise(s, s_next)
    raise AssertionError("sigmas end with 0")


def ddim_cfgpp(model: Denoiser, free: Denoiser, x: Tensor, sigmas: list[float], scale: float) -> Tensor:
    """DDIM with CFG++ of Chung et al. 2024, arXiv:2406.08070, in the paper's form: x = sqrt(a) x0 + sqrt(1 - a) noise.

    model, free: with and without the prompt. scale: the paper's lambda.
    """
    def epsilon(denoiser: Denoiser, a: float) -> Tensor:
        s = math.sqrt((1 - a) / a)
        return (x - math.sqrt(a) * denoiser(x / math.sqrt(a), s)) / math.sqrt(1 - a)

    kept = [1 / (1 + s**2) for s in sigmas]
    for a, a_next in zip(kept, kept[1:], strict=False):
        unguided, guided = epsilon(free, a), epsilon(model, a)
        guided = unguided + scale * (guided - unguided)
        clean = (x - math.sqrt(1 - a) * guided) / math.sqrt(a)
        x = math.sqrt(a_next) * clean + math.sqrt(1 - a_next) * unguided
    return x


def dpm_solver(model: Denoiser, x: Tensor, start: float, end: float, order: int) -> Tensor:
    """One step of DPM-Solver-1, -2 (r1 = 1/2) or -3 (r1 = 1/3, r2 = 2/3) of Lu et al. 2022, arXiv:2206.00927, from one
    level to another, in the paper's variance-preserving form: alpha^2 + sigma^2 = 1, lambda = log(alpha / sigma)."""
    def alpha(at: float) -> float:
        return 1 / math.sqrt(1 + math.exp(-2 * at))

    def sigma(at: float) -> float:
        return alpha(at) * math.exp(-at)

    def epsilon(y: Tensor, at: float) -> Tensor:
        return (y - alpha(at) * model(y / alpha(at), math.exp(-at))) / sigma(at)

    def first(at: float) -> Tensor:
        return alpha(at) / alpha(t) * y - sigma(at) * math.expm1(at - t) * e

    t, t_next = -math.log(start), -math.log(end)
    h, y = t_next - t, x * alpha(t)
    e = epsilon(y, t)
    if order == 1:
        y = first(t_next)
    elif order == 2:
        middle = t + h / 2
        y = alpha(t_next) / alpha(t) * y - sigma(t_next) * math.expm1(h) * epsilon(first(middle), middle)
    else:
        r1, r2 = 1 / 3, 2 / 3
        s1, s2 = t + r1 * h, t + r2 * h
        d1 = epsilon(first(s1), s1) - e
        u2 = first(s2) - sigma(s2) * r2 / r1 * (math.expm1(r2 * h) / (r2 * h) - 1) * d1
        d2 = epsilon(u2, s2) - e
        y = first(t_next) - sigma(t_next) / r2 * (math.expm1(h) / h - 1) * d2
    return y / alpha(t_next)


def dpm_solver_fast(model: Denoiser, x: Tensor, highest: float, lowest: float, calls: int) -> Tensor:
    """DPM-Solver-fast of the same paper for so many network calls, as `sample_dpm_fast` of k-diffusion (eta 0): it does
    not go on to the clean picture."""
    count = calls // 3 + 1
    orders = {0: [3] * (count - 2) + [2, 1], 1: [3] * (count - 1) + [1], 2: [3] * (count - 1) + [2]}[calls % 3]
    levels = [highest * (lowest / highest) ** (k / count) for k in range(count)] + [lowest]
    for s, s_next, order in zip(levels, levels[1:], orders, strict=False):
        x = dpm_solver(model, x, s, s_next, order)
    return x


def ddpm_mean(x: Tensor, epsilon: Tensor, s: float, s_next: float) -> Tensor:
    """Step 4 of algorithm 2 of Ho et al. 2020, arXiv:2006.11239, without its noise, for a step of any length."""
    kept, kept_next = 1 / (1 + s**2), 1 / (1 + s_next**2)
    alpha = kept / kept_next
    return (x - (1 - alpha) / math.sqrt(1 - kept) * epsilon) / math.sqrt(alpha)


def ddpm_variances(s: float, s_next: float) -> tuple[float, float]:
    """beta-tilde and beta of Ho et al. 2020, section 3.2, for a step of any length."""
    kept, kept_next = 1 / (1 + s**2), 1 / (1 + s_next**2)
    beta = 1 - kept / kept_next
    return (1 - kept_next) / (1 - kept) * beta, beta
