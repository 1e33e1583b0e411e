"""The algebra of predictors: (x, t) -> model output. They nest; samplers see only the outermost.

x: (1, C, h, w) float32, scaled for the network. t: scalar tensor. Outputs are float32, shaped like x,
in the model's own prediction type (epsilon, v or sample).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Predictor = Callable[[Tensor, Tensor], Tensor]


class Network(Protocol):
    """The noise predictor of a model: one batched pass.

    latents: (n, C, h, w). timestep: scalar. text: (n, tokens, width). Returns (n, C, h, w) float32.
    """

    def __call__(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor: ...


class Counter:
    """A network that counts: one evaluation is one picture going through once."""

    def __init__(self, network: Network):
        self.network, self.evaluations = network, 0

    def __call__(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        self.evaluations += len(latents)
        return self.network(latents, timestep, text)


def conditioned(network: Network, text: Tensor) -> Predictor:
    """The network under one prompt. text: (1, tokens, width). One evaluation a call."""
    return lambda x, t: network(x, t, text)


def guided(network: Network, text: Tensor, negative: Tensor, scale: float) -> Predictor:
    """Classifier-free guidance: away from `negative`, towards `text`, `scale` times as far. Two evaluations, one pass.

    scale 1 is the prompt alone and costs one evaluation.
    Source: Ho & Salimans 2022, arXiv:2207.12598, in the form w = scale of Imagen, as in diffusers.
    """
    if scale == 1:
        return conditioned(network, text)
    both = torch.cat([negative, text])

    def predict(x: Tensor, t: Tensor) -> Tensor:
        away, towards = network(torch.cat([x, x]), t, both).chunk(2)
        return away + scale * (towards - away)

    return predict


def clean_estimate(x: Tensor, output: Tensor, sigma: float, prediction: str) -> Tensor:
    """x0: the clean latents the network believes in. The one place for every sampler and prediction type.

    x: what the network saw, sqrt(a) x0 + sqrt(1 - a) noise. sigma: sqrt(1 - a) / sqrt(a).
    prediction: "epsilon", "v_prediction" (Salimans & Ho 2022, arXiv:2202.00512) or "sample".
    """
    signal = 1 / (1 + sigma**2) ** 0.5  # sqrt(a)
    noise = sigma * signal  # sqrt(1 - a)
    if prediction == "sample":
        return output
    if prediction == "v_prediction":
        return signal * x - noise * output
    assert prediction == "epsilon", prediction
    return (x - noise * output) / signal


def as_epsilon(x: Tensor, x0: Tensor, sigma: float) -> Tensor:
    """The noise that, with x0, makes x: for solvers that do not know the model's prediction type."""
    signal = 1 / (1 + sigma**2) ** 0.5
    return (x - signal * x0) / (sigma * signal)
