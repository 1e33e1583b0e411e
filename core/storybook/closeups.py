"""What a small region sees: the surroundings of one thing, cut out of a scene, and only that thing's words.

A region that looks at a crop (core.layout.boxes_of) asks for "a red sofa" of a part of the picture, with pieces of
what others asked for at its edges. No rendered scene is like that, but parts of them are.
"""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import NamedTuple

import torch

from core.layout import place_in_words, span_of_crop
from core.masks import Box
from core.storybook.captions import caption_of, phrase_of
from core.storybook.data import CANVASES, SHARD
from core.storybook.lessons import noisy_steps
from core.storybook.loop import Batch, Run
from core.storybook.scenes import Scene, Thing, sample_scene
from core.storybook.tokens import encode, make_tokenizer
from core.storybook.train_autoencoder import encode_shards
from core.storybook.train_text import load_latents

SIDE = 256  # pixels of the scenes that are cut
CELLS = 32  # of their latents a side
LARGEST = 24  # cells a side of a close-up
SLACK = 0.12  # of the picture's side, the most that a box leaves free beside its thing
BOXES = 3  # around each thing, one closer than the other
EDGES_SHARE = 0.3  # of those with pieces of other things at their edges are taken
PLACED_SHARE = 0.3  # of the words say where in the whole picture the box lies, as `Request.say_places` does


class CloseUp(NamedTuple):
    """A scene's number, the cells of it that are seen, and what is asked for there."""

    scene: int
    top: int
    left: int
    height: int
    width: int
    words: str


def told(paths: list[Path], captions: list[str]) -> list[Scene | None]:
    """The scenes of shards of latents, from their seeds; None where another grammar drew them (or wrote the words)."""
    canvas = CANVASES[SIDE]
    scenes: list[Scene | None] = []
    seeds = [canvas.first_seed + int(path.stem) * SHARD + i for path in paths for i in range(SHARD)]
    for seed, caption in zip(seeds, captions, strict=False):
        scene = sample_scene(seed, canvas.zoom, canvas.most)
        scenes.append(scene if caption_of(scene, random.Random(seed + 2)) == caption else None)
    return scenes


def cells_of(low: float, high: float) -> tuple[int, int]:
    """The first and the last cell that a stretch of a side (0..1) touches."""
    return int(low * CELLS), max(int(low * CELLS), math.ceil(high * CELLS) - 1)


def overlap(box: Box, columns: tuple[int, ...], rows: tuple[int, ...]) -> bool:
    """Whether some of a box (0..1) lies in these cells."""
    x0, y0, x1, y1 = (edge * CELLS for edge in box)
    return x1 >= columns[0] and x0 <= columns[-1] + 1 and y1 >= rows[0] and y0 <= rows[-1] + 1


def close_up(number: int, scene: Scene, thing: Thing, rng: random.Random) -> CloseUp | None:
    """A box painted around a thing, more or less closely, as its region sees it.

    None where that is no small one, or where it shows another thing than at its edges, and mostly there, too: words
    that pass over what is plainly there teach that "a red sofa" comes with company.
    """
    x0, y0, x1, y1 = (edge + rng.uniform(0, SLACK) * side
                      for edge, side in zip(thing.box(), (-1, -1, 1, 1), strict=True))
    box: Box = max(0.0, x0), max(0.0, y0), min(1.0, x1), min(1.0, y1)
    columns, rows = (span_of_crop(*cells_of(low, high), CELLS, CELLS // 2)
                     for low, high in ((box[0], box[2]), (box[1], box[3])))
    if max(len(rows), len(columns)) > LARGEST:
        return None
    others = [other for other in scene.things if other is not thing]
    if any(overlap(other.box(), columns, rows) for other in others) and rng.random() > EDGES_SHARE or \
            any(overlap((other.x, other.y, other.x, other.y), columns, rows) for other in others):
        return None
    words = phrase_of(thing, scene, rng)
    if rng.random() < PLACED_SHARE:
        words = f"{words}, {place_in_words(box, SIDE, SIDE)}"
    return CloseUp(number, rows[0], columns[0], len(rows), len(columns), words)


class CloseUps:
    """The latents of whole scenes, and how batches of their parts are drawn."""

    def __init__(self, run: Run, shards: int | None = None) -> None:
        paths = encode_shards(run.folder, SIDE, run.device, shards)
        self.latents, captions, self.labels = load_latents(paths)
        rng = random.Random(11)
        by_shape: dict[tuple[int, int], list[CloseUp]] = {}
        scenes = [(number, scene) for number, scene in enumerate(told(paths, captions)) if scene]
        for number, scene in scenes:
            boxes = (close_up(number, scene, thing, rng) for thing in scene.things for _ in range(BOXES))
            for found in filter(None, boxes):
                by_shape.setdefault((found.height, found.width), []).append(found)
        if not by_shape:
            raise FileNotFoundError(f"no scenes of this grammar in {run.folder}: run --stage render first")
        self.shapes, tokenizer = list(by_shape), make_tokenizer()
        self.of = [torch.tensor([one[:3] for one in by_shape[shape]]) for shape in self.shapes]
        self.ids = [encode(tokenizer, [one.words for one in by_shape[shape]]) for shape in self.shapes]
        # the smaller are rarer and cheaper, and more of what people paint
        self.often = torch.tensor([len(by_shape[shape]) / (h * w) for shape in self.shapes for h, w in [shape]]).sqrt()
        self.batch = run.batch_or(32, 512)  # of the smallest

    def draw(self, generator: torch.Generator) -> Batch:
        """As `Lessons.draw`: x0 and noise (B, 4, h, w), t, ids and labels (B, h, w), all of one shape of close-up."""
        which = int(torch.multinomial(self.often, 1, generator=generator))
        height, width = self.shapes[which]
        batch = max(2, self.batch * CELLS**2 // (8 * height * width) * 2)  # about as many cells in every shape
        chosen = torch.randint(len(self.of[which]), (batch,), generator=generator)
        places = self.of[which][chosen].tolist()
        x0, labels = (torch.stack([held[scene, ..., top:top + height, left:left + width]
                                   for scene, top, left in places]) for held in (self.latents, self.labels))
        noise = torch.randn(x0.shape, generator=generator)
        t = noisy_steps(batch, generator)
        return {"x0": x0.float(), "noise": noise, "t": t, "ids": self.ids[which][chosen], "labels": labels}
