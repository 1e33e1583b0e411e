"""Figures about pictures and latents: pure functions. What a library measures well is left to it (torchmetrics)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def latent_distance(latents: np.ndarray, reference: np.ndarray) -> float:
    """Root mean square of the difference over that of the reference: 0 equal, about 1.4 unrelated. Shapes equal."""
    wanted = reference.astype(np.float64)
    size, error = np.square(wanted).mean(), np.square(latents - wanted).mean()
    if size == 0:
        return float("inf") if error else 0.0
    return float(np.sqrt(error / size))


def psnr(picture: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in decibels of two (H, W, 3) uint8; infinite for equal ones."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    if np.array_equal(picture, reference):
        return float("inf")
    return float(peak_signal_noise_ratio(_batch([picture]).float(), _batch([reference]).float(), data_range=255.0))


def ssim(picture: np.ndarray, reference: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004) of two (H, W, 3) uint8: 1 for equal ones."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    found = structural_similarity_index_measure(_batch([picture]).float(), _batch([reference]).float(),
                                                data_range=255.0)
    return float(found)  # type: ignore[arg-type]


def principal_paths(paths: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Runs as curves in the plane in which they differ most. paths: each (steps, ...) -> each (steps, 2).

    The plane is spanned by the two main directions (largest singular vectors) of all points around their mean.
    """
    flat = [np.asarray(path, np.float64).reshape(len(path), -1) for path in paths]
    points = np.concatenate(flat)
    middle = points.mean(0)
    # the directions live in the span of the points: a small Gram matrix instead of one of all latents' numbers
    centred = points - middle
    values, vectors = np.linalg.eigh(centred @ centred.T)
    places = vectors[:, ::-1][:, :2] * np.sqrt(np.clip(values[::-1][:2], 0, None))
    ends = np.cumsum([len(path) for path in flat])
    return np.split(places, ends[:-1])


def _batch(pictures: Sequence[np.ndarray]):  # type: ignore[no-untyped-def]
    """(H, W, 3) uint8 each -> a (n, 3, H, W) uint8 tensor."""
    import torch

    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
