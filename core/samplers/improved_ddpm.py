"""DDPM over strides of training steps, with a variance between the two that theory bounds it by."""

from __future__ import annotations

import math

from torch import Tensor

from core.samplers.ladder import LadderScheduler, Noise

PLACE = 0.5  # in the logarithm: 0 is fixed_small, 1 fixed_large


class ImprovedDDPMScheduler(LadderScheduler):
    """Source: Nichol & Dhariwal 2021, arXiv:2102.09672: variance exp(v log beta + (1 - v) log beta-tilde), strides.

    The paper's models predict the place v between the two variances for each pixel. Stable Diffusion's and Storybook's
    do not, so it is one number here. Small (the posterior's, given x0) is right where x0 is certain, large where the
    picture is still noise of variance 1 (Ho et al. 2020, arXiv:2006.11239, section 3.2); they part over long strides.
    """

    def move(self, x: Tensor, x0: Tensor, call: int, noise: Noise) -> Tensor:
        s, s_next = self.sigma(call), self.sigma(call + 1)
        if s_next == 0:
            return x0
        kept, kept_next = 1 / (1 + s**2), 1 / (1 + s_next**2)
        beta = 1 - kept / kept_next
        small = beta * (1 - kept_next) / (1 - kept)
        mean = (math.sqrt(kept_next) * beta * x0 + math.sqrt(1 - beta) * (1 - kept_next) * x) / (1 - kept)
        return mean + math.sqrt(small ** (1 - PLACE) * beta**PLACE) * noise()
