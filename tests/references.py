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
    """Equation 5 of Karras et al. 2022, arXiv:2206.00364, and the final 0."""
    low, high = lowest ** (1 / rho), highest ** (1 / rho)
    return [(high + i / (steps - 1) * (low - high)) ** rho for i in range(steps)] + [0.0]


def dpmpp_2m(model: Denoiser, x: Tensor, sigmas: list[float]) -> Tensor:
    """Algorithm 2 of Lu et al. 2022, arXiv:2211.01095 (DPM-Solver++(2M)), in the paper's variance-preserving form."""
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
