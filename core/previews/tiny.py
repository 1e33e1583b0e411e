"""The model's tiny autoencoder (TAESD's kind): nearly the decoder's picture for a small part of its cost."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class TinyDecoder:
    """tiny: a diffusers AutoencoderTiny that takes latents as samplers see them."""

    def __init__(self, tiny: Any):
        self.tiny = tiny

    def __call__(self, x0: Tensor) -> Tensor:
        """(n, C, h, w) -> (n, 3, H, W) float32 in [-1, 1]."""
        weights = next(self.tiny.parameters())
        return self.tiny.decode(x0.to(weights.device, weights.dtype), return_dict=False)[0].float().clamp(-1, 1)
