"""The diffusion stage: v prediction on cached latents, first on small canvases, then at full size."""

from __future__ import annotations

import threading
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel

from core.storybook import networks as n
from core.storybook.closeups import CloseUps
from core.storybook.lessons import Lessons
from core.storybook.loop import Batch, Run, fit
from core.storybook.progress import load_checkpoint
from core.storybook.sampling import Parts, make_pictures
from core.storybook.tokens import make_tokenizer
from core.storybook.vocabulary import THINGS, examples

RATES = {128: 1e-3, 256: 7e-4}
TEXT_SHARE = 0.3  # of the U-Net's learning rate for the text tower
GAMMA = 5.0  # signal-to-noise ratio above which the loss counts less
LABEL_WEIGHT = 0.2


class Guide(nn.Module):
    """Tells from the U-Net's inner features which thing is in which cell; only there to teach, thrown away after.

    Supervising inner features speeds diffusion training up (the idea of REPA, arXiv:2410.06940); here the renderer's
    own labels take the place of another network's features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.GroupNorm(16, width), nn.SiLU(), nn.Conv2d(width, len(THINGS) + 1, 1))
        self.features: dict[int, Tensor] = {}  # thread -> the last output it saw

    def watch(self, block: nn.Module) -> None:
        block.register_forward_hook(lambda _m, _i, output: self.features.__setitem__(threading.get_ident(), output))

    def loss(self, labels: Tensor) -> Tensor:
        """labels: (B, 32, 32) of 0 (nothing) or 1 + thing."""
        guess = self.head(self.features.pop(threading.get_ident())).float()
        wanted = F.one_hot(labels.long(), len(THINGS) + 1).permute(0, 3, 1, 2).float()
        return F.cross_entropy(guess, F.avg_pool2d(wanted, labels.shape[-1] // guess.shape[-1]))


class Denoiser(nn.ModuleDict):
    """What the stage trains: "unet", "text" and "guide", and the loss that ties them."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        unet = n.ready_to_learn(n.make_unet(), device)
        attention = "eager" if device.type == "cpu" else "sdpa"  # as in the denoiser: its backward is cheaper there
        text: n.Network = CLIPTextModel.from_pretrained(folder / "text", attn_implementation=attention)
        guide = Guide(unet.config.block_out_channels[-1]).to(device)
        guide.watch(unet.up_blocks[0])
        super().__init__({"unet": unet, "text": text.to(device), "guide": guide})
        self.device = device
        self.alphas = n.make_scheduler().alphas_cumprod.to(device)

    def begin_from(self, folder: Path) -> None:
        """Takes over the networks of the 128-pixel run, or unpacked weights, if there are any."""
        before = load_checkpoint(folder / "diffusion128.pt")
        if before:
            for name, module in self.items():
                module.load_state_dict(before["ema"][name])
        elif (folder / "unet").is_dir():  # unpacked weights; the text tower has them already
            self["unet"].load_state_dict(UNet2DConditionModel.from_pretrained(folder / "unet").state_dict())

    def loss(self, part: Batch) -> tuple[Tensor, dict[str, float]]:
        held = {name: rows.to(self.device) for name, rows in part.items()}
        alpha = self.alphas[held["t"]][:, None, None, None]
        x0, noise = held["x0"], held["noise"]
        noisy = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
        v = alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
        with n.autocast(self.device):
            words = self["text"](held["ids"]).last_hidden_state
            guess = self["unet"](noisy.contiguous(memory_format=torch.channels_last), held["t"], words).sample.float()
            naming = self["guide"].loss(held["labels"])  # type: ignore[operator]
        # weight 1 where the picture is decided; less where only grain is left to predict
        weight = (GAMMA * (1 - alpha) / alpha).clamp(max=1)
        error = (guess - v).square()
        loss = (weight * error).mean()
        return loss + LABEL_WEIGHT * naming, {"v": error.mean().item(), "naming": naming.item()}


SHEET = [
    *examples(),
    "a red sofa",
    "a green ball",
    "a white cat on a plain blue background",
    "a blue car on a city street",
    "a yellow star at the top left",
    "a pink house on a meadow",
    "a black dog on the right",
    "a tree",
]


def diffusion_stage(run: Run, size: int, shards: int | None = None, small: float = 0.0, close: float = 0.0
                    ) -> list[float]:
    """Trains on scenes of `size` pixels and writes folder/unet and folder/text_encoder (the EMA) -> this run's losses.

    At 128 pixels it starts from the text stage; at 256 from the networks of the 128-pixel run, or unpacked weights.
    small: share of the steps that go on with 128-pixel scenes at 256; they cost a third and teach the same shapes.
    close: share of those that see what small regions see, about as cheap.
    """
    folder, device = run.folder, run.device
    lessons: list[Lessons | CloseUps] = [Lessons(run, size, shards)]
    shares = [1 - small - close]
    if small:
        lessons, shares = [*lessons, Lessons(run, 128, shards)], [*shares, small]
    if close:
        lessons, shares = [*lessons, CloseUps(run, shards)], [*shares, close]
    tokenizer = make_tokenizer()
    torch.manual_seed(2)
    denoiser = Denoiser(folder, device)
    rate = run.rate or RATES[size]
    vae: n.Network = AutoencoderKL.from_pretrained(folder / "vae").to(device).eval()

    def start() -> None:
        if size == 256:
            denoiser.begin_from(folder)

    def draw(generator: torch.Generator) -> Batch:
        return lessons[int(torch.multinomial(torch.tensor(shares), 1, generator=generator))].draw(generator)

    def sheet(ema: dict[str, nn.Module], samples: int) -> None:
        parts = Parts(tokenizer, ema["text"], ema["unet"], vae)
        pictures = make_pictures(parts, SHEET, range(len(SHEET)), size // n.SCALE)
        save_grid(pictures, folder / f"sheet-diffusion{size}.png", 6)
        save_networks(ema["unet"], ema["text"], folder)  # so that export works at any moment

    rates = {"unet": rate, "text": TEXT_SHARE * rate, "guide": rate}
    _, final = fit(f"diffusion{size}", run, dict(denoiser.items()), rates, draw, denoiser.loss, start=start,
                   sheet=sheet)
    losses: list[float] = final["losses"]
    return losses


def save_networks(unet: n.Network, text: n.Network, folder: Path) -> None:
    """Writes folder/unet and folder/text_encoder."""
    unet.save_pretrained(folder / "unet")
    text.save_pretrained(folder / "text_encoder")


def save_grid(pictures: Tensor, path: Path, columns: int, quality: int = 88) -> None:
    """(B, H, W, 3) uint8 as one picture of `columns` columns."""
    rows = [torch.cat(list(part), 1) for part in pictures.split(columns) if len(part) == columns]
    Image.fromarray(torch.cat(rows, 0).numpy()).save(path, quality=quality)
