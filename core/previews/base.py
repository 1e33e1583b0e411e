"""The signature of a preview decoder, and the list of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from core.errors import BadRequest
from core.models.sd import StableDiffusion

Decoder = Callable[[Tensor], Tensor]  # x0 (n, C, h, w), as samplers see it -> (n, 3, H', W') float32 in [-1, 1]
Show = Callable[[Tensor], tuple[np.ndarray, ...]]  # the same -> n pictures (H', W', 3) uint8


def make(name: str, model: StableDiffusion) -> Show | None:
    """How the decoder of that name shows latents of a model; None for "none". Raises BadRequest if the model lacks it.

    "auto" is the cheapest that shows shapes: "tiny" where the model has one, else "linear".

    "vae" gives pictures of the full size. The others may give smaller ones, of the same shape: who shows them enlarges
    them, which a browser does for nothing.
    """
    if name == "none":
        return None
    if name == "auto":
        name = "linear" if model.tiny is None else "tiny"
    decoder = _decoder(name, model)
    return lambda x0: to_pictures(decoder(x0))


def names_for(wanted: str, model: StableDiffusion) -> tuple[str, ...]:
    """The decoders that previews named `wanted` may use: itself, or for "auto" all that the model has."""
    if wanted != "auto":
        return () if wanted == "none" else (wanted,)
    return ("linear", "vae") if model.tiny is None else ("linear", "tiny", "vae")


def _decoder(name: str, model: StableDiffusion) -> Decoder:
    if name == "vae":
        return model.decode
    if name == "linear":
        from core.previews.linear import LinearDecoder

        return LinearDecoder.of(model)
    assert name == "tiny", name
    if model.tiny is None:
        raise BadRequest(f"{model.info.name} has no tiny autoencoder: choose the linear or vae preview.", "preview")
    from core.previews.tiny import TinyDecoder

    return TinyDecoder(model.tiny)


def to_pictures(decoded: Tensor) -> tuple[np.ndarray, ...]:
    """(n, 3, H, W) in [-1, 1] -> n times (H, W, 3) uint8, rounded as diffusers does."""
    pixels = (decoded / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).mul(255).round().byte()
    return tuple(np.ascontiguousarray(p) for p in pixels.cpu().numpy())
