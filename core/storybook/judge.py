"""The judge: which thing is in which cell of a picture, and in which colour. Trained on renders, never on samples."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.storybook import networks as n
from core.storybook.data import CANVASES, HELD_OUT_SEED, read_shard, shards
from core.storybook.draw import PALETTE
from core.storybook.loop import Batch, fit
from core.storybook.vocabulary import THINGS

SIDE = 64  # pixels; larger pictures are reduced to it
CELLS = 16  # the answer's side
RATE = 1e-3


def _block(wide: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(wide, out, 3, stride, 1), nn.GroupNorm(8, out), nn.SiLU())


class Judge(nn.Module):
    """(B, 3, 64, 64) in -1..1 -> (B, 1 + things, 16, 16) logits; class 0 is 'nothing'."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Sequential(_block(3, 32, 2), _block(32, 64, 2))
        self.coarse = nn.Sequential(_block(64, 128, 2), _block(128, 128, 1))
        self.wide = nn.Sequential(_block(128, 192, 2), _block(192, 192, 1), _block(192, 192, 1))
        self.mix = _block(128 + 192, 160, 1)
        self.head = nn.Conv2d(64 + 160, len(THINGS) + 1, 1)
        self.present = nn.Linear(160, len(THINGS))  # which things are there at all; only there to teach

    def features(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """-> (what the cells are told from (B, 224, 16, 16), the coarse maps (B, 160, 8, 8))."""
        fine = self.fine(pictures)
        coarse = self.coarse(fine)
        coarse = self.mix(torch.cat([coarse, F.interpolate(self.wide(coarse), scale_factor=2.0)], 1))
        return torch.cat([fine, F.interpolate(coarse, scale_factor=2.0)], 1), coarse

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.features(pictures)[0])


class Finding(NamedTuple):
    """What the judge saw. thing: the one that fills most cells. x, y: its middle, 0..1. colour: of its pixels."""

    thing: str
    x: float
    y: float
    colour: str
    share: float  # of the picture that the thing fills


def reduce_pictures(pictures: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, 64, 64) in -1..1, by area."""
    x = n.to_unit(pictures)
    return F.avg_pool2d(x, x.shape[-1] // SIDE) if x.shape[-1] > SIDE else x


# --- colours -------------------------------------------------------------------------------------------------


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


def _features(rgb: np.ndarray) -> np.ndarray:
    """RGB 0..255 -> (chroma as a vector by hue, lightness): shades of one paint lie close together."""
    result = []
    for r, g, b in rgb / 255:
        h, light, _ = colorsys.rgb_to_hls(r, g, b)
        chroma = max(r, g, b) - min(r, g, b)
        result.append((np.cos(2 * np.pi * h) * chroma, np.sin(2 * np.pi * h) * chroma, 0.6 * light))
    return np.array(result)


_TABLE = _name_table()


def colour_votes(pixels: np.ndarray) -> np.ndarray:
    """(N, 3) uint8 -> votes per colour of PALETTE."""
    cells = pixels // 16
    return np.bincount(_TABLE[cells[:, 0], cells[:, 1], cells[:, 2]], minlength=len(PALETTE))


# --- judging -------------------------------------------------------------------------------------------------


def cells_of(judge: Judge, pictures: Tensor) -> Tensor:
    """Pictures (B, H, W, 3) uint8 -> probabilities (B, 1 + things, 16, 16)."""
    with torch.no_grad():
        return torch.cat([judge(reduce_pictures(part)).softmax(1) for part in pictures.split(32)])


def find(picture: Tensor, cells: Tensor, window: tuple[float, float, float, float] = (0, 0, 1, 1)) -> Finding:
    """The main thing inside a window (x0, y0, x1, y1 in 0..1) of a picture (H, W, 3) whose cells are given."""
    x0, y0, x1, y1 = (round(edge * CELLS) for edge in window)
    inside = torch.zeros(CELLS, CELLS)
    inside[y0:y1, x0:x1] = 1
    mass = cells[1:] * inside
    best = int(mass.sum((1, 2)).argmax())
    weight = mass[best] + 1e-9
    middle = (torch.arange(CELLS) + 0.5) / CELLS
    x, y = float((weight.sum(0) * middle).sum() / weight.sum()), float((weight.sum(1) * middle).sum() / weight.sum())
    # the colour is that of the whole thing's cells, whichever class they were given
    solid = (1 - cells[0]) * inside > 0.5
    scale = picture.shape[0] // CELLS
    mask = solid.repeat_interleave(scale, 0).repeat_interleave(scale, 1).numpy()
    pixels = picture.numpy()[mask]
    colour = list(PALETTE)[int(colour_votes(pixels).argmax())] if len(pixels) else ""
    return Finding(list(THINGS)[best], x, y, colour, float(solid.float().mean()))


def judge_stage(folder: Path, minutes: float, device: torch.device, batch: int = 0, steps: int | None = None) -> None:
    """Trains the judge on renders of both sizes and writes folder/judge."""
    pictures, labels = [], []
    for size in CANVASES:
        for path in shards(folder, size)[: 60 if size == 128 else 32]:
            scenes = read_shard(path)
            by = size // SIDE
            part = torch.from_numpy(scenes.pictures).view(-1, SIDE, by, SIDE, by, 3).float().mean((2, 4))
            pictures.append(part.round().byte())
            labels.append(torch.from_numpy(scenes.labels))
    seen, wanted = torch.cat(pictures), torch.cat(labels)
    torch.manual_seed(3)
    judge = Judge().to(device)
    batch = batch or (32 if device.type == "cpu" else 256)

    def draw(generator: torch.Generator) -> Batch:
        chosen = torch.randint(len(seen), (batch,), generator=generator)
        soft = torch.rand(batch, generator=generator)
        return {
            "pictures": seen[chosen],
            "labels": wanted[chosen],
            "soft": soft,
            "noise": torch.randn(batch, 3, SIDE, SIDE, generator=generator),
        }

    def loss_of(part: Batch) -> tuple[Tensor, dict[str, float]]:
        x = n.to_unit(part["pictures"].to(device))
        soft = part["soft"].to(device)[:, None, None, None]
        x = torch.where(soft < 0.3, F.avg_pool2d(x, 3, 1, 1), x)  # samples are softer than renders
        x = x + 0.08 * soft * part["noise"].to(device)
        with n.autocast(device):
            cells, coarse = judge.features(x.contiguous(memory_format=torch.channels_last))
            guess, present = judge.head(cells).float(), judge.present(coarse.amax((2, 3))).float()
        truth = F.one_hot(part["labels"].to(device).long(), len(THINGS) + 1).permute(0, 3, 1, 2).float()
        truth = F.avg_pool2d(truth, truth.shape[-1] // CELLS)
        there = (truth[:, 1:].amax((2, 3)) > 0.5).float()
        naming = F.cross_entropy(present, there / there.sum(1, keepdim=True).clamp_min(1))
        weights = torch.ones(len(THINGS) + 1, device=device)
        weights[0] = 0.3  # there is far more nothing than things
        return F.cross_entropy(guess, truth, weights) + naming, {"naming": naming.item()}

    ema, _ = fit(
        "judge",
        folder / "judge.pt",
        {"judge": judge},
        {"judge": RATE},
        draw,
        loss_of,
        batch=batch,
        minutes=minutes,
        steps=steps,
        workers=n.workers(device),
        device=device,
    )
    save_judge(ema["judge"], folder / "judge")  # type: ignore[arg-type]


def save_judge(judge: Judge, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in judge.state_dict().items()}, folder / "judge.safetensors")


def load_judge(folder: Path) -> Judge:
    judge = Judge()
    judge.load_state_dict({k: v.float() for k, v in load_file(folder / "judge.safetensors").items()})
    return judge.eval()


def on_renders(judge: Judge, count: int = 300) -> dict[str, float]:
    """How often the judge is right on renders of one flat thing that it never saw: the ceiling of its verdicts."""
    from core.storybook.scenes import paint, sample_scene

    right = coloured = total = 0
    seed = HELD_OUT_SEED + 50_000
    while total < count:
        seed += 1
        scene = sample_scene(seed, most=1)
        if scene.style not in ("flat", "blurred background"):
            continue
        picture = torch.from_numpy(np.array(paint(scene, 256)[0]))
        found = find(picture, cells_of(judge, picture[None])[0])
        total += 1
        right += found.thing == scene.things[0].name
        coloured += found.colour == scene.things[0].colour
    return {"thing": right / total, "colour": coloured / total}
