"""Styles: what turns a flat picture into a watercolour, a pencil sketch, pixel art or an oil painting in swirls."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

Array = np.ndarray  # (h, w, 3) float32, 0..255


def _smooth_noise(rng: np.random.Generator, size: int, cell: int) -> Array:
    """(size, size) noise in about -1..1 whose features are `cell` pixels wide."""
    coarse = rng.normal(size=(size // cell + 2, size // cell + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse, "F").resize((size, size), Image.Resampling.BICUBIC))


def _pull(picture: Array, dx: Array, dy: Array) -> Array:
    """The picture read at displaced places (nearest pixel, clamped at the edges)."""
    h, w = dx.shape
    y, x = np.mgrid[0:h, 0:w]
    return picture[np.clip((y + dy).round().astype(int), 0, h - 1), np.clip((x + dx).round().astype(int), 0, w - 1)]


def watercolour(picture: Array, rng: np.random.Generator) -> Array:
    """Wobbling edges, soft washes, pigment gathered at the edges, paper showing through."""
    size = picture.shape[0]
    wobbled = _pull(picture, 1.7 * _smooth_noise(rng, size, 12), 1.7 * _smooth_noise(rng, size, 12))
    image = Image.fromarray(wobbled.astype(np.uint8)).filter(ImageFilter.MedianFilter(3))
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(1.1)), np.float32)
    edge = np.abs(soft - np.asarray(image.filter(ImageFilter.GaussianBlur(4)), np.float32)).mean(-1, keepdims=True)
    wash = 1 + 0.13 * _smooth_noise(rng, size, 22)[..., None]
    return 255 - (255 - soft) * np.clip((0.62 + edge * 0.006) * wash, 0, 1)


def pencil_sketch(picture: Array, rng: np.random.Generator) -> Array:
    """Dark lines on paper, hatching where it is dark, and a hint of coloured pencil."""
    size = picture.shape[0]
    grey = picture @ np.array([0.3, 0.59, 0.11], np.float32)
    image = Image.fromarray(grey.astype(np.uint8))
    blurred = np.asarray(image.filter(ImageFilter.GaussianBlur(2.2)), np.float32)
    line = np.clip(1 - np.abs(grey - blurred) / 46, 0.1, 1)
    y, x = np.mgrid[0:size, 0:size]
    hatch = ((x + y) % 5 < 2) * np.clip((190 - grey) / 190, 0, 1) * 0.42
    tone = np.clip(line * (1 - hatch), 0, 1)[..., None]
    paper = np.array([250, 247, 240], np.float32)
    return tone * (paper * 0.5 + picture * 0.5)


def pixel_art(picture: Array, rng: np.random.Generator) -> Array:
    """Blocks of 4 x 4 pixels and few shades."""
    size = picture.shape[0]
    small = Image.fromarray(picture.astype(np.uint8)).resize((size // 4, size // 4), Image.Resampling.BOX)
    few = np.round(np.asarray(small, np.float32) / 36) * 36
    return np.repeat(np.repeat(few, 4, 0), 4, 1).clip(0, 255)


def oil_swirls(picture: Array, rng: np.random.Generator) -> Array:
    """Thick strokes along a swirling flow: the picture and a noise are smeared along the flow's lines."""
    size = picture.shape[0]
    field = _smooth_noise(rng, size, 28)
    gy, gx = np.gradient(field)
    norm = np.sqrt(gx**2 + gy**2) + 1e-6
    ux, uy = gy / norm, -gx / norm
    grain = _smooth_noise(rng, size, 3)
    source = np.concatenate([picture, 26 * grain[..., None]], -1)
    total = np.zeros_like(source)
    for reach in (-4, -2, 0, 2, 4):
        total += _pull(source, ux * reach, uy * reach)
    total /= 5
    rich = total[..., :3].mean(-1, keepdims=True)
    return (rich + (total[..., :3] - rich) * 1.15 + 1.5 * total[..., 3:]).clip(0, 255)


WHOLE: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "watercolour": watercolour,
    "pencil sketch": pencil_sketch,
    "pixel art": pixel_art,
    "oil painting in swirls": oil_swirls,
}


def apply_style(picture: Image.Image, style: str, seed: int) -> Image.Image:
    """The picture in a style of WHOLE, same size, RGB; other names leave it as it is."""
    if style not in WHOLE:
        return picture
    array = WHOLE[style](np.asarray(picture, np.float32), np.random.default_rng(seed))
    return Image.fromarray(array.clip(0, 255).astype(np.uint8))
