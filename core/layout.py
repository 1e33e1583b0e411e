"""Regions and windows of a Request -> weights on the latents: which prompt rules which cell, and how much.

numpy only: the page shows coverage, and what a run will cost, before any heavy import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from core import samplers
from core.errors import BadRequest
from core.masks import Box, Mask, coverage, painted
from core.models.catalogue import ModelInfo
from core.prompts.composition import Part, compose, with_words
from core.prompts.networks import Loras, joined, loras_in, without_tags
from core.refining import first_refined
from core.request import Region, Request

_LEAST_PEAK = 0.5  # a stroke thinner than a cell still rules half of some cell
_MARGIN = 2  # cells around a region that its crop holds at least; rounding up to _ALIGN adds 3 more on average
_ALIGN = 8  # cells; a noise predictor halves its input up to three times
_MIDDLE = 0.4, 0.6  # of a side: what lies between is in the centre
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
    """The region's prompt; behind it its place in words, and the request's prompt, where these are asked for.

    Windows of a panorama each see another part of the picture: there no place is said.
    """
    said = request.say_places and request.panorama == "off"
    place = place_in_words(region.shape, request.width, request.height) if said else ""
    return joined_prompt(region.prompt, place, request.prompt if request.join_prompts else "")


def joined_prompt(prompt: str, place: str = "", rest: str = "") -> str:
    """A region's prompt with its place and the prompt of the rest behind it; a place that it says already is not said
    twice."""
    if place not in prompt:
        prompt = with_words(without_tags(prompt), place)
    return f"{without_tags(prompt)}, {without_tags(rest)}" if without_tags(rest).strip() else prompt


@lru_cache(maxsize=256)  # asked for at every step
def place_in_words(shape: Mask | Box, width: int, height: int) -> str:
    """Which of nine parts of a picture the middle of a shape lies in: "on the left", "at the top right"."""
    area = painted(shape, width, height)
    if not area.any():
        return "in the centre"
    y, x = (float(places.mean() + 0.5) / side
            for places, side in zip(np.nonzero(area), (height, width), strict=True))
    side = "left" if x < _MIDDLE[0] else "right" if x > _MIDDLE[1] else ""
    level = "top" if y < _MIDDLE[0] else "bottom" if y > _MIDDLE[1] else ""
    if level:
        return f"at the {level} {side}".rstrip()
    return f"on the {side}" if side else "in the centre"


def bootstrap_steps(request: Request) -> int:
    """How many of the first steps are bootstrapped."""
    return round(request.bootstrap * request.steps) if request.regions else 0


def crop_start(request: Request) -> int:
    """The first step at which small regions look at crops; the number of steps, when they never do."""
    return round(request.crop_after * request.steps) if request.regions else request.steps


def boxes_of(part: Layout, request: Request, info: ModelInfo) -> dict[int, View]:
    """Which indices of a layout (or of a window's part of it) look at a crop, and which cells it holds.

    All cells where the index has a weight, and a margin; at least half of the model's own size a side. Only where it
    is less work, as the prompts are when the cropping begins: outside of a crop the passes of a common negative prompt
    are shared.
    """
    shape, step = part.weights.shape[1:], min(crop_start(request), request.steps - 1)
    asks = {k: prompts_of(request, k).asked(step, request.steps) for k in part.visible}
    boxes = {}
    for k in part.visible:
        used = [np.flatnonzero(part.weights[k].any(1 - axis)) for axis in (0, 1)]
        rows, columns = (span_of_crop(int(cells[0]), int(cells[-1]), length, native // info.multiple // 2)
                         for cells, length, native in zip(used, shape, (info.height, info.width), strict=True))
        alone = asks[k] - set().union(*(asks[other] for other in part.visible if other != k))
        if len(rows) * len(columns) * len(asks[k]) < shape[0] * shape[1] * len(alone):
            boxes[k] = View(rows, columns)
    return boxes


def span_of_crop(first: int, last: int, length: int, least: int) -> tuple[int, ...]:
    """The cells of one side of a crop that holds those from `first` to `last`, of a side of `length` cells."""
    first, last = first - _MARGIN, last + _MARGIN + 1
    side = max(last - first, least)
    side = min(length, -(-side // _ALIGN) * _ALIGN)
    start = min(max((first + last - side) // 2, 0), length - side)
    return tuple(range(start, start + side))


class Cost(NamedTuple):
    """evaluations: pictures through the network. work: the same, a crop counted by its share of the cells."""

    evaluations: int
    work: float


def predicted_cost(request: Request, info: ModelInfo) -> Cost:
    """What a run will cost, before it runs. Exact for every sampler.

    In bootstrapped steps each region sees a picture of its own; in the others equal questions are asked once.
    """
    entry, _ = samplers.resolve(request.sampler, request.schedule, request.steps)
    parts = parts_of(request, info)
    boxes = [boxes_of(part, request, info) for part in parts] if crop_start(request) < request.steps else []
    booted, first_crop = bootstrap_steps(request), crop_start(request)
    prompts = [prompts_of(request, k) for k in range(len(request.regions) + 1)]
    known: dict[tuple[bool, bool, tuple[frozenset[Asked], ...]], Cost] = {}
    evaluations, work = 0, 0.0
    refined = first_refined(request, info) if request.refiner and _said_twice(prompts, request.steps) else request.steps
    for step, calls in enumerate(entry.call_counts(request.steps)):
        asked = tuple(p.asked(step, request.steps, step >= refined) for p in prompts)
        kind = step < booted, step >= first_crop, asked
        if kind not in known:
            known[kind] = _cost_of_call(parts, boxes if kind[1] else [{} for _ in parts], kind[0], kind[2])
        evaluations += calls * known[kind].evaluations
        work += calls * known[kind].work
    return Cost(evaluations * request.batch, work * request.batch)


def _said_twice(prompts: Sequence[Prompts], steps: int) -> bool:
    """Whether some prompt's words are a negative prompt's too: one question to a model, two to its refiner."""
    def count(step: int, refined: bool) -> int:
        return len(frozenset[Asked]().union(*(p.asked(step, steps, refined) for p in prompts)))

    return any(count(step, True) > count(step, False) for step in range(steps))


def predicted_evaluations(request: Request, info: ModelInfo) -> int:
    """How many pictures a run will send through the network."""
    return predicted_cost(request, info).evaluations


def _cost_of_call(parts: Sequence[Layout], all_boxes: Sequence[dict[int, View]], booted: bool,
                  texts: Sequence[frozenset[Asked]]) -> Cost:
    """One call of the solver: every question that differs in what is seen, in the text or in the LoRAs."""
    evaluations, work = 0, 0.0
    for part, boxes in zip(parts, all_boxes, strict=True):
        asks: dict[tuple[int, View | None, Asked], float] = {}
        for k in part.visible:
            box = boxes.get(k)
            share = len(box.rows) * len(box.columns) / part.weights[k].size if box else 1.0
            # the background always sees the picture itself
            asks |= {(k if booted else 0, box, text): share for text in texts[k]}
        evaluations += len(asks)
        work += sum(asks.values())
    return Cost(evaluations, work)


def parts_of(request: Request, info: ModelInfo) -> list[Layout]:
    """What each window sees of the layout; without regions the background rules it all."""
    if request.regions:
        layout = layout_of(request, info.multiple)
    else:
        everything = np.ones((1, request.height // info.multiple, request.width // info.multiple), np.float32)
        layout = Layout(everything, everything)
    return [layout.crop(view) for view in views_of(request, info)]


Asked = tuple[str, Loras, bool]  # what tells questions of the same picture apart; bool: the words are negative


class Prompts(NamedTuple):
    """What rules an index of the layout. scale: how much the prompt weighs against the negative one, for this sampler;
    both: whether the network is asked with the negative one too."""

    prompt: str
    negative: str
    scale: float
    both: bool
    loras: Loras = ()  # what the network is changed by, asked with the prompt or without

    def at(self, step: int, steps: int) -> tuple[tuple[Part, ...], str]:
        """The texts of a step, from 0: those that are joined by AND, and the negative one. steps: the request's."""
        ((negative, _),) = compose(self.negative, joined=False).at(step, steps)
        return compose(self.prompt).at(step, steps), negative

    def asked(self, step: int, steps: int, refined: bool = False) -> frozenset[Asked]:
        """What the network is asked with at a step. refined: it is a refiner, which is told what is negative."""
        parts, negative = self.at(step, steps)
        return frozenset([*((part.text, self.loras, False) for part in parts),
                          *[(negative, self.loras, refined)] * self.both])


def prompts_of(request: Request, k: int) -> Prompts:
    """Those of index k of the layout; 0 is the background."""
    entry = samplers.SAMPLERS[request.sampler]
    prompt, negative, guidance = request.prompt, request.negative_prompt, request.guidance
    loras = loras_of(request, k)
    if k:
        region = request.regions[k - 1]
        prompt, negative = full_prompt(region, request), region.negative_prompt or negative
        guidance = guidance if region.guidance is None else region.guidance
    scale = guidance / entry.guidance_divisor
    weights = sum(weight for _, weight in compose(prompt).parts)
    return Prompts(prompt, negative, scale, abs(scale * weights - 1) > 1e-9 or entry.needs_unguided, loras)


def loras_of(request: Request, k: int) -> Loras:
    """Those that index k of the layout is asked with: the whole picture's, and a region's own."""
    return joined(loras_in(request.prompt), loras_in(request.regions[k - 1].prompt) if k else ())


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
