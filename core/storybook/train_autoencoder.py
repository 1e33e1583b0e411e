"""The autoencoder stage, the preview decoder, and pictures turned into latents."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from core.storybook import networks as n
from core.storybook.data import CANVASES, HELD_OUT_SEED, read_shard, render_many, shards
from core.storybook.loop import Batch, Run, fit
from core.storybook.progress import write_atomically

CROP = 64  # pixels: convergence depends on steps, not on pixels
RATE = 2e-3
DECODER_RATE = 1e-3
POOL_SHARDS = 24  # shards of each size from which crops are taken


def load_pool(folder: Path) -> list[Tensor]:
    """Pictures to crop from: uint8 tensors (N, size, size, 3), one per canvas size."""
    pool = []
    for size in CANVASES:
        found = shards(folder, size)[:POOL_SHARDS]
        if found:
            pool.append(torch.from_numpy(np.concatenate([read_shard(path).pictures for path in found])))
    if not pool:
        raise FileNotFoundError(f"no scenes in {folder}: run --stage render first")
    return pool


def draw_crops(pool: list[Tensor], batch: int, generator: torch.Generator) -> Tensor:
    """(batch, CROP, CROP, 3) uint8, at places that are multiples of 8 pixels."""
    crops = []
    for _ in range(batch):
        which = pool[int(torch.randint(len(pool), (), generator=generator))]
        i = int(torch.randint(len(which), (), generator=generator))
        places = (which.shape[1] - CROP) // n.SCALE + 1
        y, x = (torch.randint(places, (2,), generator=generator) * n.SCALE).tolist()
        crops.append(which[i, y : y + CROP, x : x + CROP])
    return torch.stack(crops)


def picture_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """L1 + 2 x L1 of the image gradients (B, 3, h, w)."""
    loss = F.l1_loss(made, wanted)
    for axis in (-1, -2):
        loss = loss + F.l1_loss(made.diff(dim=axis), wanted.diff(dim=axis))
    return loss


class Colours(nn.Module):
    """A linear map from latents to the mean colour of each cell: keeps the latents close to the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Conv2d(4, 3, 1)

    def forward(self, latents: Tensor) -> Tensor:
        return self.map(latents)


def autoencoder_stage(run: Run) -> None:
    """Trains the autoencoder and writes folder/vae (diffusers, float32) with its scaling factor set."""
    folder, device = run.folder, run.device
    torch.manual_seed(0)
    vae = n.make_autoencoder().to(device, memory_format=torch.channels_last)
    colours = Colours().to(device)
    pool, batch = load_pool(folder), run.batch_or(8, 128)

    def draw(generator: torch.Generator) -> Batch:
        noise = torch.randn(batch, 4, CROP // n.SCALE, CROP // n.SCALE, generator=generator)
        return {"crops": draw_crops(pool, batch, generator), "noise": noise}

    def loss_of(part: Batch) -> tuple[Tensor, dict[str, float]]:
        pictures = n.to_unit(part["crops"].to(device))
        with n.autocast(device):
            means = vae.quant_conv(vae.encoder(pictures))[:, :4]
            noisy = means + n.LATENT_NOISE * part["noise"].to(device)
            made = vae.decoder(vae.post_quant_conv(noisy)).float()
            mean_colours = colours(means).float()
        means = means.float()
        cells = F.avg_pool2d(pictures, n.SCALE)
        first = picture_loss(made, pictures)
        # unit variance is wanted, not enforced: the penalty keeps noise of 0.1 meaningful
        loss = first + 0.3 * F.l1_loss(mean_colours, cells) + 0.002 * means.square().mean()
        return loss, {"l1": (made - pictures).abs().mean().item(), "std": means.std().item()}

    held_out = torch.from_numpy(render_many(CANVASES[256], HELD_OUT_SEED, 24).pictures)

    def sheet(ema: dict[str, nn.Module], samples: int) -> None:
        made, psnr = reconstruct(ema["vae"], held_out, device)
        print(f"autoencoder: PSNR {psnr:.2f} dB on 24 held-out scenes", flush=True)
        rows = [torch.cat([a, b], 0) for a, b in zip(held_out[:8], made[:8], strict=True)]
        Image.fromarray(torch.cat(rows, 1).numpy()).save(folder / "sheet-autoencoder.png")

    rate = run.rate or RATE
    ema, _ = fit("autoencoder", run, {"vae": vae, "colours": colours}, {"vae": rate, "colours": rate}, draw, loss_of,
                 sheet=sheet, sheet_seconds=180)
    finish(ema["vae"], pool, folder / "vae", device)


def decoder_stage(run: Run) -> None:
    """Goes on with the decoder alone, on full latents of a finished encoder, and rewrites folder/vae.

    The latents stay what they are, so it may run beside or after the diffusion stage.
    """
    folder, device = run.folder, run.device
    vae: n.Network = AutoencoderKL.from_pretrained(folder / "vae")
    vae = vae.to(device, memory_format=torch.channels_last)
    pool, batch = load_pool(folder), run.batch_or(8, 128)

    def draw(generator: torch.Generator) -> Batch:
        noise = torch.randn(batch, 4, CROP // n.SCALE, CROP // n.SCALE, generator=generator)
        return {"crops": draw_crops(pool, batch, generator), "noise": noise}

    def loss_of(part: Batch) -> tuple[Tensor, dict[str, float]]:
        pictures = n.to_unit(part["crops"].to(device))
        with n.autocast(device):
            with torch.no_grad():
                means = vae.quant_conv(vae.encoder(pictures))[:, :4]
            noisy = means + 0.5 * n.LATENT_NOISE * part["noise"].to(device)
            made = vae.decoder(vae.post_quant_conv(noisy)).float()
        return picture_loss(made, pictures), {"l1": (made - pictures).abs().mean().item()}

    parts = {"decoder": vae.decoder, "post": vae.post_quant_conv}
    ema, _ = fit("decoder", run, parts, dict.fromkeys(parts, run.rate or DECODER_RATE), draw, loss_of)
    vae.decoder, vae.post_quant_conv = ema["decoder"], ema["post"]
    vae.save_pretrained(folder / "vae")
    held_out = torch.from_numpy(render_many(CANVASES[256], HELD_OUT_SEED, 24).pictures)
    print(f"decoder: PSNR {reconstruct(vae, held_out, device)[1]:.2f} dB on 24 held-out scenes", flush=True)


@torch.no_grad()
def finish(vae: n.Network, pool: list[Tensor], out: Path, device: torch.device) -> None:
    """Sets the scaling factor from 2,048 crops, makes the posterior's spread a constant, saves."""
    crops = draw_crops(pool, 2048, torch.Generator("cpu").manual_seed(1)).split(128)
    means = torch.cat([vae.quant_conv(vae.encoder(n.to_unit(part.to(device))))[:, :4] for part in crops])
    vae.quant_conv.weight[4:] = 0
    vae.quant_conv.bias[4:] = 2 * float(np.log(n.LATENT_NOISE / 2))
    vae.register_to_config(scaling_factor=float(1 / means.std()))
    vae.save_pretrained(out)
    print(f"autoencoder: latents std {means.std():.3f}, per channel {means.std((0, 2, 3)).tolist()}", flush=True)


@torch.no_grad()
def reconstruct(vae: n.Network, pictures: Tensor, device: torch.device) -> tuple[Tensor, float]:
    """Pictures through encoder and decoder -> (uint8 pictures like the input, mean PSNR in dB over pictures)."""
    made = []
    for part in pictures.split(8):
        with n.autocast(device):
            z = vae.quant_conv(vae.encoder(n.to_unit(part.to(device))))[:, :4]
            out = vae.decoder(vae.post_quant_conv(z)).float()
        made.append(out.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu())
    whole = torch.cat(made)
    error = (whole.float() - pictures.float()).div(255).square().mean((1, 2, 3)).clamp_min(1e-10)
    return whole, float((-10 * error.log10()).mean())


def fingerprint(vae_folder: Path) -> str:
    """Names the weights of an encoder, so that latents of another are never mixed in."""
    held = load_file(vae_folder / "diffusion_pytorch_model.safetensors")
    digest = hashlib.sha256()
    for name in sorted(held):
        if name.startswith(("encoder.", "quant_conv.")):
            digest.update(held[name].numpy().tobytes())
    return digest.hexdigest()[:8]


def encode_shards(folder: Path, size: int, device: torch.device, limit: int | None = None) -> list[Path]:
    """Latents (scaled to unit variance, float16) of every finished shard; encodes only what is missing."""
    vae: n.Network = AutoencoderKL.from_pretrained(folder / "vae").to(device, memory_format=torch.channels_last).eval()
    out = folder / f"latents{size}-{fingerprint(folder / 'vae')}"
    out.mkdir(exist_ok=True)

    @torch.no_grad()
    def encode_one(path: Path) -> Path:
        target = out / path.with_suffix(".pt").name
        if not target.exists():
            scenes = read_shard(path)
            parts = []
            for part in torch.from_numpy(scenes.pictures).split(50 if device.type == "cpu" else 500):
                with n.autocast(device):
                    means = vae.quant_conv(vae.encoder(n.to_unit(part.to(device))))[:, :4]
                parts.append((means.float() * vae.config.scaling_factor).half().cpu())
            held = {"latents": torch.cat(parts), "captions": scenes.captions, "labels": torch.from_numpy(scenes.labels)}
            write_atomically(target, lambda file: torch.save(held, file))
        return target

    with ThreadPoolExecutor(n.workers(device)) as pool:
        return list(pool.map(encode_one, shards(folder, size)[:limit]))
