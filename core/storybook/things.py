"""The registry of drawable things: name -> drawing, shape and where it belongs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image

from core.storybook import things_home, things_outdoor
from core.storybook.draw import PALETTE, Ink, Pen, jitter


class Drawing(NamedTuple):
    """How a thing is drawn: `paint` fills a tile of `aspect` (width / height); `place` is where it belongs."""

    paint: Callable[[Pen], None]
    aspect: float
    place: str  # "ground", "wall" or "sky"


DRAWINGS: dict[str, Drawing] = {
    "sofa": Drawing(things_home.sofa, 1.7, "ground"),
    "house plant": Drawing(things_home.house_plant, 0.8, "ground"),
    "painting": Drawing(things_home.painting, 1.25, "wall"),
    "lamp": Drawing(things_home.lamp, 0.55, "ground"),
    "table": Drawing(things_home.table, 1.5, "ground"),
    "window": Drawing(things_home.window, 0.9, "wall"),
    "tree": Drawing(things_outdoor.tree, 0.8, "ground"),
    "pine tree": Drawing(things_outdoor.pine_tree, 0.66, "ground"),
    "palm tree": Drawing(things_outdoor.palm_tree, 0.85, "ground"),
    "house": Drawing(things_outdoor.house, 1.0, "ground"),
    "car": Drawing(things_outdoor.car, 1.75, "ground"),
    "boat": Drawing(things_outdoor.boat, 1.0, "ground"),
    "balloon": Drawing(things_home.balloon, 0.75, "sky"),
    "flower": Drawing(things_outdoor.flower, 0.66, "ground"),
    "mushroom": Drawing(things_outdoor.mushroom, 0.95, "ground"),
    "cat": Drawing(things_outdoor.cat, 0.85, "ground"),
    "dog": Drawing(things_outdoor.dog, 1.15, "ground"),
    "bird": Drawing(things_outdoor.bird, 1.1, "sky"),
    "ball": Drawing(things_home.ball, 1.0, "ground"),
    "cube": Drawing(things_home.cube, 0.95, "ground"),
    "star": Drawing(things_home.star, 1.0, "sky"),
    "rocket": Drawing(things_home.rocket, 0.6, "sky"),
    "umbrella": Drawing(things_home.umbrella, 1.0, "ground"),
    "cup": Drawing(things_home.cup, 1.1, "ground"),
    "moon": Drawing(things_outdoor.moon, 0.85, "sky"),
    "sun": Drawing(things_outdoor.sun, 1.0, "sky"),
    "cloud": Drawing(things_outdoor.cloud, 1.6, "sky"),
}


def draw_thing(name: str, colour: str, width: int, height: int, rng: random.Random, shade: float = 0.0) -> Image.Image:
    """A thing on a transparent tile of width x height pixels, drawn at twice the size and reduced.

    shade: 0 in daylight, up to 1 in the dark.
    """
    main = jitter(PALETTE[colour], rng)
    pen = Pen(width * 2, height * 2, Ink.of(main), rng)
    DRAWINGS[name].paint(pen)
    return pen.tile.resize((width, height), Image.Resampling.BOX)
