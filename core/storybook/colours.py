"""Which of the palette's colours a thing has, measured in its pixels."""

from __future__ import annotations

import colorsys
import functools
import random

import numpy as np

from core.storybook.backdrops import TINT
from core.storybook.draw import PALETTE
from core.storybook.things import DRAWINGS, draw_thing

BACKDROP = (0.0, 0.2, 0.4, 0.6, 0.8)  # shares of backdrop among a thing's pixels that are tried
NOTHING = np.zeros((0, 3), np.uint8)
FLOOR = 0.02  # of a thing's pixels are no colour of its own: edges, shadows, what stands before it


def _features(rgb: np.ndarray) -> np.ndarray:
    """RGB 0..255 -> (chroma as a vector by hue, lightness): shades of one paint lie close together."""
    result = []
    for r, g, b in rgb / 255:
        h, light, _ = colorsys.rgb_to_hls(r, g, b)
        chroma = max(r, g, b) - min(r, g, b)
        result.append((np.cos(2 * np.pi * h) * chroma, np.sin(2 * np.pi * h) * chroma, 0.6 * light))
    return np.array(result)


@functools.cache
def _name_table() -> np.ndarray:
    """(16, 16, 16) -> index in PALETTE of each RGB cell: nearest paint among each colour's own shades, by hue first."""
    shades, owners = [], []
    for i, rgb in enumerate(PALETTE.values()):
        for target, share in (((20, 16, 36), 0.26), ((0, 0, 0), 0.0), ((255, 252, 240), 0.3)):
            shade = [c + (k - c) * share for c, k in zip(rgb, target, strict=True)]
            shades.append(_features(np.array([shade]))[0])
            owners.append(i)
    grid = np.stack(np.meshgrid(*[np.arange(8, 256, 16)] * 3, indexing="ij"), -1).reshape(-1, 3)
    distance = ((_features(grid)[:, None] - np.array(shades)[None]) ** 2).sum(-1)
    return np.array(owners)[distance.argmin(1)].reshape(16, 16, 16)


def colour_votes(pixels: np.ndarray) -> np.ndarray:
    """(N, 3) uint8 -> votes per colour of PALETTE."""
    cells = pixels // 16
    return np.bincount(_name_table()[cells[:, 0], cells[:, 1], cells[:, 2]], minlength=len(PALETTE))


@functools.cache
def _expected(thing: str) -> np.ndarray:
    """(colours, colours) -> share of votes that each colour gets when the thing is painted in the row's colour.

    From the thing's own drawings by day and in the evening: a red flower has a green stem, a blue boat a white sail.
    """
    aspect = DRAWINGS[thing].aspect
    width, height = round(64 * min(1, aspect)), round(64 * min(1, 1 / aspect))
    rows = []
    for colour in PALETTE:
        votes = np.zeros(len(PALETTE))
        for k, hour in enumerate(TINT):
            tile = np.asarray(draw_thing(thing, colour, width, height, random.Random(k)), np.float32)
            tint, share = TINT[hour]
            pixels = tile[tile[..., 3] > 127][:, :3] * (1 - 0.3 * share) + np.array(tint) * 0.3 * share
            votes += colour_votes(pixels.astype(np.uint8))
        rows.append(votes / votes.sum())
    return np.stack(rows)


def name_colour(pixels: np.ndarray, thing: str, around: np.ndarray = NOTHING) -> str:
    """The colour of PALETTE in which painting the thing would best explain its pixels (N, 3) uint8; "" without any.

    around: pixels (M, 3) beside the thing. A share of its own pixels, as large as explains them best, is taken for
    backdrop that shows beside and through it: leaves and lamp posts fill little of their cells.
    """
    if not len(pixels):
        return ""
    votes, backdrop = colour_votes(pixels), colour_votes(around)
    behind = backdrop / backdrop.sum() if backdrop.sum() else np.full(len(PALETTE), 1 / len(PALETTE))
    likely = []
    for share in BACKDROP if backdrop.sum() else (0.0,):
        mixed = (1 - share) * _expected(thing) + share * behind
        likely.append(np.log((1 - FLOOR) * mixed + FLOOR / len(PALETTE)) @ votes)
    return list(PALETTE)[int(np.max(likely, axis=0).argmax())]
