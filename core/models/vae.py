"""Decoding and encoding that never end in a black picture: what overflows in fp16 is done again in float32."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from core.models.thrift import Thrift

log = logging.getLogger(__name__)


class HasVae(Protocol):
    vae: Any  # an AutoencoderKL
    thrift: Thrift


def finite(model: HasVae, ask: Callable[[Any, Tensor], Tensor], x: Tensor, name: str) -> Tensor:
    """What the model's VAE answers, float32. ask(vae, x): x in the VAE's precision, on its device.

    Once fp16 has overflowed, the model goes on with a float32 VAE, and the log is told.
    """
    vae = model.vae  # a preview's thread may ask while another replaces it
    device = model.thrift.device  # that of the VAE too, when its turn comes
    answer = ask(vae, x.to(device, vae.dtype)).float()
    if vae.dtype != torch.float16 or bool(torch.isfinite(answer).all()):
        return answer
    if model.vae is vae:
        log.warning("The VAE of %s overflows in fp16: it goes on in float32, which needs more memory.", name)
        model.vae = model.thrift.upcast(vae)
    return ask(model.vae, x.to(device, torch.float32)).float()
