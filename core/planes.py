"""The paths of a comparison's runs: x0 of every step, in the plane in which the runs differ most.

x0, not x_t: all x_t of a seed begin as the same noise and spend most of their way losing it, which looks alike for
every sampler. What the network believes the picture to be shows where the samplers part, and whether they meet again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core import metrics
from core.trajectory import Trajectory

# Together they bound a plane's memory: 512 x 16,384 float32 are 32 MB, a few copies of that while it is computed.
POINTS = 512  # steps of all its runs
ACROSS = 64  # latent cells of a side, at most; larger latents are averaged
LEAST = 3  # points, fewer lie in every plane
# Steps at the beginning that are left out: under guidance the first x0 lies far off, and all samplers share it, so that
# it would stretch the plane along the one direction in which they do not differ.
SHARED = 1


@dataclass(frozen=True)
class Path:
    """One run. steps: which ones are shown, from 0. places: (n, 2), in the root mean square of a latent's number."""

    cell: int  # from 0; -1: a reference
    steps: tuple[int, ...]
    places: np.ndarray


@dataclass(frozen=True)
class Plane:
    """Runs that began alike. share: of the variance of all their points that the plane holds, 0 to 1."""

    paths: tuple[Path, ...]
    share: float


def plane_of(runs: Sequence[tuple[int, Trajectory]], points: int = POINTS) -> Plane | None:
    """The plane of (cell, run) pairs that share prompt, seed and size; None where there is nothing to see.

    Of runs that have more steps than there is room for, steps are left out evenly; first and last stay.
    Raises TrajectoryError.
    """
    room = max(2, points // max(len(runs), 1))
    steps = [kept_steps(run.taken, room, SHARED if run.taken > SHARED + 1 else 0) for _, run in runs]
    if sum(map(len, steps)) < LEAST:
        return None
    clouds = [np.stack([coarse(run.x0(k)[0]) for k in chosen]) for (_, run), chosen in zip(runs, steps, strict=True)]
    spread = _spread(clouds)
    if spread == 0:
        return None
    places = metrics.principal_paths(clouds)
    share = sum(float(np.square(place).sum()) for place in places) / spread
    size = clouds[0][0].size ** 0.5
    return Plane(tuple(Path(cell, chosen, place / size)
                       for (cell, _), chosen, place in zip(runs, steps, places, strict=True)), min(share, 1.0))


def kept_steps(taken: int, room: int, first: int = 0) -> tuple[int, ...]:
    """At most `room` (2 at least) of the steps first .. taken - 1, evenly, with the first and the last."""
    count = min(taken - first, max(room, 2))
    return tuple(dict.fromkeys(round(float(k)) for k in np.linspace(first, taken - 1, count))) if count > 0 else ()


def coarse(latents: np.ndarray) -> np.ndarray:
    """(C, h, w) -> float32 with sides of ACROSS at most, by averaging squares; what is left over at an edge goes."""
    by = -(-max(latents.shape[1:]) // ACROSS)
    if by == 1:
        return latents.astype(np.float32)
    channels, height, width = latents.shape
    by = min(by, height, width)
    cut = latents[:, :height // by * by, :width // by * by]
    return cut.reshape(channels, height // by, by, width // by, by).mean((2, 4), dtype=np.float32)


def of_groups(groups: Sequence[Sequence[tuple[int, Trajectory]]]) -> list[Plane]:
    """A plane for each group of (cell, run) pairs, with about POINTS points a group and 4 * POINTS together at most."""
    room = min(POINTS, 4 * POINTS // max(len(groups), 1))
    return [plane for runs in groups if (plane := plane_of(runs, room))]


def _spread(clouds: Sequence[np.ndarray]) -> float:
    """Sum of squared distances of all points from their mean."""
    count = sum(map(len, clouds))
    middle = sum((cloud.sum(0, dtype=np.float64) for cloud in clouds), np.zeros(clouds[0].shape[1:])) / count
    return sum(float(np.square(point - middle).sum()) for cloud in clouds for point in cloud)
