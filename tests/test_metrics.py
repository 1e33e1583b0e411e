"""Figures against cases whose answer is known by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.image.inception import InceptionScore

from core import metrics


def test_distance_of_latents_is_relative_to_the_reference() -> None:
    rng = np.random.default_rng(0)
    reference, other = rng.normal(size=(2, 1, 4, 64, 64)).astype(np.float32)
    assert metrics.latent_distance(reference, reference) == 0
    assert metrics.latent_distance(1.1 * reference, reference) == pytest.approx(0.1, rel=1e-5)
    assert metrics.latent_distance(other, reference) == pytest.approx(2**0.5, rel=0.02)  # unrelated, same power


def test_psnr_is_that_of_its_definition() -> None:
    reference = np.full((16, 16, 3), 100, np.uint8)
    assert metrics.psnr(reference + 5, reference) == pytest.approx(20 * np.log10(255 / 5), abs=1e-4)
    assert metrics.psnr(reference, reference) == float("inf")


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise() -> None:
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
    assert metrics.ssim(picture, picture) == pytest.approx(1, abs=1e-5)
    noisy = np.clip(picture + rng.normal(0, 20, picture.shape), 0, 255).astype(np.uint8)
    noisier = np.clip(picture + rng.normal(0, 80, picture.shape), 0, 255).astype(np.uint8)
    assert 1 > metrics.ssim(noisy, picture) > metrics.ssim(noisier, picture) > -1


def test_paths_keep_their_distances_in_the_plane_they_lie_in() -> None:
    rng = np.random.default_rng(2)
    plane = np.linalg.qr(rng.normal(size=(4 * 8 * 8, 2)))[0].T
    flat = [rng.normal(size=(12, 2)), rng.normal(size=(7, 2))]
    paths = [(points @ plane).reshape(-1, 4, 8, 8) for points in flat]
    drawn = metrics.principal_paths(paths)
    assert [d.shape for d in drawn] == [(12, 2), (7, 2)]
    whole, seen = np.concatenate(flat), np.concatenate(drawn)
    def between(p: np.ndarray) -> np.ndarray:
        return np.linalg.norm(p[:, None] - p[None], axis=-1)
    np.testing.assert_allclose(between(seen), between(whole), atol=1e-8)


# -- sets of pictures


def test_the_frechet_distance_of_known_gaussians_is_that_of_its_formula() -> None:
    """Against scipy's matrix square root of the same moments, and against the formula's value for the Gaussians
    themselves, which samples of 20,000 meet within a hundredth."""
    rng = np.random.default_rng(3)
    mix = rng.normal(size=(6, 6))
    first = rng.normal(size=(20_000, 6))
    second = rng.normal(size=(20_000, 6)) @ mix + np.arange(6) / 4

    def formula(mean: np.ndarray, cov: np.ndarray, other_mean: np.ndarray, other_cov: np.ndarray) -> float:
        root = np.real(scipy.linalg.sqrtm(cov @ other_cov))
        return float(((mean - other_mean) ** 2).sum() + np.trace(cov + other_cov - 2 * root))

    found = metrics.frechet_distance(first, second)
    assert found == pytest.approx(formula(first.mean(0), np.cov(first.T), second.mean(0), np.cov(second.T)), rel=1e-8)
    assert found == pytest.approx(formula(np.zeros(6), np.eye(6), np.arange(6) / 4, mix.T @ mix), rel=0.01)


@pytest.mark.parametrize("count", [40, 400])
def test_equal_sets_are_at_no_distance_even_where_they_have_fewer_pictures_than_features(count: int) -> None:
    features = np.random.default_rng(4).normal(size=(count, 128))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    assert metrics.frechet_distance(features, features[::-1]) < 1e-6  # of a total variance of 1: rounding
    assert metrics.frechet_distance(features, features + 0.1) == pytest.approx(128 * 0.01, rel=1e-4)  # means alone


def test_a_set_of_one_has_no_distance() -> None:
    with pytest.raises(ValueError, match="no covariance"):
        metrics.frechet_distance(np.ones((1, 4)), np.ones((5, 4)))


def test_all_classes_alike_score_their_number_and_a_single_class_scores_one() -> None:
    sure = np.eye(10)
    assert metrics.class_score(np.repeat(sure, 7, axis=0)) == pytest.approx(10)
    assert metrics.class_score(np.repeat(sure[:1], 70, axis=0)) == pytest.approx(1)
    assert metrics.class_score(np.full((70, 10), 0.1)) == pytest.approx(1)  # nothing is told apart


def test_the_class_score_is_torchmetrics_inception_score_in_one_split() -> None:
    logits = np.random.default_rng(5).normal(size=(50, 12)) * 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says what it stores, and that one split has no spread
        other = InceptionScore(feature=torch.nn.Identity(), splits=1)
        other.update(torch.from_numpy(logits))
        expected = float(other.compute()[0])
    powers = np.exp(logits)
    assert metrics.class_score(powers / powers.sum(1, keepdims=True)) == pytest.approx(expected, rel=1e-9)
