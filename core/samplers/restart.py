"""Restart: Heun's solver that goes back up to much noise once it is low, and down again."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from core.samplers.ladder import Noise, SigmaScheduler
from core.samplers.table import restart_step, restarts

HIGHEST = 2.0  # sigma; Automatic1111's (`restart_sampler` of modules/sd_samplers_extra.py), or its level next to it
RHO = 7.0  # of Karras et al. 2022, arXiv:2206.00364, and of k-diffusion's `get_sigmas_karras`


class RestartScheduler(SigmaScheduler):
    """Source: Xu et al. 2023, arXiv:2306.14878, with one interval to restart in, on Heun's method as in Automatic1111.

    When the way down has come to the level of `restart_step` (t_min), noise takes the picture back to HIGHEST (t_max)
    and some Heun steps, Karras-spaced, lead down to the same level, once or twice (`restarts`). These calls belong to
    the solver step that came to that level, so the levels of a run's steps still fall. `steps` is the way down alone
    (N_main); Automatic1111 counts the restarts' steps in, and below 20 has none.
    """

    def plan(self, sigmas: Sequence[float]) -> list[float]:
        last = len(sigmas) - 1
        times, down = restarts(len(sigmas))
        levels = []
        for k in range(last):
            levels += [sigmas[k], sigmas[k + 1]]  # Heun asks where the step begins and where it ends
            if k + 1 == restart_step(len(sigmas)):
                again = _karras(max(HIGHEST, sigmas[k + 1]), sigmas[k + 1], down)
                levels += [level for pair in zip(again, again[1:], strict=False) for level in pair] * times
        return [*levels, sigmas[last]]

    def move(self, x: Tensor, x0: Tensor, call: int, noise: Noise) -> Tensor:
        s, s_next = self.sigma(call), self.sigma(call + 1)
        if s_next == 0:
            return x0
        slope = (x - x0) / s
        if call % 2 == 0:
            self._start, self._slope = x, slope
            return x + (s_next - s) * slope
        x = self._start + (s - self.sigma(call - 1)) / 2 * (self._slope + slope)
        return x + math.sqrt(s_next**2 - s**2) * noise() if s_next > s else x


def _karras(high: float, low: float, steps: int) -> list[float]:
    """Noise levels of `steps` steps from high to low, both included."""
    a, b = high ** (1 / RHO), low ** (1 / RHO)
    return [high, *((a + k / steps * (b - a)) ** RHO for k in range(1, steps)), low]
