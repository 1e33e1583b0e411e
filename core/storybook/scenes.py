"""The seeded scene grammar: a seed becomes (picture, caption, boxes)."""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from core.storybook import vocabulary as v
from core.storybook.backdrops import TINT, paint_backdrop
from core.storybook.captions import caption_of
from core.storybook.styles import apply_style
from core.storybook.things import DRAWINGS, draw_thing


class Thing(NamedTuple):
    """One thing of a scene. x, y: its centre, size: its longer side; all shares of the picture's side."""

    name: str
    colour: str
    named_colour: bool  # whether a caption may say its colour
    x: float
    y: float
    size: float
    position: str  # a name of POSITIONS, "" where none fits

    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 as shares of the picture's side; may reach beyond 0..1."""
        aspect = DRAWINGS[self.name].aspect
        w, h = self.size * min(1, aspect), self.size * min(1, 1 / aspect)
        return self.x - w / 2, self.y - h / 2, self.x + w / 2, self.y + h / 2


class Scene(NamedTuple):
    """What a picture shows; enough to paint and to describe it."""

    seed: int
    scene: str
    backdrop_colour: str | None  # of a plain background
    time: str
    style: str
    things: tuple[Thing, ...]


class Rendered(NamedTuple):
    """picture: RGB. caption: text. boxes: name -> box. labels: (32, 32) uint8, 0 or 1 + the thing's index in THINGS."""

    picture: Image.Image
    caption: str
    boxes: list[tuple[str, tuple[float, float, float, float]]]
    labels: np.ndarray


COLUMNS = {"left": (0.2, 0.32), "centre": (0.45, 0.55), "right": (0.68, 0.8)}
# How often a scene has 0, 1, 2 or 3 things, by the most it may have. The empty ones teach what "a beach" alone means:
# that is what the rest of a picture with regions is asked for.
COUNTS = {1: (0, 1, 0, 0), 2: (0.1, 0.6, 0.3, 0), 3: (0.12, 0.44, 0.2, 0.24)}
ROWS = {"top": (0.2, 0.34), "": (0.44, 0.56), "bottom": (0.66, 0.8)}


def position_name(x: float, y: float) -> str:
    """The name of POSITIONS for a centre at x, y (0..1); "" between the clear cases."""
    across = "left" if x < 0.38 else "right" if x > 0.62 else "centre" if 0.43 < x < 0.57 else "?"
    down = "top" if y < 0.36 else "bottom" if y > 0.66 else ""
    if across == "?":
        return ""
    if across == "centre":
        return down or "centre"
    return f"{down} {across}".strip()


def sample_scene(seed: int, zoom: float = 1.0, most: int = 3) -> Scene:
    """A scene from a seed. zoom: makes things larger (for small canvases). most: things at most."""
    rng = random.Random(seed)
    plain = rng.random() < 0.27
    scene = "plain background" if plain else rng.choice([name for name in v.SCENES if name != "plain background"])
    backdrop = rng.choice([*v.COLOURS]) if plain and rng.random() < 0.6 else None
    time = "day" if plain or rng.random() < 0.66 else rng.choice(("evening", "night"))
    draw = rng.random()
    style = "flat" if draw < 0.68 else rng.choice([s for s in v.STYLES if s != "flat"])
    count = rng.choices((0, 1, 2, 3), COUNTS[most])[0]
    columns = rng.sample(list(COLUMNS), 3)
    names = rng.sample(list(v.THINGS), count)
    things: list[Thing] = []
    for i, name in enumerate(names):
        named = rng.random() < 0.85
        colours = [c for c in (v.COLOURS if named else v.NATURAL[name]) if not v.held_out(name, c)]
        colour = rng.choice(colours)
        if backdrop == colour and rng.random() < 0.9:  # a red sofa on red is no lesson
            colour = rng.choice([c for c in colours if c != backdrop] or colours)
        things.append(_place(name, colour, named, rng, zoom, count, columns[i], scene))
    return Scene(seed, scene, backdrop, time, style, tuple(things))


def _place(
    name: str, colour: str, named: bool, rng: random.Random, zoom: float, count: int, column: str, scene: str
) -> Thing:
    """One thing, somewhere it belongs."""
    draw, anywhere = rng.random(), False
    if count == 1:
        # what a region's prompt stands for: a small thing, anywhere, and before the plain colour of bootstrapping
        small = 0.5 if scene == "plain background" else 0.3
        low, high = (0.24, 0.4) if draw < small else (0.64, 0.84) if draw > 0.85 else (0.42, 0.6)
        anywhere = draw < small
        if rng.random() < 0.55:
            column = "centre"
    else:
        low, high = (0.2, 0.28) if draw < 0.15 else (0.44, 0.52) if draw < 0.3 else (0.3, 0.42)
    size = min(0.9, rng.uniform(low, high) * (zoom if count == 1 else min(zoom, 1.15)))
    aspect = DRAWINGS[name].aspect
    w, h = size * min(1, aspect), size * min(1, 1 / aspect)
    place = DRAWINGS[name].place
    x = rng.uniform(0.14, 0.86) if anywhere else rng.uniform(*COLUMNS[column])
    if scene == "plain background" or rng.random() < (0.2 if count == 1 else 0.45):
        y = rng.uniform(*ROWS[rng.choices(list(ROWS), (0.25, 0.5, 0.25))[0]])
    elif place == "ground":
        y = rng.uniform(0.8, 0.95) - h / 2
    elif place == "wall":
        y = rng.uniform(0.24, 0.42)
    else:
        y = rng.uniform(0.22, 0.5)
    x = min(max(x, w / 2 + 0.01), 0.99 - w / 2) if w < 0.96 else 0.5
    y = min(max(y, h / 2 + 0.01), 0.99 - h / 2) if h < 0.96 else 0.5
    return Thing(name, colour, named, x, y, size, position_name(x, y))


def paint(scene: Scene, size: int) -> tuple[Image.Image, np.ndarray]:
    """The scene's picture, size x size pixels, and its (32, 32) labels (0, or 1 + index in THINGS)."""
    rng = random.Random(scene.seed + 1)
    picture, horizon = paint_backdrop(scene.scene, scene.backdrop_colour, scene.time, size, rng)
    if scene.style == "blurred background":
        picture = picture.filter(ImageFilter.GaussianBlur(size / 42))
    labels = np.zeros((32, 32), np.uint8)
    tint, share = TINT[scene.time if scene.scene != "night sky" else "evening"]
    names = list(v.THINGS)
    for thing in sorted(scene.things, key=lambda t: t.box()[3]):  # what stands nearer is painted later
        x0, y0, x1, y1 = (round(edge * size) for edge in thing.box())
        tile = draw_thing(thing.name, thing.colour, max(4, x1 - x0), max(4, y1 - y0), rng)
        alpha = tile.getchannel("A")
        if share:
            tile = Image.blend(tile, Image.new("RGBA", tile.size, (*tint, 255)), share * 0.3)
            tile.putalpha(alpha)
        grounded = DRAWINGS[thing.name].place == "ground"
        if grounded and horizon and thing.box()[3] > horizon and scene.style != "blurred background":
            shadow = Image.new("L", (size, size), 0)
            depth = (y1 - y0) * 0.07
            ImageDraw.Draw(shadow).ellipse((x0 + 2, y1 - depth * 1.3, x1 - 2, y1 + depth * 0.7), 80)
            picture.paste((24, 20, 40), (0, 0), shadow)
        picture.paste(tile, (x0, y0), alpha)
        canvas = Image.new("L", (size, size), 0)
        canvas.paste(alpha, (x0, y0))
        mask = np.asarray(canvas.resize((32, 32), Image.Resampling.BOX)) > 127
        labels[mask] = 1 + names.index(thing.name)
    return apply_style(picture, scene.style, scene.seed), labels


def render(seed: int, size: int = 256, zoom: float = 1.0, most: int = 3) -> Rendered:
    """The picture, caption, boxes and labels of a seed; the same seed always gives the same."""
    scene = sample_scene(seed, zoom, most)
    picture, labels = paint(scene, size)
    return Rendered(
        picture, caption_of(scene, random.Random(seed + 2)), [(t.name, t.box()) for t in scene.things], labels
    )
