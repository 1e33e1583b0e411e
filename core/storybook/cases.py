"""What the evaluation asks for: single things, things on a side, and three boxes; all in held-out colours."""

from __future__ import annotations

import itertools
import random
from typing import NamedTuple

from core.masks import Box
from core.request import Region, Request
from core.storybook.captions import SCENE_PHRASES
from core.storybook.scenes import Scene, Thing
from core.storybook.things import DRAWINGS
from core.storybook.vocabulary import STYLES, article, held_out_pairs

STEPS = 20
SIDES = ("left", "right", "top", "bottom")
PHRASES = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}
COLUMNS = ("on the left", "in the centre", "on the right")
BACKGROUNDS = ("living room", "meadow", "beach", "snowy field", "plain background")
BOOTSTRAP = 0.2  # Request's own


class Case(NamedTuple):
    """One prompt and what must be seen."""

    prompt: str
    thing: str
    colour: str
    side: str = ""  # or one of SIDES
    style: str = ""  # or one of STYLES


def single_cases(count: int, sides: bool) -> list[Case]:
    """Prompts for one held-out (thing, colour) each: bare, with a scene, or (sides) with a place."""
    rng = random.Random(5 if sides else 4)
    pairs = held_out_pairs()
    rng.shuffle(pairs)
    cases = []
    for i, (thing, colour) in enumerate(itertools.islice(itertools.cycle(pairs), count)):
        what, side = article(f"{colour} {thing}"), SIDES[i % 4] if sides else ""
        scene = rng.choice([phrases[0] for phrases in SCENE_PHRASES.values()])
        where = f" {PHRASES[side]}" if side else ""
        cases.append(Case(f"{what}{where} {scene}" if rng.random() < 0.6 else f"{what}{where}", thing, colour, side))
    return cases


def styled_cases(count: int) -> list[Case]:
    """Prompts for one held-out (thing, colour) each, in each style in turn."""
    rng, looks = random.Random(7), [style for style in STYLES if style != "flat"]
    pairs = held_out_pairs()
    rng.shuffle(pairs)
    return [Case(f"{article(f'{colour} {thing}')}, {looks[i % len(looks)]}", thing, colour, style=looks[i % len(looks)])
            for i, (thing, colour) in enumerate(itertools.islice(itertools.cycle(pairs), count))]


class Trio(NamedTuple):
    """Three things side by side on a scene, each with its box."""

    scene: str
    things: tuple[str, ...]
    phrases: tuple[str, ...]  # "a red sofa"
    boxes: tuple[Box, ...]

    def composed(self, bootstrap: float, **how: object) -> Request:
        """A prompt for every box, another for the rest. how: the request's other fields."""
        regions = [Region(name=thing, prompt=phrase, box=box)
                   for thing, phrase, box in zip(self.things, self.phrases, self.boxes, strict=True)]
        return Request(prompt=article(self.scene), regions=tuple(regions), bootstrap=bootstrap, **how)  # type: ignore[arg-type]

    def drawn(self, seed: int) -> Scene:
        """What it should look like: the renderer's own things in the boxes."""
        things = []
        for name, phrase, (x0, y0, x1, y1) in zip(self.things, self.phrases, self.boxes, strict=True):
            colour, aspect = phrase.removesuffix(name).split()[1], DRAWINGS[name].aspect
            size = min((x1 - x0) / min(1, aspect), (y1 - y0) / min(1, 1 / aspect))  # its longer side, to fit the box
            things.append(Thing(name, colour, True, (x0 + x1) / 2, (y0 + y1) / 2, size, ""))
        return Scene(seed, self.scene, None, "day", "flat", tuple(things))

    def described(self, **how: object) -> Request:
        """The same words in one prompt, with their places."""
        said = ", ".join(f"{what} {where}" for what, where in zip(self.phrases, COLUMNS, strict=True))
        return Request(prompt=f"{said}, {SCENE_PHRASES[self.scene][0]}", **how)  # type: ignore[arg-type]


def trios(count: int) -> list[Trio]:
    rng = random.Random(6)
    pairs, result = held_out_pairs(), []
    for _ in range(count):
        chosen, boxes = rng.sample(pairs, 3), []
        while len({thing for thing, _ in chosen}) < 3:
            chosen = rng.sample(pairs, 3)
        for k in range(3):
            height = rng.uniform(0.38, 0.5)
            top = rng.uniform(0.05, 0.95 - height)
            boxes.append((0.02 + k * 0.33, top, 0.32 + k * 0.33, top + height))
        things = tuple(thing for thing, _ in chosen)
        phrases = tuple(article(f"{colour} {thing}") for thing, colour in chosen)
        result.append(Trio(rng.choice(BACKGROUNDS), things, phrases, tuple(boxes)))
    return result
