"""DPM++ 2S a: the singlestep DPM-Solver++ of second order, with fresh noise at each step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from core.samplers.ladder import Noise, SigmaScheduler


def ancestral(s: float, s_next: float) -> tuple[float, float]:
    """(sigma to go down to, sigma of the fresh noise) of a step with eta 1.

    Source: `get_ancestral_step` of k-diffusion; the posterior given x0, Song et al. 2021, arXiv:2011.13456, appendix F.
    """
    up = math.sqrt(s_next**2 * (s**2 - s_next**2) / s**2)
    return math.sqrt(s_next**2 - up**2), up


class DPMPP2SAncestralScheduler(SigmaScheduler):
    """Source: Lu et al. 2022, arXiv:2211.01095, DPM-Solver++(2S) with r = 1/2, made ancestral by
    `sample_dpmpp_2s_ancestral` of k-diffusion, eta 1.

    The second question of a step is asked at the geometric mean of its start and where it goes down to.
    """

    def plan(self, sigmas: Sequence[float]) -> list[float]:
        levels = []
        for s, s_next in zip(sigmas, sigmas[1:], strict=False):
            down, _ = ancestral(s, s_next)
            levels += [s, math.sqrt(s * down)]
        return [*levels, sigmas[-1]]

    def move(self, x: Tensor, x0: Tensor, call: int, noise: Noise) -> Tensor:
        if self.sigma(call + 1) == 0:
            return x0
        if call % 2 == 0:
            self._start = x
            ratio = self.sigma(call + 1) / self.sigma(call)
            return ratio * x + (1 - ratio) * x0
        down, up = ancestral(self.sigma(call - 1), self.sigma(call + 1))
        ratio = down / self.sigma(call - 1)
        return ratio * self._start + (1 - ratio) * x0 + up * noise()
