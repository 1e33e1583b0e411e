"""DDIM CFG++: the prompts pull on the clean estimate alone, the noise that is put back is the model's own."""

from __future__ import annotations

import math

from torch import Tensor

from core.samplers.ladder import LadderScheduler, Noise


class DDIMCFGPPScheduler(LadderScheduler):
    """Source: Chung et al. 2024, arXiv:2406.08070, DDIM with CFG++, as `BaseDDIMCFGpp` of the authors' code
    (github.com/CFGpp-diffusion/CFGpp, latent_diffusion.py): x0 from the guided output, renoised with the unguided one,
    ending with x0. Where nothing was guided it is DDIM.

    The guidance is the paper's lambda, 0 to 1: between the outputs without and with the prompts, not beyond.
    `Sampler.guidance_divisor` makes it of the form's number. The pull of a step does not shrink with its length, so the
    same lambda pulls harder the more steps there are (measured in tests/test_own_solvers.py).
    """

    needs_unguided = True

    def move(self, x: Tensor, x0: Tensor, call: int, noise: Noise) -> Tensor:
        return self.move_apart(x, x0, x0, call, noise)

    def move_apart(self, x: Tensor, x0: Tensor, free: Tensor, call: int, noise: Noise) -> Tensor:
        s, s_next = self.sigma(call), self.sigma(call + 1)
        epsilon = (math.sqrt(1 + s**2) * x - free) / s
        return (x0 + s_next * epsilon) / math.sqrt(1 + s_next**2)
