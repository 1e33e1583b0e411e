"""Predictor-corrector sampling of the score SDEs: each step down is followed by one step of Langevin dynamics.

Source: Song et al. 2021, arXiv:2011.13456, algorithm 1. VE: reverse diffusion (appendix E, algorithm 2), corrected by
algorithm 4. VP: ancestral sampling (equation 4), corrected by algorithm 5. One corrector step each. Over a stride of
several training steps beta and sigma are those of the whole stride.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from core.samplers.ladder import LadderScheduler, Noise, SigmaScheduler

# The paper's r. 0.16 is the best for VE with reverse diffusion on CIFAR-10 (table 5; `snr` of the authors'
# configs/default_cifar10_configs.py). For VP they found 0.01, at 1000 steps; with so little the corrector does next to
# nothing. At few steps 0.16 serves VP better: std 0.47 on a Gaussian of 0.50 at 20 steps, where 0.01 leaves 0.42.
SNR = 0.16


def langevin(x: Tensor, score: Tensor, noise: Tensor, alpha: float) -> Tensor:
    """One corrector step, its size by the signal-to-noise ratio: epsilon = 2 alpha (r |z| / |g|)^2.

    The norms are those of one picture, where the authors take the mean over their batch: a picture must not hang on its
    neighbours. alpha: 1 - beta of the training at this level (VP), 1 (VE).
    """
    ratio = noise.norm() / score.norm()
    size = 2 * alpha * (SNR * torch.where(score.norm() > 0, ratio, 0)) ** 2
    return x + size * score + (2 * size).sqrt() * noise


class PredictorCorrectorVP(LadderScheduler):
    """Ancestral predictor, with the small variance that "DDPM" has here too (theirs is beta), Langevin corrector."""

    def plan(self, sigmas: Sequence[float]) -> list[float]:
        return plan(sigmas)

    def move(self, x: Tensor, x0: Tensor, call: int, noise: Noise) -> Tensor:
        s, s_next = self.sigma(call), self.sigma(call + 1)
        if s_next == 0:
            return x0
        kept = 1 / (1 + s**2)
        score = (math.sqrt(kept) * x0 - x) / (1 - kept)
        if call % 2:
            return langevin(x, score, noise(), self._alpha(call))
        kept_next = 1 / (1 + s_next**2)
        beta = 1 - kept / kept_next
        spread = beta * (1 - kept_next) / (1 - kept)
        return (x + beta * score) / math.sqrt(1 - beta) + math.sqrt(spread) * noise()

    def _alpha(self, call: int) -> float:
        return float(np.interp(float(self.timesteps[call]), np.arange(len(self.alphas_cumprod)), self._ladder.alphas))


class PredictorCorrectorVE(SigmaScheduler):
    """Reverse-diffusion predictor, Langevin corrector, on x / sqrt(a): the VE form of a model trained in the VP one."""

    def plan(self, sigmas: Sequence[float]) -> list[float]:
        return plan(sigmas)

    def move(self, x: Tensor, x0: Tensor, call: int, noise: Noise) -> Tensor:
        s, s_next = self.sigma(call), self.sigma(call + 1)
        if s_next == 0:
            return x0
        score = (x0 - x) / s**2
        if call % 2:
            return langevin(x, score, noise(), 1.0)
        drop = s**2 - s_next**2
        return x + drop * score + math.sqrt(drop) * noise()


def plan(sigmas: Sequence[float]) -> list[float]:
    """The predictor asks where the step begins, the corrector where it ends; the last step has no corrector."""
    return [level for pair in zip(sigmas, sigmas[1:], strict=False) for level in pair] + [sigmas[-1]]
