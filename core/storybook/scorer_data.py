"""What the scorer learns from: whole renders with their captions, and parts of them with a phrase each."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPTokenizer

from core.storybook.data import CANVASES, SHARD, read_shard, reduced, shards
from core.storybook.scenes import Scene, sample_scene
from core.storybook.tokens import encode
from core.storybook.train_text import SHORT
from core.storybook.vocabulary import COLOURS, SCENES, THINGS, article, held_out, held_out_pairs

PHRASES = [(colour, thing) for thing in THINGS for colour in COLOURS] + [("", scene) for scene in SCENES]
NOTHING = len(THINGS) * len(COLOURS)  # phrases from here on are scenes where nothing stands
# Those that are true of some render: what is never true must not be learnt as always wrong.
POSSIBLE = torch.tensor([i >= NOTHING or not held_out(what, colour) for i, (colour, what) in enumerate(PHRASES)])
EMPTY_SHARE = 0.15  # of the parts show a scene without a thing
SYNONYMS = 0.3  # of the words are another wording


def phrase(index: int, rng: np.random.Generator | None = None) -> str:
    """PHRASES[index] in words, in other wordings now and then if there is an rng: "a red sofa", "a crimson couch"."""
    def say(name: str, table: dict[str, tuple[str, ...]]) -> str:
        others = table[name]
        return others[rng.integers(len(others))] if rng and others and rng.random() < SYNONYMS else name

    colour, what = PHRASES[index]
    if index < NOTHING:
        return article(f"{say(colour, COLOURS)} {say(what, THINGS)}")
    return what if what in ("mountains", "sea") else article(what)


def _pattern(table: dict[str, tuple[str, ...]]) -> re.Pattern[str]:
    wordings = sorted((w for name, others in table.items() for w in (name, *others)), key=len, reverse=True)
    return re.compile(rf"\b({'|'.join(wordings)})\b")


_COLOUR, _THING = _pattern(COLOURS), _pattern(THINGS)
_UNSEEN = [f"{colour} {thing}" for thing, colour in held_out_pairs()]


def spoil(caption: str, rng: random.Random) -> str:
    """The caption with one colour, thing or side exchanged for another; unchanged where it names none.

    Not for one that makes a held-out pair, as POSSIBLE.
    """
    for _ in range(5):
        spoilt = _exchange(caption, rng)
        if not any(pair in spoilt for pair in _UNSEEN):
            return spoilt
    return caption


def _exchange(caption: str, rng: random.Random) -> str:
    ways = []
    for pattern, table in ((_COLOUR, COLOURS), (_THING, THINGS)):
        found = list(pattern.finditer(caption))
        if found:
            ways.append((rng.choice(found), table))
    if ways:
        spot, table = rng.choice(ways)
        named = {name for name, others in table.items() for w in (name, *others) if w == spot[0]}
        other = rng.choice([name for name in table if name not in named and name not in caption])
        return caption[: spot.start()] + other + caption[spot.end() :]
    sides = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
    return re.sub(r"\b(left|right|top|bottom)\b", lambda m: sides[m[0]], caption, count=1)


class Parts(NamedTuple):
    """scenes: (B,) indices. windows: (B, 4) x0, y0, x1, y1 as shares of the picture. phrases: (B,) of PHRASES."""

    scenes: Tensor
    windows: Tensor
    phrases: Tensor


class Examples(NamedTuple):
    """Renders in memory: each of the N scenes at 128 pixels, those from `fine_from` on also at 256.

    whole: the scenes that have a caption that fits. ids, wrong: (N, SHORT), the caption, and with a word exchanged.
    boxes, empty: (M, 4), (K, 4), windows onto every thing and onto nothing. labels: (N, 32, 32).
    colours: (N, 1 + things), the colour of each label, 1 + its place in COLOURS; 0 where it is not known.
    """

    pictures: Tensor  # (N, 128, 128, 3) uint8
    fine: Tensor  # (N - fine_from, 256, 256, 3) uint8
    fine_from: int
    whole: Tensor
    ids: Tensor
    wrong: Tensor
    boxes: Tensor
    of_box: Tensor  # (M, 2) scene, phrase
    empty: Tensor
    of_empty: Tensor  # (K, 2) scene, phrase
    labels: Tensor
    colours: Tensor

    def draw_parts(self, count: int, generator: torch.Generator) -> Parts:
        """Windows around things, up to twice as large as them and not centred, as painted regions are; some on nothing.
        """
        def chance(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator)

        empty = round(count * EMPTY_SHARE) if len(self.empty) else 0
        which = torch.randint(len(self.boxes), (count - empty,), generator=generator)
        box = self.boxes[which]
        size = (box[:, 2:] - box[:, :2]).repeat(1, 2)
        grown = box + size * (0.55 * chance(len(box), 4).square() - 0.04) * torch.tensor([-1.0, -1.0, 1.0, 1.0])
        nothing = torch.randint(max(1, len(self.empty)), (empty,), generator=generator)
        windows = torch.cat([grown.clamp(0, 1), self.empty[nothing]])
        of = torch.cat([self.of_box[which], self.of_empty[nothing]])
        mixed = torch.randperm(count, generator=generator)  # workers share a batch: each gets some of both
        return Parts(of[mixed, 0], windows[mixed], of[mixed, 1])


def cut(examples: Examples, scenes: Tensor, windows: Tensor, side: int, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Windows of scenes, stretched -> (B, 3, side, side) in -1..1, and (B, cells * cells) things and colours there."""
    scale, middle = windows[:, 2:] - windows[:, :2], windows[:, 2:] + windows[:, :2] - 1
    theta = torch.cat([torch.diag_embed(scale), middle[..., None]], 2)
    grid = F.affine_grid(theta, [len(scenes), 3, side, side], align_corners=False)
    pictures = torch.empty(len(scenes), 3, side, side)
    near = (scale.amax(1) < 0.5) & (scenes >= examples.fine_from)  # a large part of fine pixels would alias
    for here, stock, first in ((near, examples.fine, examples.fine_from), (~near, examples.pictures, 0)):
        if here.any():
            source = stock[scenes[here] - first].permute(0, 3, 1, 2).float().div(127.5).sub(1)
            pictures[here] = F.grid_sample(source, grid[here], padding_mode="border", align_corners=False)
    coarse = F.affine_grid(theta, [len(scenes), 1, cells, cells], align_corners=False)
    labels = F.grid_sample(examples.labels[scenes, None].float(), coarse, "nearest", "border", align_corners=False)
    things = labels.flatten(1).long()
    return pictures, things, examples.colours[scenes].long().gather(1, things)


def load_examples(folder: Path, tokenizer: CLIPTokenizer) -> Examples:
    """Every render of the training folder. Of scenes that the grammar no longer makes so, only whole pictures."""
    pictures: list[np.ndarray] = []
    fine: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    captions: list[str] = []
    told: list[Scene | None] = []
    for size, canvas in CANVASES.items():
        for path in shards(folder, size):
            one = read_shard(path)
            pictures.append(reduced(one.pictures))
            if size == 256:
                fine.append(one.pictures)
            labels.append(one.labels)
            captions += one.captions
            start = canvas.first_seed + int(path.stem) * SHARD
            for i, painted in enumerate(one.boxes):
                scene = sample_scene(start + i, canvas.zoom, canvas.most)
                same = [t.name for t in scene.things] == [name for name, _ in painted]
                told.append(scene if same else None)
    if not captions:
        raise FileNotFoundError(f"no scenes in {folder}: run --stage render first")
    rng = random.Random(8)
    every = np.concatenate(labels)
    ids = encode(tokenizer, captions)
    keep = [i for i, caption in enumerate(captions) if caption and int(ids[i, SHORT - 1]) == int(ids[i, -1])]
    boxes, of_box, colours = _things(told, every)
    empty, of_empty = _nothing(told, every, rng)
    wrong = encode(tokenizer, [spoil(caption, rng) for caption in captions])
    large = torch.from_numpy(np.concatenate([*fine, np.zeros((0, 256, 256, 3), np.uint8)]))
    return Examples(torch.from_numpy(np.concatenate(pictures)), large, len(captions) - len(large), torch.tensor(keep),
                    ids[:, :SHORT], wrong[:, :SHORT], boxes, of_box, empty, of_empty, torch.from_numpy(every), colours)


def _things(told: list[Scene | None], labels: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (M, 4), their scene and phrase (M, 2), and the colour of each label in each scene (N, 1 + things)."""
    names, paints = list(THINGS), list(COLOURS)
    boxes, of = [], []
    colours = np.zeros((len(told), len(names) + 1), np.uint8)
    for i, scene in enumerate(told):
        for thing in scene.things if scene else ():
            kind, paint = names.index(thing.name), paints.index(thing.colour)
            colours[i, kind + 1] = paint + 1
            if (labels[i] == kind + 1).any():  # not hidden behind another
                boxes.append([min(1.0, max(0.0, edge)) for edge in thing.box()])
                of.append((i, kind * len(paints) + paint))
    return torch.tensor(boxes).view(-1, 4), torch.tensor(of).view(-1, 2), torch.from_numpy(colours)


def _nothing(told: list[Scene | None], labels: np.ndarray, rng: random.Random) -> tuple[Tensor, Tensor]:
    """Windows (K, 4) onto a scene without a thing, one a scene where a few tries find one, and (K, 2) scene, phrase."""
    places, found, of = list(SCENES), [], []
    for i, scene in enumerate(told):
        for _ in range(4 if scene else 0):
            w, h = rng.randint(9, 20), rng.randint(9, 20)
            x, y = rng.randint(0, 32 - w), rng.randint(0, 32 - h)
            if scene and not labels[i, y : y + h, x : x + w].any():
                found.append((x / 32, y / 32, (x + w) / 32, (y + h) / 32))
                of.append((i, NOTHING + places.index(scene.scene)))
                break
    return torch.tensor(found).view(-1, 4), torch.tensor(of, dtype=torch.long).view(-1, 2)
