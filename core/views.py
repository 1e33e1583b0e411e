"""A step of a run -> what people can look at: pictures, numbers, and what to say of it. numpy only; the caller decodes.

Sizes of change are relative: |a - b| / |a|, over all channels and cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from core.errors import BadRequest
from core.registry import Registry
from core.trajectory import Trajectory

Decode = Callable[[np.ndarray], np.ndarray]  # (1, C, h, w) latents -> (H, W, 3) uint8

COARSE = 8  # cells a side of the grid that stands for the layout
# A change of the estimate per halving of the noise, which does not hang on how many steps a run has. The bounds were
# read off runs of Storybook with DPM++ 2M, Euler a and DDIM of 8, 20 and 40 steps, beside their pictures.
DECIDING, SETTLED = 0.6, 0.25  # of the layout
DRAWING, FINISHING = 0.25, 0.08  # of what is finer than the layout
_LEAST_NOISE = 0.01  # sigma below which noise is no longer counted in halvings
_LEAST_HALVING = 0.05  # of the noise, so that two steps at one sigma do not divide by nothing

# Dark to light in every printer's grey as well. Source: five points of matplotlib's "inferno".
_HEAT = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], np.float32)


@dataclass(frozen=True)
class Told:
    """Something to say to people. name: of the text, which the page has in its languages."""

    name: str
    values: dict[str, str] = field(default_factory=dict)  # that the text holds


@dataclass(frozen=True, eq=False)
class Picture:
    label: Told | str  # str: a name that somebody gave
    pixels: np.ndarray  # (H, W, 3) uint8


@dataclass(frozen=True, eq=False)
class Seen:
    """What a view shows of one step. words: what it is, with its scale."""

    pictures: tuple[Picture, ...]
    words: Told


@dataclass(frozen=True)
class Numbers:
    """Of one step. None where there is nothing to compare with."""

    sigma: float
    milliseconds: float  # of this step; of the first one with all that comes before it
    change: float | None  # of x0 since the last step
    layout: float | None  # change of its layout, per halving of the noise
    detail: float | None  # change of what is finer, per halving of the noise
    guidance: float | None  # distance from the unguided x0 to the guided one


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """|a - b| / |a|; 0 for two that are nothing."""
    size = float(np.linalg.norm(a))
    distance = float(np.linalg.norm(a - b))
    return distance / size if size else math.inf if distance else 0.0


def layout(latents: np.ndarray) -> np.ndarray:
    """(B, C, h, w) averaged over blocks, at the same size: what is left when squinting."""
    height, width = latents.shape[2:]
    block = max(1, math.ceil(max(height, width) / COARSE))
    rows, columns = -(-height // block), -(-width // block)
    edges = (0, rows * block - height), (0, columns * block - width)
    whole = np.pad(latents, ((0, 0), (0, 0), *edges), mode="edge")
    means = whole.reshape(*latents.shape[:2], rows, block, columns, block).mean((3, 5))
    return means.repeat(block, 2).repeat(block, 3)[:, :, :height, :width]


def numbers(run: Trajectory, k: int) -> Numbers:
    """The numbers of step k (from 0), over all pictures of a batch."""
    step, x0, unguided = run.steps[k], run.x0(k), run.unguided_x0(k)
    distance = None if unguided is None else relative(x0, unguided)
    if k == 0:
        return Numbers(step.sigma, 1000 * step.seconds, None, None, None, distance)
    before, previous = run.steps[k - 1], run.x0(k - 1)
    noise = [max(sigma, _LEAST_NOISE) for sigma in (before.sigma, step.sigma)]
    halvings = max(math.log2(noise[0] / noise[1]), _LEAST_HALVING)
    now, then = layout(x0), layout(previous)
    return Numbers(step.sigma, 1000 * max(step.seconds - before.seconds, 0), relative(x0, previous),
                   relative(now, then) / halvings, relative(x0 - now, previous - then) / halvings, distance)


def travelled(run: Trajectory) -> list[float]:
    """For each step of a run that is over, the share (0..1) of x0's whole way that lies behind it."""
    path = [0.0]
    for k in range(1, run.taken):
        path.append(path[-1] + float(np.linalg.norm(run.x0(k) - run.x0(k - 1))))
    return [way / path[-1] if path[-1] else 1.0 for way in path]


def phase(seen: Numbers, total: int, bootstrapping: bool = False) -> Told:
    """What the network is at in a step."""
    if bootstrapping:
        return Told("bootstrapping")
    if seen.layout is None or seen.detail is None:
        return Told("first", {"noise": share(_noise_share(seen.sigma))}) if total > 1 else Told("only")
    if seen.layout >= DECIDING:
        return Told("deciding")
    if seen.layout >= SETTLED:
        return Told("settling")
    if seen.detail >= DRAWING:
        return Told("drawing")
    return Told("finishing" if seen.detail >= FINISHING else "finished")


def progress(seen: Numbers, way: float | None = None) -> Told | None:
    """How far x0 went in a step; None where there is nothing to compare with. way: as in `travelled`, once the run is
    over."""
    if seen.change is None:
        return None
    if way is None:
        return Told("changed", {"change": share(seen.change)})
    return Told("changed-of", {"change": share(seen.change), "way": share(way)})


# -- views: what can be looked at beside x_t and x0


def channels(latents: np.ndarray, enlarge: int = 1) -> tuple[list[np.ndarray], float]:
    """(C, h, w) -> a grey picture of each channel, all on one scale, and that scale: black is -scale, white +scale."""
    scale = max(math.ceil(2 * float(np.abs(latents).max())) / 2, 0.5)  # by halves, so that it does not flicker
    grey = np.clip(127.5 + 127.5 * latents / scale, 0, 255).round().astype(np.uint8)
    return [_enlarged(np.repeat(g[..., None], 3, 2), enlarge) for g in grey], scale


def heat(change: np.ndarray, scale: float, enlarge: int = 1) -> np.ndarray:
    """(h, w) >= 0 -> (H, W, 3) uint8, black at 0, light yellow at `scale` and above."""
    at = np.clip(change / scale if scale else np.zeros_like(change), 0, 1) * (len(_HEAT) - 1)
    low = np.minimum(at.astype(int), len(_HEAT) - 2)
    part = (at - low)[..., None]
    return _enlarged((_HEAT[low] * (1 - part) + _HEAT[low + 1] * part).round().astype(np.uint8), enlarge)


def _channels(run: Trajectory, k: int, picture: int, decode: Decode) -> Seen:
    x0, x_t = run.x0(k)[picture], run.x_t(k)[picture]
    made: list[Picture] = []
    scales = []
    for name, latents in (("x_t", x_t), ("x0", x0)):
        grey, scale = channels(latents, _factor(run, latents))
        scales.append(scale)
        made += [Picture(Told("channel", {"name": name, "number": str(c + 1)}), pixels)
                 for c, pixels in enumerate(grey)]
    return Seen(tuple(made), Told("channels", {"side": str(_factor(run, x0)), "noisy": f"{scales[0]:g}",
                                               "clean": f"{scales[1]:g}"}))


def _noise(run: Trajectory, k: int, picture: int, decode: Decode) -> Seen:
    noise = run.noise(k)[picture]
    grey, scale = channels(noise, _factor(run, noise))
    channel = [Picture(Told("noise-channel", {"number": str(c + 1)}), pixels) for c, pixels in enumerate(grey)]
    return Seen((Picture(Told("noise-decoded"), decode(noise[None])), *channel),
                Told("noise", {"spread": f"{float(noise.std()):.2f}", "scale": f"{scale:g}"}))


def _guidance(run: Trajectory, k: int, picture: int, decode: Decode) -> Seen:
    unguided = run.unguided_x0(k)
    if unguided is None:
        raise BadRequest("This run keeps no unguided estimate: at guidance 1, in windows and with several prompts "
                         "there is none.")
    guided, free = run.x0(k)[picture], unguided[picture]
    return Seen((Picture(Told("guided"), decode(guided[None])), Picture(Told("unguided"), decode(free[None])),
                 _map("pulls", run, guided, free)),
                Told("guidance", {"share": share(relative(guided, free)), "peak": f"{_peak(guided, free):.2f}"}))


def _change(run: Trajectory, k: int, picture: int, decode: Decode) -> Seen:
    if k == 0:
        raise BadRequest("Nothing comes before this step: choose a later one.")
    now, then = run.x0(k)[picture], run.x0(k - 1)[picture]
    before, after = (Picture(Told("x0-at", {"step": str(step)}), decode(x0[None]))
                     for step, x0 in ((k, then), (k + 1, now)))
    return Seen((before, after, _map("changes", run, now, then)),
                Told("change", {"step": str(k), "peak": f"{_peak(now, then):.2f}"}))


def _regions(run: Trajectory, k: int, picture: int, decode: Decode) -> Seen:
    own = run.regions_x0(k)
    if not own:
        raise BadRequest("This step keeps no estimates of regions: paint them in the Regions tab; panoramas have none.")
    names: list[Told | str] = [Told("rest"), *(region.name for region in run.request.regions)]
    return Seen(tuple(Picture(names[number], decode(own[number][picture:picture + 1])) for number in sorted(own)),
                Told("regions"))


VIEWS: Registry[Callable[[Trajectory, int, int, Decode], Seen]] = Registry("view")  # run, step from 0, picture, decode
VIEWS.add("channels", _channels)
VIEWS.add("noise", _noise)
VIEWS.add("guidance", _guidance)
VIEWS.add("change", _change)
VIEWS.add("regions", _regions)


def look(name: str, run: Trajectory, k: int, picture: int, decode: Decode) -> Seen:
    """A view of step k (from 0). Raises BadRequest for an unknown view, a step that is not there, a view it lacks."""
    view = VIEWS[name]
    check_step(run, k, picture)
    return view(run, k, picture, decode)


def check_step(run: Trajectory, k: int, picture: int = 0) -> None:
    """Raises BadRequest for a step or picture that the run does not have (yet)."""
    if not 0 <= k < run.taken:
        raise BadRequest(f"This run has no step {k + 1}: it has {run.taken} of {run.total}.")
    if not 0 <= picture < run.request.batch:
        raise BadRequest(f"This run has no picture {picture + 1}: it has {run.request.batch}.")


def _map(label: str, run: Trajectory, a: np.ndarray, b: np.ndarray) -> Picture:
    cells = np.sqrt(((a - b) ** 2).mean(0))
    return Picture(Told(label), heat(cells, float(cells.max()), _factor(run, a)))


def _peak(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(((a - b) ** 2).mean(0)).max())


def _factor(run: Trajectory, latents: np.ndarray) -> int:
    return max(1, run.request.height // latents.shape[-2])


def _enlarged(pixels: np.ndarray, factor: int) -> np.ndarray:
    return pixels.repeat(factor, 0).repeat(factor, 1)


def _noise_share(sigma: float) -> float:
    """The share of x_t's variance that is noise: sigma is the ratio of noise to signal."""
    return sigma**2 / (1 + sigma**2)


def share(part: float) -> str:
    """As a percentage, with a decimal where it matters."""
    percent = 100 * part
    return f"{percent:.1f} %" if 0 < percent < 9.95 or 99 < percent < 99.95 else f"{percent:.0f} %"
