"""A plain sampler for the sample sheets of a training: DDIM and guidance. What people get comes from the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from core.storybook import networks as n
from core.storybook.tokens import encode

Predictor = Callable[[Tensor, int], Tensor]  # (latents (B, 4, h, w), timestep) -> model output of the same shape


class Parts(NamedTuple):
    """What makes pictures from prompts."""

    tokenizer: CLIPTokenizer
    text: n.Network
    unet: n.Network
    vae: n.Network


def embed(parts: Parts, prompts: Sequence[str]) -> Tensor:
    """(B, TEXT_LENGTH, TEXT_WIDTH) as StableDiffusionPipeline computes it."""
    ids = encode(parts.tokenizer, list(prompts)).to(parts.unet.device)
    return parts.text(ids).last_hidden_state


def guided(parts: Parts, prompts: Sequence[str], guidance: float) -> Predictor:
    """Classifier-free guidance (arXiv:2207.12598) of a batch of prompts against the empty prompt."""
    words = torch.cat([embed(parts, [""] * len(prompts)), embed(parts, prompts)])

    def predict(x: Tensor, t: int) -> Tensor:
        with n.autocast(x.device):
            empty, asked = parts.unet(torch.cat([x, x]), t, words).sample.float().chunk(2)
        return empty + guidance * (asked - empty)

    return predict


def noise_of(seeds: Sequence[int], side: int) -> Tensor:
    """(B, 4, side, side): each picture's noise from its own seed, whatever the batch."""
    return torch.cat([torch.randn(1, 4, side, side, generator=torch.Generator("cpu").manual_seed(s)) for s in seeds])


@torch.no_grad()
def ddim(predict: Predictor, x: Tensor, steps: int) -> Tensor:
    """Deterministic DDIM (arXiv:2010.02502) with diffusers' scheduler -> clean latents."""
    scheduler = n.make_scheduler()
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps.tolist():
        x = scheduler.step(predict(x, t), t, x).prev_sample
    return x


@torch.no_grad()
def decode(vae: n.Network, latents: Tensor) -> Tensor:
    """Scaled latents (B, 4, h, w) -> (B, 8h, 8w, 3) uint8."""
    with n.autocast(latents.device):
        pictures = torch.cat([vae.decode(part / vae.config.scaling_factor).sample.float() for part in latents.split(8)])
    return pictures.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu()


@torch.no_grad()
def make_pictures(
    parts: Parts, prompts: Sequence[str], seeds: Sequence[int], side: int = 32, steps: int = 20, guidance: float = 5.0
) -> Tensor:
    """Prompts -> (B, 8 side, 8 side, 3) uint8 on the CPU."""
    x = noise_of(seeds, side).to(parts.unet.device)
    return decode(parts.vae, ddim(guided(parts, prompts, guidance), x, steps))
