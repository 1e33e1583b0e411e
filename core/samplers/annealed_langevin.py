"""Annealed Langevin dynamics: at each noise level a few steps of a random walk along the score."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from core.samplers.ladder import Noise, SigmaScheduler
from core.samplers.table import LANGEVIN_STEPS

# epsilon / sigma_L^2. The paper's is 2e-5 / 0.01^2 = 0.2, with 100 steps at each of 10 levels. With 5 steps at each of
# more levels the noise of a level settles best with twice as much: the criterion of Song & Ermon 2020,
# arXiv:2006.09011, by which to choose epsilon gives 0.35 to 0.49 for 40 to 20 levels of Stable Diffusion's range.
STEP = 0.4


class AnnealedLangevinScheduler(SigmaScheduler):
    """Source: Song & Ermon 2019, arXiv:1907.05600, algorithm 1, on the noise levels of a model trained to denoise
    sqrt(a) x0 + sqrt(1 - a) noise, whose score is (x0 - x) / sigma^2 once x is divided by sqrt(a).

    It ends with the clean estimate, as Song & Ermon 2020 and Jolicoeur-Martineau et al. 2020 (arXiv:2009.05475) do.
    """

    def plan(self, sigmas: Sequence[float]) -> list[float]:
        return [s for s in sigmas for _ in range(LANGEVIN_STEPS)] + [sigmas[-1]]

    def move(self, x: Tensor, x0: Tensor, call: int, noise: Noise) -> Tensor:
        if self.sigma(call + 1) == 0:
            return x0
        s = self.sigma(call)
        size = STEP * s**2  # the paper's alpha_i = epsilon sigma_i^2 / sigma_L^2
        return x + size / 2 * (x0 - x) / s**2 + math.sqrt(size) * noise()
