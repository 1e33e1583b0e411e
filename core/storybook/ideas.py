"""Prompts that Storybook can do, made up on the spot. Standard library only, as the vocabulary."""

from __future__ import annotations

import random

from core.storybook import vocabulary as v
from core.storybook.captions import SCENE_PHRASES

# Where a thing is at home: what is left out may stand anywhere.
AT_HOME = {
    "living room": ("sofa", "house plant", "painting", "lamp", "table", "window", "cat", "dog", "cup", "ball"),
    "meadow": ("tree", "house", "flower", "mushroom", "cat", "dog", "bird", "balloon", "umbrella", "sun", "cloud"),
    "snowy field": ("pine tree", "house", "dog", "cat", "moon", "bird", "umbrella"),
    "desert": ("palm tree", "sun", "car", "rocket", "flower", "balloon"),
    "beach": ("palm tree", "umbrella", "ball", "boat", "dog", "bird", "sun"),
    "sea": ("boat", "bird", "sun", "moon", "cloud", "balloon"),
    "mountains": ("pine tree", "house", "balloon", "bird", "cloud", "sun", "moon"),
    "night sky": ("moon", "star", "rocket", "balloon"),
    "city street": ("car", "house", "tree", "cat", "dog", "umbrella", "lamp"),
    "forest": ("tree", "pine tree", "mushroom", "bird", "flower", "house", "cat"),
    "plain background": tuple(v.THINGS),
}
_SIDES = (("left", "right"), ("right", "left"))
_ONE_IN_THREE, _ONE_IN_FOUR = 1 / 3, 1 / 4


def surprise(rng: random.Random) -> str:
    """A prompt in Storybook's own words: one thing or two, where they are at home, some at an hour or in a style."""
    scene = rng.choice(list(AT_HOME))
    names = rng.sample(AT_HOME[scene], 2 if rng.random() < _ONE_IN_THREE else 1)
    things = [v.article(f"{rng.choice(_colours(name))} {name}") for name in names]
    if len(things) == 2:
        sides = [rng.choice(v.POSITIONS[side]) for side in rng.choice(_SIDES)]
        things = [f"{thing} {side}" for thing, side in zip(things, sides, strict=True)]
    where = SCENE_PHRASES[scene][0]
    hour = ""
    if scene not in ("plain background", "night sky") and rng.random() < _ONE_IN_THREE:
        hour = " " + rng.choice(v.TIMES[rng.choice(("evening", "night"))])
    style = f", {rng.choice([name for name in v.STYLES if name != 'flat'])}" if rng.random() < _ONE_IN_FOUR else ""
    return f"{' and '.join(things)} {where}{hour}{style}"


def _colours(name: str) -> list[str]:
    """A thing's natural colours as often as all others: orange cats before blue ones."""
    others = [colour for colour in v.COLOURS if colour not in v.NATURAL[name]]
    return [*v.NATURAL[name] * max(1, len(others) // len(v.NATURAL[name])), *others]
