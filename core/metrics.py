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


def frechet_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """Between two sets of pictures' features, (n, d) and (m, d), each taken for a Gaussian: 0 for equal sets.

    With n or m below d + 1 a covariance lacks rank, and the distance of two sets of the same kind falls as 1/n: only
    values over equally many pictures can be laid side by side.
    Source: FID, Heusel et al. 2017, arXiv:1706.08500, by torchmetrics, whose network is left out: features go in as
    they are, in float64. What it is called hangs on whose features they are.
    Raises ValueError for sets of one.
    """
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance

    if min(len(features), len(reference)) < 2:
        raise ValueError("a set of one has no covariance")

    class AsTheyAre(torch.nn.Identity):
        num_features = features.shape[1]

    distance = FrechetInceptionDistance(feature=AsTheyAre())
    for values, real in ((reference, True), (features, False)):
        distance.update(torch.from_numpy(np.ascontiguousarray(values, np.float64)), real=real)
    return max(0.0, float(distance.compute()))  # rounding leaves equal sets at +-1e-7


def class_score(probabilities: np.ndarray) -> float:
    """How surely each picture shows one class, and how many classes all of them show: 1 (worst) to the number of
    classes. probabilities: (n, classes), rows summing to 1. At most n, and too low for few pictures.

    Source: Inception Score, Salimans et al. 2016, arXiv:1606.03498, eq. in section 4, in one split: exp of the mean
    Kullback-Leibler divergence from the mean. Not torchmetrics': that shuffles by the global generator.
    """
    p = np.maximum(np.asarray(probabilities, np.float64), 1e-30)
    return float(np.exp((p * (np.log(p) - np.log(p.mean(0)))).sum(1).mean()))


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
