"""The judge stage: renders of every kind, roughened, so that samples are in its world. It never sees a sample."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from core.storybook import judge as j
from core.storybook import networks as n
from core.storybook.data import read_shard, reduced, shards
from core.storybook.loop import Batch, Run, fit
from core.storybook.sampling import decode
from core.storybook.train_autoencoder import encode_shards
from core.storybook.train_text import importance
from core.storybook.vocabulary import THINGS

RATE = 2e-3
DECODED = {128: 8, 256: 4}  # shards that are seen through the autoencoder too: samples come out of its decoder
DECODED_SHARE = 0.3  # of the pictures drawn
NOTHING_WEIGHT = 0.3  # in the loss: there is far more nothing than things
ROUGHNESS = 0.5  # most noise on latents of unit variance before they are decoded


def load_scenes(folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Every render at 128 pixels -> (pictures (N, 128, 128, 3) uint8, labels (N, 32, 32) uint8, shares (N))."""
    pictures, labels, shares = [], [], []
    for size in (128, 256):
        for path in shards(folder, size):
            scenes = read_shard(path)
            pictures.append(torch.from_numpy(reduced(scenes.pictures)))
            labels.append(torch.from_numpy(scenes.labels))
            shares.append(importance(scenes.captions, labels[-1]))
    if not pictures:
        raise FileNotFoundError(f"no scenes in {folder}: run --stage render first")
    return torch.cat(pictures), torch.cat(labels), torch.cat(shares)


def decoded_scenes(folder: Path, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Some renders as the decoder shows them, from latents with noise; as `load_scenes` gives them."""
    vae: n.Network = AutoencoderKL.from_pretrained(folder / "vae").to(device, memory_format=torch.channels_last).eval()
    generator = torch.Generator("cpu").manual_seed(7)
    pictures, labels, shares = [], [], []
    for size, limit in DECODED.items():
        for path in encode_shards(folder, size, device, limit):
            held = torch.load(path, weights_only=True)
            x = held["latents"].float()
            amount = ROUGHNESS * torch.rand(len(x), 1, 1, 1, generator=generator).square()
            rough = (x + amount * torch.randn(x.shape, generator=generator)).to(device)
            with ThreadPoolExecutor(n.workers(device)) as pool:
                made = [reduced(part.numpy()) for part in pool.map(lambda part: decode(vae, part), rough.split(50))]
            pictures.append(torch.from_numpy(np.concatenate(made)))
            labels.append(held["labels"])
            shares.append(importance(held["captions"], held["labels"]))
    return torch.cat(pictures), torch.cat(labels), torch.cat(shares)


def place(batch: int, generator: torch.Generator) -> Tensor:
    """(batch, 2, 3) maps from places of the new picture to places of the old: mirrored, moved, zoomed, stretched."""
    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, generator=generator)

    zoom, stretch = between(0.75, 1.35), between(0.9, 1.1)
    mirror = torch.randint(2, (batch,), generator=generator) * 2.0 - 1
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = mirror * zoom * stretch, zoom / stretch
    theta[:, 0, 2], theta[:, 1, 2] = between(-0.2, 0.2), between(-0.2, 0.2)
    return theta


def roughen(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 3, 128, 128) in -1..1 in other colours, light, sharpness and grain.

    Half of them with their channels in another order: a thing is what it is in any colour, held-out ones too.
    """
    def draw(*shape: int) -> Tensor:
        return torch.rand(len(pictures), *shape, generator=generator)

    order = torch.where(draw(1) < 0.5, draw(3), torch.tensor([0.0, 1.0, 2.0])).argsort(1)
    x = pictures.gather(1, order[..., None, None].expand_as(pictures))
    x = x * (0.8 + 0.4 * draw(1, 1, 1)) + 0.3 * (draw(3, 1, 1) - 0.5)
    soft = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, 1)
    x = torch.lerp(x, soft, 0.8 * draw(1, 1, 1).square() * (draw(1, 1, 1) < 0.6))
    return (x + 0.15 * draw(1, 1, 1).square() * torch.randn(x.shape, generator=generator)).clamp(-1, 1)


def vary(pictures: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """(B, 128, 128, 3) uint8 and (B, 32, 32) as another place would show them -> (B, 3, 128, 128), (B, 32, 32) int64.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    theta = place(len(pictures), generator)
    grid = F.affine_grid(theta, [len(pictures), 3, j.SIDE, j.SIDE], align_corners=False)
    moved = F.grid_sample(n.to_unit(pictures), grid, padding_mode="reflection", align_corners=False)
    coarse = F.affine_grid(theta, [len(labels), 1, 32, 32], align_corners=False)
    found = F.grid_sample(labels[:, None].float(), coarse, "nearest", "reflection", align_corners=False)
    return roughen(moved, generator), found[:, 0].long()


def judge_stage(run: Run) -> None:
    """Trains the judge and writes folder/judge."""
    device, batch = run.device, run.batch_or(64, 512)
    sets = [load_scenes(run.folder), decoded_scenes(run.folder, device)]
    pictures, labels = (torch.cat(parts) for parts in list(zip(*sets, strict=True))[:2])
    shares = torch.cat([sets[0][2] / sets[0][2].sum(), sets[1][2] / sets[1][2].sum() * DECODED_SHARE])
    torch.manual_seed(3)
    judge = j.Judge().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = torch.ones(len(THINGS) + 1, device=device)
    weights[0] = NOTHING_WEIGHT

    def draw(generator: torch.Generator) -> Batch:
        chosen = torch.multinomial(shares, batch, replacement=True, generator=generator)
        return {"chosen": chosen, "seeds": torch.randint(2**62, (batch,), generator=generator)}

    def loss_of(part: Batch) -> tuple[Tensor, dict[str, float]]:
        shown, things = vary(pictures[part["chosen"]], labels[part["chosen"]], int(part["seeds"][0]))
        truth = F.one_hot(things.to(device), len(THINGS) + 1).permute(0, 3, 1, 2).float()
        there = (truth[:, 1:].mean((2, 3)) > 0.004).float()
        truth = F.avg_pool2d(truth, truth.shape[-1] // j.CELLS)
        with n.autocast(device):
            maps = judge.maps(shown.to(device))
            guess, present = judge.cells(maps).float(), judge.presence(maps).float()
        naming = F.cross_entropy(present, there / there.sum(1, keepdim=True).clamp_min(1))
        right = (guess.argmax(1) == truth.argmax(1))[truth[:, 0] < 0.5].float().mean().item()
        return F.cross_entropy(guess, truth, weights) + naming, {"naming": naming.item(), "right": right}

    ema, _ = fit("judge", run, {"judge": judge}, {"judge": run.rate or RATE}, draw, loss_of,
                 weight_decay=0.03)
    j.save_judge(ema["judge"], run.folder / "judge")  # type: ignore[arg-type]
    report = j.on_renders(j.load_judge(run.folder / "judge"))
    print(f"judge: {report.thing:.1%} of things and {report.colour:.1%} of colours on unseen renders", flush=True)
