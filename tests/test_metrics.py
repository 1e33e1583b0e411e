"""Figures against cases whose answer is known by hand."""

from __future__ import annotations

import numpy as np
import pytest

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
