"""The judge: which thing is in which cell of a picture, and in which colour. No part of the generator."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.masks import Box
from core.storybook import networks as n
from core.storybook.colours import name_colour
from core.storybook.confusion import confusions
from core.storybook.data import HELD_OUT_SEED
from core.storybook.scenes import Scene, paint, sample_scene
from core.storybook.vocabulary import COLOURS, THINGS, held_out

SIDE = 128  # pixels; pictures are reduced to it
CELLS = 16  # the answer's side
RING = 2  # cells about a thing in which its backdrop is looked at,
SURELY = 0.9  # where the judge is so sure that nothing stands
SMALL = 0.5  # longer side, the picture's being 1, of what is looked at from near
NEAR = 1.15  # side of the square that is looked at, the box's longer side being 1
WIDTHS = (32, 64, 104, 144)  # channels at 32x32, 16x16, 8x8 and 4x4 cells
DEPTHS = (1, 1, 2, 1)  # blocks there; an EPYC core trains on 190 pictures a second


class Block(nn.Module):
    """Two 3x3 convolutions beside a short cut (He et al., arXiv:1512.03385)."""

    def __init__(self, wide: int, out: int, stride: int) -> None:
        super().__init__()
        self.way = nn.Sequential(
            nn.Conv2d(wide, out, 3, stride, 1, bias=False),
            nn.GroupNorm(8, out),  # 14 % slower than batch norm here, and it needs no running figures
            nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False),
            nn.GroupNorm(8, out),
        )
        self.short = nn.Identity() if stride == 1 and wide == out else nn.Conv2d(wide, out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.way(x) + self.short(x))


class Judge(nn.Module):
    """Pictures (B, 3, 128, 128) in -1..1 -> (B, 1 + things, 16, 16) logits; class 0 is 'nothing'.

    A residual network whose deep maps are added to its shallow ones (a feature pyramid, arXiv:1612.03144).
    """

    def __init__(self) -> None:
        super().__init__()
        levels, wide = [], WIDTHS[0]
        for i, (out, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
            levels.append(nn.Sequential(*(
                Block(wide if k == 0 else out, out, 2 if i and k == 0 else 1) for k in range(depth)
            )))
            wide = out
        self.stem = nn.Conv2d(48, WIDTHS[0], 3, padding=1)
        self.levels = nn.ModuleList(levels)
        self.sides = nn.ModuleList(nn.Conv2d(width, 64, 1) for width in WIDTHS[1:])
        self.head = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, len(THINGS) + 1, 1))
        self.present = nn.Linear(2 * WIDTHS[-1], len(THINGS))

    def maps(self, pictures: Tensor) -> list[Tensor]:
        """Features at 32x32, 16x16, 8x8 and 4x4 cells."""
        x = F.relu(self.stem(F.pixel_unshuffle(pictures, 4).contiguous(memory_format=torch.channels_last)))
        found = []
        for level in self.levels:
            x = level(x)
            found.append(x)
        return found

    def cells(self, maps: list[Tensor]) -> Tensor:
        whole = self.sides[-1](maps[-1])
        for side, shallower in list(zip(self.sides, maps[1:], strict=True))[-2::-1]:
            whole = side(shallower) + F.interpolate(whole, scale_factor=2, mode="nearest")
        return self.head(F.relu(whole))

    def presence(self, maps: list[Tensor]) -> Tensor:
        """(B, things) logits: is it there at all? Teaches the deep maps; judging does not use it."""
        return self.present(torch.cat([maps[-1].mean((2, 3)), maps[-1].amax((2, 3))], 1))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.cells(self.maps(pictures))


class Finding(NamedTuple):
    """What the judge saw. thing: the one that fills most cells. x, y: its middle, 0..1. colour: of its pixels."""

    thing: str
    x: float
    y: float
    colour: str
    share: float  # of the picture that the thing fills


def reduce_pictures(pictures: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, 128, 128) in -1..1, by area."""
    x = n.to_unit(pictures)
    return F.interpolate(x, (SIDE, SIDE), mode="area") if x.shape[-2:] != (SIDE, SIDE) else x


@torch.no_grad()
def cells_of(judge: Judge, pictures: Tensor) -> Tensor:
    """Pictures (B, H, W, 3) uint8 -> probabilities (B, 1 + things, 16, 16)."""
    return torch.cat([judge(reduce_pictures(part)).softmax(1) for part in pictures.split(32)])


def find(picture: Tensor, cells: Tensor, window: Box = (0, 0, 1, 1)) -> Finding:
    """The main thing inside a window (x0, y0, x1, y1 in 0..1) of a picture (H, W, 3) whose cells are given."""
    x0, y0, x1, y1 = (round(min(1.0, max(0.0, edge)) * CELLS) for edge in window)
    inside = torch.zeros(CELLS, CELLS)
    inside[y0:y1, x0:x1] = 1
    mass = cells[1:] * inside
    best = int(mass.sum((1, 2)).argmax())
    weight = mass[best] + 1e-9
    middle = (torch.arange(CELLS) + 0.5) / CELLS
    x, y = float((weight.sum(0) * middle).sum() / weight.sum()), float((weight.sum(1) * middle).sum() / weight.sum())
    # the colour is that of the whole thing's cells, whichever class they were given
    solid = (1 - cells[0]) * inside > 0.5
    near = F.max_pool2d(solid[None].float(), 2 * RING + 1, 1, RING)[0] > 0
    pixels, around = (_pixels(picture, where) for where in (solid, near & (cells[0] > SURELY)))
    thing = list(THINGS)[best]
    return Finding(thing, x, y, name_colour(pixels, thing, around), float(solid.float().mean()))


def _pixels(picture: Tensor, cells: Tensor) -> np.ndarray:
    """Those (N, 3) of a picture (H, W, 3) that lie in some of its cells (CELLS, CELLS)."""
    scale = picture.shape[0] // CELLS
    return picture.numpy()[cells.repeat_interleave(scale, 0).repeat_interleave(scale, 1).numpy()]


def look(judge: Judge, picture: Tensor) -> tuple[Finding, Tensor]:
    """The main thing of a picture (H, W, 3) uint8, and the picture's cells. What is small is named from near."""
    cells = cells_of(judge, picture[None])[0]
    found = find(picture, cells)
    rows, columns = ((1 - cells[0] > 0.5).any(axis).nonzero().flatten() for axis in (1, 0))
    if len(rows):
        (y0, y1), (x0, x1) = ((float(side[0]) / CELLS, float(side[-1] + 1) / CELLS) for side in (rows, columns))
        if max(y1 - y0, x1 - x0) < SMALL:
            near = find_in(judge, picture, (x0, y0, x1, y1))
            found = found._replace(thing=near.thing, colour=near.colour)
    return found, cells


def find_in(judge: Judge, picture: Tensor, box: Box) -> Finding:
    """The main thing in a box of a picture (H, W, 3) uint8, seen from near: a square about it fills the judge's view.

    x, y and share are those of the square.
    """
    height, width = picture.shape[:2]
    side = min(width, height, round(NEAR * max((box[2] - box[0]) * width, (box[3] - box[1]) * height)))
    left = min(max(0, round((box[0] + box[2]) / 2 * width - side / 2)), width - side)
    top = min(max(0, round((box[1] + box[3]) / 2 * height - side / 2)), height - side)
    part = Image.fromarray(picture[top : top + side, left : left + side].numpy())
    seen = torch.from_numpy(np.array(part.resize((SIDE, SIDE), Image.Resampling.BILINEAR)))
    x0, y0, x1, y1 = box
    window = ((x0 * width - left) / side, (y0 * height - top) / side, (x1 * width - left) / side,
              (y1 * height - top) / side)
    return find(seen, cells_of(judge, seen[None])[0], window)


def save_judge(judge: Judge, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in judge.state_dict().items()}, folder / "judge.safetensors")


def load_judge(folder: Path) -> Judge:
    judge = Judge()
    judge.load_state_dict({k: v.float() for k, v in load_file(folder / "judge.safetensors").items()})
    return judge.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


class Ceiling(NamedTuple):
    """How often the judge is right on renders of one flat thing that it never saw: what its verdicts can reach."""

    thing: float
    colour: float
    confused: list[str]  # what it took for what, worst first


def unseen_scene(seed: int) -> Scene | None:
    """A scene of one thing in a held-out colour, flat or before a blurred background; None where the seed has none."""
    scene = sample_scene(HELD_OUT_SEED + 50_000 + seed, most=1)
    thing = scene.things[0]
    colours = [colour for colour in COLOURS if held_out(thing.name, colour) and colour != scene.backdrop_colour]
    if scene.style not in ("flat", "blurred background") or not colours:
        return None
    return scene._replace(things=(thing._replace(colour=colours[seed % len(colours)]),))


def unseen_scenes(count: int, first: int = 0) -> list[Scene]:
    """The first `count` of them from a seed on."""
    return list(itertools.islice(filter(None, map(unseen_scene, itertools.count(first))), count))


def on_renders(judge: Judge, count: int = 300) -> Ceiling:
    """Judges `count` renders of pairs of thing and colour that no training saw, as the samples' prompts are."""
    right = coloured = 0
    named: list[tuple[str, str]] = []
    for scene in unseen_scenes(count):
        picture = torch.from_numpy(np.array(paint(scene, 256)[0]))
        found, thing = look(judge, picture)[0], scene.things[0]
        right += found.thing == thing.name
        coloured += found.colour == thing.colour
        named.append((thing.name, found.thing))
    return Ceiling(right / count, coloured / count, confusions(named))
