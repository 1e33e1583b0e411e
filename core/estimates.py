"""What the network's output says of the picture: x0 and the noise in it, the one place for every sampler.

Plain arithmetic, for torch tensors (in the engine) and numpy arrays (in the page, which has no torch) alike.
"""

from __future__ import annotations

from typing import Any, TypeVar

A = TypeVar("A", bound=Any)  # a torch tensor or a numpy array


def clean_estimate(x: A, output: A, sigma: float, prediction: str) -> A:
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


def as_epsilon(x: A, x0: A, sigma: float) -> A:
    """The noise that, with x0, makes x: for solvers that do not know the model's prediction type."""
    signal = 1 / (1 + sigma**2) ** 0.5
    return (x - signal * x0) / (sigma * signal)
