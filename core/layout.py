"""Regions and windows of a Request -> weights on the latents: which prompt rules which cell, and how much.

numpy only: the page shows coverage, and what a run will cost, before any heavy import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core import samplers
from core.errors import BadRequest
from core.masks import coverage, painted
from core.models.catalogue import ModelInfo
from core.request import Region, Request

_LEAST_PEAK = 0.5  # a stroke thinner than a cell still rules half of some cell
_NOTHING = 1e-4  # below this share everywhere a region or the background cannot be seen, and costs no passes


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each region rules. Index 0 is the background, k the request's region k - 1.

    weights: (K + 1, h, w) float32, >= 0, summing to 1 in every cell. masks: (K + 1, h, w) in 0..1, each region's own
    shape whatever covers it.
    """

    weights: np.ndarray
    masks: np.ndarray

    @property
    def visible(self) -> list[int]:
        """Indices that rule some cell; the others need no passes."""
        return [k for k, weight in enumerate(self.weights) if weight.max() > _NOTHING]

    @property
    def hidden(self) -> list[int]:
        """Indices of regions (not the background) that rule no cell."""
        return [k for k in range(1, len(self.weights)) if k not in self.visible]

    @property
    def uncovered(self) -> float:
        """Share of the picture, 0..1, that the background rules."""
        return float(self.weights[0].mean())

    def crop(self, view: View) -> Layout:
        """The part of it that a window sees."""
        cells = np.ix_(range(len(self.weights)), view.rows, view.columns)
        return Layout(self.weights[cells], self.masks[cells])


@dataclass(frozen=True)
class View:
    """A window onto the latents, by the indices of its cells; a wrapped window runs over the edge."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]


def views_of(request: Request, info: ModelInfo) -> list[View]:
    """The windows of a panorama, of the model's own size; one view of everything where there is none.

    Every cell lies in at least one window, at any size: the last window ends at the edge.
    Raises BadRequest for a stride that is no multiple of a latent cell, or leaves gaps.
    """
    height, width = request.height // info.multiple, request.width // info.multiple
    if request.panorama == "off":
        return [View(tuple(range(height)), tuple(range(width)))]
    side = min(info.width, info.height)
    if request.stride % info.multiple or request.stride > side:
        raise BadRequest(f"A stride of {request.stride} pixels does not fit windows of {info.width}x{info.height}: "
                         f"take a multiple of {info.multiple}, at most {side}.", "stride")
    stride = request.stride // info.multiple
    rows = _spans(height, info.height // info.multiple, stride, wrap=False)
    columns = _spans(width, info.width // info.multiple, stride, wrap=request.wrap)
    return [View(r, c) for r in rows for c in columns]


def _spans(length: int, window: int, stride: int, wrap: bool) -> list[tuple[int, ...]]:
    if length <= window:
        return [tuple(range(length))]
    if wrap:
        starts = list(range(0, length, stride))
    else:
        starts = list(range(0, length - window, stride)) + [length - window]
    return [tuple(i % length for i in range(start, start + window)) for start in starts]


def window_weights(views: Sequence[View], shape: tuple[int, int], smooth: bool) -> list[np.ndarray]:
    """Each view's share (rows, columns) of the cells it sees; over all views they sum to 1 in every cell of `shape`.

    smooth: highest in the window's middle (raised cosine), so that no seam shows; else equal shares.
    """
    shares = [_bump(len(v.rows), smooth)[:, None] * _bump(len(v.columns), smooth)[None, :] for v in views]
    total = np.zeros(shape)
    for view, share in zip(views, shares, strict=True):
        np.add.at(total, np.ix_(view.rows, view.columns), share)
    return [(share / total[np.ix_(view.rows, view.columns)]).astype(np.float32)
            for view, share in zip(views, shares, strict=True)]


def _bump(count: int, smooth: bool) -> np.ndarray:
    if not smooth:
        return np.ones(count)
    return 0.02 + np.sin(np.pi * (np.arange(count) + 0.5) / count) ** 2  # never 0: a cell may lie in one window only


def layout_of(request: Request, factor: int) -> Layout:
    """factor: pixels per latent cell and side.

    masks="area": area average, later regions over earlier ones, feathered, a thin stroke survives.
    masks="paper": as in MultiDiffusion's published code: threshold 0.5, nearest, overlaps averaged, background = rest.
    """
    shape = (request.width, request.height, factor)
    masks = [_paper(r, *shape) if request.masks == "paper" else _area(r, *shape) for r in request.regions]
    weights = _averaged(masks) if request.masks == "paper" else _painters_order(masks)
    strength = np.array([1.0, *(r.weight for r in request.regions)], np.float32)[:, None, None]
    weights = weights * strength
    weights[weights.max((1, 2)) <= _NOTHING] = 0
    weights /= weights.sum(0)
    return Layout(weights.astype(np.float32), np.stack([np.ones_like(weights[0]), *masks]).astype(np.float32))


def full_prompt(region: Region, request: Request) -> str:
    """The region's prompt, with the request's behind it when they are to be joined."""
    join = request.join_prompts and request.prompt.strip()
    return f"{region.prompt}, {request.prompt}" if join else region.prompt


def bootstrap_steps(request: Request) -> int:
    """How many of the first steps are bootstrapped."""
    return round(request.bootstrap * request.steps) if request.regions else 0


def predicted_evaluations(request: Request, info: ModelInfo) -> int:
    """What a run will cost, before it runs: passes of one picture through the network. Exact for every sampler.

    In bootstrapped steps each region sees a picture of its own; in the others equal negative prompts are asked once.
    """
    entry, _ = samplers.resolve(request.sampler, request.schedule, request.steps)
    calls = entry.call_counts(request.steps)
    first = bootstrap_steps(request)
    apart = shared = 0
    for visible in visible_by_view(request, info):
        asks = [_asks(request, k) for k in visible]
        shared += len(set().union(*asks))
        # the background always sees the picture itself; equal questions of one region are one
        apart += sum(len(ask) for ask in asks)
    return (sum(calls[:first]) * apart + sum(calls[first:]) * shared) * request.batch


def visible_by_view(request: Request, info: ModelInfo) -> list[list[int]]:
    """For each window the indices of the layout that rule some cell of it."""
    views = views_of(request, info)
    if not request.regions:
        return [[0]] * len(views)
    layout = layout_of(request, info.multiple)
    return [layout.crop(view).visible for view in views]


def prompts_of(request: Request, k: int) -> tuple[str, str, float]:
    """Prompt, negative prompt and guidance that rule index k of the layout; 0 is the background."""
    if k == 0:
        return request.prompt, request.negative_prompt, request.guidance
    region = request.regions[k - 1]
    guidance = request.guidance if region.guidance is None else region.guidance
    return full_prompt(region, request), region.negative_prompt or request.negative_prompt, guidance


def _asks(request: Request, k: int) -> set[str]:
    """The texts the network is asked with for index k."""
    prompt, negative, guidance = prompts_of(request, k)
    return {prompt} if guidance == 1 else {prompt, negative}


def _area(region: Region, width: int, height: int, factor: int) -> np.ndarray:
    mask = coverage(region.shape, width, height, factor)
    peak = float(mask.max())
    if 0 < peak < _LEAST_PEAK:
        mask = mask * (_LEAST_PEAK / peak)
    if region.feather:
        from scipy.ndimage import gaussian_filter  # slow to import, and few masks are feathered

        mask = gaussian_filter(mask, region.feather / factor, mode="nearest")
    return mask.clip(0, 1)


def _paper(region: Region, width: int, height: int, factor: int) -> np.ndarray:
    """As torch's nearest interpolation: the pixel at the cell's upper left corner decides."""
    return painted(region.shape, width, height)[::factor, ::factor].astype(np.float32)


def _painters_order(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Later masks over earlier ones, the background gets what is left."""
    left = np.ones_like(masks[0])
    weights = []
    for mask in reversed(masks):
        weights.append(mask * left)
        left = left * (1 - mask)
    return np.stack([left, *reversed(weights)])


def _averaged(masks: Sequence[np.ndarray]) -> np.ndarray:
    total = np.sum(masks, axis=0)
    background = (total == 0).astype(np.float32)
    return np.stack([background, *masks]) / np.maximum(total, 1)
