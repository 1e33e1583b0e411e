"""The preview stage: a tiny autoencoder on the autoencoder's own scaled latents (what TAESD is to Stable Diffusion)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from core.storybook import networks as n
from core.storybook.loop import Batch, Run, fit
from core.storybook.train_autoencoder import CROP, draw_crops, load_pool, picture_loss

RATE = 2e-3


def preview_stage(run: Run) -> None:
    """Trains on latents of 64-pixel crops and writes folder/preview (diffusers' AutoencoderTiny)."""
    folder, device = run.folder, run.device
    vae: n.Network = AutoencoderKL.from_pretrained(folder / "vae").to(device).eval().requires_grad_(False)
    torch.manual_seed(4)
    tiny = n.make_preview().to(device, memory_format=torch.channels_last)
    pool, batch = load_pool(folder), run.batch_or(8, 128)
    scale = float(vae.config.scaling_factor)

    def draw(generator: torch.Generator) -> Batch:
        noise = torch.randn(batch, 4, CROP // n.SCALE, CROP // n.SCALE, generator=generator)
        return {"crops": draw_crops(pool, batch, generator), "noise": noise}

    def loss_of(part: Batch) -> tuple[Tensor, dict[str, float]]:
        pictures = n.to_unit(part["crops"].to(device))
        with n.autocast(device):
            with torch.no_grad():
                latents = vae.quant_conv(vae.encoder(pictures))[:, :4].float() * scale
            made = tiny.decoder(latents + 0.05 * part["noise"].to(device)).float()
            guess = tiny.encoder(pictures).float()
        wanted = F.avg_pool2d(pictures, pictures.shape[-1] // made.shape[-1])
        loss = picture_loss(made, wanted) + 0.2 * F.mse_loss(guess, latents)
        return loss, {"l1": (made - wanted).abs().mean().item()}

    ema, _ = fit("preview", run, {"tiny": tiny}, {"tiny": run.rate or RATE}, draw, loss_of)
    ema["tiny"].save_pretrained(folder / "preview")  # type: ignore[operator]
