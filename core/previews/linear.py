"""A linear map from latents to colours, fitted to whatever decoder is loaded: nearly free, blurred, true in colour.

Each latent cell becomes one colour, the mean of the pixels it decodes to; no table of constants is needed.
"""

from __future__ import annotations

import weakref

import torch
from torch import Tensor
from torch.nn import functional

from core.models.sd import StableDiffusion

_SAMPLES, _SIDE = 24, 16  # random latents to fit on: 6144 cells for 5 unknowns a colour
_fitted: weakref.WeakKeyDictionary[StableDiffusion, LinearDecoder] = weakref.WeakKeyDictionary()


class LinearDecoder:
    """weights: (C + 1, 3), the last row the constant."""

    def __init__(self, weights: Tensor):
        self.weights = weights

    @classmethod
    def of(cls, model: StableDiffusion) -> LinearDecoder:
        """The map fitted to a model's decoder, once per loaded model."""
        if model not in _fitted:
            latents = random_latents(_SAMPLES, model.latent_channels, _SIDE, seed=0)
            _fitted[model] = fit(latents, torch.cat([model.decode(z[None]).cpu() for z in latents]))
        return _fitted[model]

    def __call__(self, x0: Tensor) -> Tensor:
        """(n, C, h, w) -> (n, 3, h, w) float32 in [-1, 1]: a colour per latent cell."""
        weights = self.weights.to(x0.device)
        colours = torch.einsum("nchw,cd->ndhw", x0.float(), weights[:-1]) + weights[-1][:, None, None]
        return colours.clamp(-1, 1)


def fit(latents: Tensor, pictures: Tensor) -> LinearDecoder:
    """Least squares. latents: (n, C, h, w). pictures: (n, 3, H, W) in [-1, 1], what the decoder makes of them."""
    factor = pictures.shape[-1] // latents.shape[-1]
    colours = functional.avg_pool2d(pictures, factor).permute(0, 2, 3, 1).reshape(-1, 3)
    cells = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1]).float()
    with_constant = torch.cat([cells, torch.ones(len(cells), 1)], dim=1)
    return LinearDecoder(torch.linalg.lstsq(with_constant, colours).solution)


def random_latents(count: int, channels: int, side: int, seed: int) -> Tensor:
    """(count, channels, side, side) of unit variance, smooth as those of pictures are: noise at four scales, summed."""
    generator = torch.Generator("cpu").manual_seed(seed)
    total = torch.zeros(count, channels, side, side)
    for scale in (1, 2, 4, 8):
        coarse = torch.randn(count, channels, side // scale, side // scale, generator=generator)
        total += functional.interpolate(coarse, size=(side, side), mode="bilinear") if scale > 1 else coarse * 0.5
    return total / total.std()
