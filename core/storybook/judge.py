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
from core.storybook.data import HELD_OUT_SEED
from core.storybook.draw import PALETTE
from core.storybook.loop import Batch, fit
from core.storybook.progress import load_checkpoint
from core.storybook.train_autoencoder import encode_shards
from core.storybook.train_text import Tower, importance, load_latents
from core.storybook.vocabulary import THINGS

SIDE = 128  # pixels; larger pictures are reduced to it
CELLS = 16  # the answer's side
RATE = 1e-3


class Judge(nn.Module):
    """Latents of a 128-pixel picture (B, 4, 16, 16) -> (B, 1 + things, 16, 16) logits; class 0 is 'nothing'.

    It looks at pictures through the autoencoder's encoder, which generation does not use: latents are quick to learn
    from. Its body starts as the image tower of the text stage.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = Tower().body  # 64 maps at 16x16, 128 at 8x8, 192 at 4x4, 256 at 2x2
        self.head = nn.Sequential(
            nn.Conv2d(64 + 128 + 192 + 256, 160, 1),
            nn.SiLU(),
            nn.Conv2d(160, 160, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(160, len(THINGS) + 1, 1),
        )
        self.present = nn.Linear(256 + 192, len(THINGS))  # which things are there at all; only there to teach

    def features(self, latents: Tensor) -> list[Tensor]:
        maps, x = [], latents
        for layer in self.body:
            x = layer(x)
            if isinstance(layer, nn.SiLU):
                maps.append(x)
        return maps

    def cells(self, maps: list[Tensor]) -> Tensor:
        grown = [F.interpolate(one, size=(CELLS, CELLS), mode="bilinear") for one in maps]
        return self.head(torch.cat(grown, 1))

    def forward(self, latents: Tensor) -> Tensor:
        return self.cells(self.features(latents))


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


@torch.no_grad()
def cells_of(judge: Judge, vae: n.Network, pictures: Tensor) -> Tensor:
    """Pictures (B, H, W, 3) uint8 -> probabilities (B, 1 + things, 16, 16)."""
    result = []
    for part in pictures.split(32):
        means = vae.encode(reduce_pictures(part).to(vae.device)).latent_dist.mode()
        result.append(judge((means * vae.config.scaling_factor).cpu()).softmax(1))
    return torch.cat(result)


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
    """Trains the judge on latents of renders of 128 pixels and writes folder/judge."""
    latents, captions, labels = load_latents(encode_shards(folder, 128, device))
    share = importance(captions, labels)
    torch.manual_seed(3)
    judge = Judge().to(device)
    batch = batch or (64 if device.type == "cpu" else 256)

    def start() -> None:
        before = load_checkpoint(folder / "text.pt")
        if before:
            tower = {k.removeprefix("tower.body."): v for k, v in before["ema"]["matcher"].items() if "tower.body" in k}
            judge.body.load_state_dict(tower)

    def draw(generator: torch.Generator) -> Batch:
        chosen = torch.multinomial(share, batch, replacement=True, generator=generator)
        x = latents[chosen].float()
        noise = torch.randn(x.shape, generator=generator) * torch.rand(batch, 1, 1, 1, generator=generator)
        return {"latents": x + 0.3 * noise, "labels": labels[chosen]}  # samples are rougher than renders

    def loss_of(part: Batch) -> tuple[Tensor, dict[str, float]]:
        with n.autocast(device):
            maps = judge.features(part["latents"].to(device))
            guess = judge.cells(maps).float()
            present = judge.present(torch.cat([one.amax((2, 3)) for one in maps[2:]], 1)).float()
        truth = F.one_hot(part["labels"].to(device).long(), len(THINGS) + 1).permute(0, 3, 1, 2).float()
        truth = F.avg_pool2d(truth, truth.shape[-1] // CELLS)
        there = (truth[:, 1:].amax((2, 3)) > 0.5).float()
        naming = F.cross_entropy(present, there / there.sum(1, keepdim=True).clamp_min(1))
        weights = torch.ones(len(THINGS) + 1, device=device)
        weights[0] = 0.5  # there is far more nothing than things
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
        start=start,
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


def on_renders(judge: Judge, vae: n.Network, count: int = 300) -> dict[str, float]:
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
        found = find(picture, cells_of(judge, vae, picture[None])[0])
        total += 1
        right += found.thing == scene.things[0].name
        coloured += found.colour == scene.things[0].colour
    return {"thing": right / total, "colour": coloured / total}
