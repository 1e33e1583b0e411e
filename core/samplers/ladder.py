"""What this project's own solvers share: a ladder of noise levels, in the shape of diffusers' schedulers.

A subclass says which levels it asks the network at (`plan`) and what it makes of one answer (`move`). What it must
remember between the calls of a step it keeps itself; a step hangs on nothing else but its arguments, so that a run can
be taken again from its record.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import ConfigMixin, EulerDiscreteScheduler, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from core.estimates import clean_estimate

_LADDER = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas",
                "rescale_betas_zero_snr", "timestep_spacing", "steps_offset", "use_karras_sigmas",
                "use_exponential_sigmas", "use_beta_sigmas")


@dataclass
class Stepped(BaseOutput):
    """What `step` gives: names as in diffusers."""

    prev_sample: Tensor
    pred_original_sample: Tensor


class LadderScheduler(SchedulerMixin, ConfigMixin):
    """Latents as the network sees them, sqrt(a) x0 + sqrt(1 - a) noise; sigma = sqrt(1 - a) / sqrt(a)."""

    order = 1
    init_noise_sigma = 1.0
    needs_unguided = False  # `step` wants the output without the prompts beside the guided one
    end = 0.0  # the noise level a run ends at: the clean picture

    @register_to_config
    def __init__(self, num_train_timesteps: int = 1000, beta_start: float = 0.0001, beta_end: float = 0.02,
                 beta_schedule: str = "linear", trained_betas: np.ndarray | list[float] | None = None,
                 prediction_type: str = "epsilon", timestep_spacing: str = "linspace", steps_offset: int = 0,
                 rescale_betas_zero_snr: bool = False, use_karras_sigmas: bool = False,
                 use_exponential_sigmas: bool = False, use_beta_sigmas: bool = False):
        # Spacings and schedules are diffusers' own, so that a schedule means the same for every sampler.
        kind: Any = EulerDiscreteScheduler  # diffusers sets its attributes where no type checker sees them
        self._ladder = kind(**{name: self.config[name] for name in _LADDER})
        self.alphas_cumprod = self._ladder.alphas_cumprod

    def set_timesteps(self, num_inference_steps: int | None = None, device: str | torch.device | None = None,
                      timesteps: list[int] | None = None) -> None:
        """timesteps: those of the ladder, for schedules that diffusers has no flag for."""
        self._ladder.set_timesteps(num_inference_steps, timesteps=timesteps)
        levels = self.plan([float(sigma) for sigma in self._ladder.sigmas[:-1]])
        kept = self.alphas_cumprod.double().numpy()
        trained = np.log(np.sqrt((1 - kept) / kept))
        asked = np.interp(np.log(levels), trained, np.arange(len(trained)))  # as k-diffusion: linear in log sigma
        self.sigmas = torch.tensor([*levels, self.end])  # of each network call, and where the last one leads
        self.timesteps = torch.tensor(asked, dtype=torch.float32, device=device)
        self.num_inference_steps = num_inference_steps
        self._call = 0

    def plan(self, sigmas: Sequence[float]) -> list[float]:
        """The noise level of each network call. sigmas: one per solver step, falling, without the final 0."""
        return list(sigmas)

    def move(self, x: Tensor, x0: Tensor, call: int, noise: Noise) -> Tensor:
        """The latents after a network call. x0: what the network's answer says of the clean latents."""
        raise NotImplementedError

    def move_apart(self, x: Tensor, x0: Tensor, free: Tensor, call: int, noise: Noise) -> Tensor:
        """As `move`, for solvers that tell apart what the answer says with the prompts, and without them (`free`)."""
        return self.move(x, x0, call, noise)

    def scale_model_input(self, sample: Tensor, timestep: Tensor | float | None = None) -> Tensor:
        return sample

    def step(self, model_output: Tensor, timestep: Tensor | float, sample: Tensor,
             generator: torch.Generator | None = None, return_dict: bool = True,
             unguided: Tensor | None = None) -> Stepped | tuple[Tensor, Tensor]:
        """One network call's answer taken in. Calls come in order; `timestep` is there for diffusers' sake.

        unguided: the output without the prompts; where there is none, no prompt pulled and it is the output itself.
        """
        seen = self.scale_model_input(sample)
        sigma, prediction = self.sigma(self._call), self.config["prediction_type"]
        x0 = clean_estimate(seen, model_output, sigma, prediction)
        free = x0 if unguided is None else clean_estimate(seen, unguided, sigma, prediction)
        moved = self.move_apart(sample, x0, free, self._call, Noise(sample, generator))
        self._call += 1
        return Stepped(moved, x0) if return_dict else (moved, x0)

    def sigma(self, call: int) -> float:
        return float(self.sigmas[call])


class SigmaScheduler(LadderScheduler):
    """Latents as k-diffusion keeps them, x0 + sigma noise, unscaled."""

    @property
    def init_noise_sigma(self) -> float:  # type: ignore[override]
        return float(self.sigmas.max())

    def scale_model_input(self, sample: Tensor, timestep: Tensor | float | None = None) -> Tensor:
        return sample / math.sqrt(1 + self.sigma(self._call) ** 2)


@dataclass(frozen=True)
class Noise:
    """Draws standard normal numbers shaped like x, one draw a call."""

    x: Tensor
    generator: torch.Generator | None

    def __call__(self) -> Tensor:
        return randn_tensor(self.x.shape, generator=self.generator, device=self.x.device, dtype=self.x.dtype)
