"""DPM fast: singlestep DPM-Solvers of order 3, and lower ones at the end, one network call a step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from core.samplers.ladder import Noise, SigmaScheduler


def orders(calls: int) -> list[int]:
    """Orders of the groups that use up so many network calls, one call for each order."""
    groups = calls // 3 + 1
    return [3] * (groups - 2) + [2, 1] if calls % 3 == 0 else [3] * (groups - 1) + [calls % 3]


class DPMFastScheduler(SigmaScheduler):
    """Source: Lu et al. 2022, arXiv:2206.00927, DPM-Solver-1, -2 and -3 in the combination they call DPM-Solver-fast,
    with eta 0 as `sample_dpm_fast` of k-diffusion: r1 = 1/3 and r2 = 2/3 (1/2 for order 2), groups of equal length in
    log sigma down to the lowest noise level of the schedule.

    The questions of a group stand at equal distances in log sigma too. So where a run begins amid a group (a fork), the
    group's rest is one of a lower order.
    """

    def plan(self, sigmas: Sequence[float]) -> list[float]:
        self._orders = groups = orders(len(sigmas))
        high, self.end = math.log(sigmas[0]), sigmas[-1]
        length = (high - math.log(self.end)) / len(groups)
        return [math.exp(high - (k + part / order) * length) for k, order in enumerate(groups) for part in range(order)]

    def move(self, x: Tensor, x0: Tensor, call: int, noise: Noise) -> Tensor:
        place, order = self._group(call)
        slope = (x - x0) / self.sigma(call)
        if place == 0:
            self._start, self._slope = x, slope
        s, s_next = self.sigma(call - place), self.sigma(call + 1)
        h = math.log(s / s_next)  # of this question; of the whole group at its last
        along = self._start - (s - s_next) * self._slope  # DPM-Solver-1
        if place == 0:
            return along
        # expm1(h) / h - 1, over the share of h that lies between the two slopes; for DPM-Solver-2 expm1(h) / 2 of it
        bend = math.expm1(h) / h - 1 if order == 3 else math.expm1(h) / 2
        share = math.log(s / self.sigma(call)) / h
        return along - s_next * bend / share * (slope - self._slope)

    def _group(self, call: int) -> tuple[int, int]:
        """(which question of its group a call is, how many the group has)."""
        end = len(self.timesteps) - sum(self._orders)  # the first begins here: below 0 where only last steps are taken
        for order in self._orders:
            begin, end = max(end, 0), end + order
            if call < end:
                return call - begin, end - begin
        raise AssertionError("more calls than steps")
