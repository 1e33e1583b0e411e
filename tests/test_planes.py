"""The paths of x0 in their main plane."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from core.planes import ACROSS, POINTS, coarse, kept_steps, of_groups, plane_of


class Run:
    """As much of a trajectory as a plane needs."""

    def __init__(self, points: np.ndarray):
        self._points, self.taken = points, len(points)

    def x0(self, k: int) -> np.ndarray:
        return self._points[k][None]


def runs(*clouds: np.ndarray) -> list[tuple[int, Any]]:
    return [(k, Run(cloud)) for k, cloud in enumerate(clouds)]


def test_paths_in_a_plane_are_seen_as_they_are_and_it_holds_everything() -> None:
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(4 * 8 * 8, 2)))[0].T
    flat = [rng.normal(size=(9, 2)), rng.normal(size=(5, 2)), rng.normal(size=(2, 2))]
    plane = plane_of(runs(*((points @ axes).reshape(-1, 4, 8, 8).astype(np.float32) for points in flat)))
    assert plane and plane.share == pytest.approx(1, abs=1e-5)
    assert [(path.cell, path.steps) for path in plane.paths] == [
        (0, tuple(range(1, 9))), (1, (1, 2, 3, 4)), (2, (0, 1))]  # the first step, which all share, is left out
    def lengths(points: np.ndarray) -> np.ndarray:
        return np.linalg.norm(np.diff(points, axis=0), axis=1)
    for path, points in zip(plane.paths, flat, strict=True):  # float32 came in
        np.testing.assert_allclose(16 * lengths(path.places), lengths(points[list(path.steps)]), rtol=1e-5)


def test_the_share_is_that_of_the_two_largest_singular_values() -> None:
    rng = np.random.default_rng(1)
    clouds = [rng.normal(size=(6, 4, 8, 8)).astype(np.float32) for _ in range(3)]
    points = np.concatenate([cloud[1:] for cloud in clouds]).reshape(15, -1).astype(np.float64)
    values = np.linalg.svd(points - points.mean(0), compute_uv=False) ** 2
    plane = plane_of(runs(*clouds))
    assert plane and plane.share == pytest.approx(values[:2].sum() / values.sum(), rel=1e-9)


def test_long_runs_are_thinned_evenly_with_their_ends() -> None:
    assert kept_steps(5, 9) == (0, 1, 2, 3, 4)
    assert kept_steps(101, 5) == (0, 25, 50, 75, 100)
    assert kept_steps(101, 5, 1) == (1, 26, 50, 75, 100)
    assert kept_steps(50, 1) == (0, 49) and kept_steps(1, 7) == (0,) and kept_steps(0, 7) == ()


def test_memory_is_bounded_whatever_the_size_and_the_number_of_runs() -> None:
    assert coarse(np.ones((4, 512, 64), np.float32)).shape == (4, ACROSS, 8)
    assert coarse(np.ones((4, 32, 32), np.float32)).shape == (4, 32, 32)
    assert coarse(np.ones((4, 65, 130), np.float32)).shape == (4, 21, 43)
    many = runs(*(np.random.default_rng(k).normal(size=(60, 1, 2, 2)).astype(np.float32) for k in range(40)))
    plane = plane_of(many)
    assert plane and sum(len(path.steps) for path in plane.paths) <= POINTS
    planes = of_groups([[run] for run in many])
    assert len(planes) == 40 and sum(len(path.steps) for p in planes for path in p.paths) <= 4 * POINTS


def test_where_nothing_differs_there_is_no_plane() -> None:
    assert plane_of(runs(np.ones((5, 4, 2, 2), np.float32))) is None
    assert plane_of(runs(np.zeros((1, 4, 2, 2), np.float32), np.ones((1, 4, 2, 2), np.float32))) is None
    assert of_groups([]) == []
