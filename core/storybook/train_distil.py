"""The distil stage: a U-Net that needs 4 passes instead of 40, by latent consistency (Luo et al., arXiv:2310.04378).

It learns to jump from any point of the guided model's path to the path's end, by agreeing with itself one step further
along; guidance is a fixed one, so the words are asked once. What it learnt fits into a LoRA (arXiv:2311.05556):
`difference` of the two U-Nets.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderKL, LCMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel

from core.storybook import networks as n
from core.storybook.closeups import CloseUps
from core.storybook.lessons import Lessons
from core.storybook.loop import Batch, Run, fit
from core.storybook.sampling import Parts, decode, embed, noise_of
from core.storybook.tokens import encode, make_tokenizer
from core.storybook.train_diffusion import SHEET, save_grid

RATE = 3e-4
GUIDANCE = 5.0
POINTS = 50  # of the path, as LCMScheduler places its steps on it
AHEAD = 2  # points from a question to the one it must agree with
BOUNDARY = 0.5, 10.0  # sigma_data and the scale of timesteps in LCMScheduler's boundary condition
HUBER = 0.03  # below this a difference counts squared
RANK = 64


def boundary(t: Tensor) -> tuple[Tensor, Tensor]:
    """The shares of x_t and of the predicted x0 in the answer at timestep t (B): at 0 the answer is x_t itself."""
    data, scale = BOUNDARY
    scaled = t.float() * scale
    skip = data**2 / (scaled**2 + data**2)
    return skip[:, None, None, None], (scaled / (scaled**2 + data**2).sqrt())[:, None, None, None]


class Consistency(nn.ModuleDict):
    """The student, "unet", and the loss that ties it to the guided teacher's path."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        def load() -> n.Network:
            unet: n.Network = UNet2DConditionModel.from_pretrained(folder / "unet")
            if device.type == "cpu":
                unet.set_attn_processor(AttnProcessor())  # plain matmul: its backward is far cheaper there
            return unet.to(device, memory_format=torch.channels_last)

        super().__init__({"unet": load()})
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.ndim > 1)  # a LoRA changes neither biases nor norms
        self._teacher = (load().eval().requires_grad_(False),)  # in a tuple, so that it is nobody's submodule
        text: n.Network = CLIPTextModel.from_pretrained(folder / "text_encoder")
        self._text = (text.to(device).eval().requires_grad_(False),)
        self._silence = encode(make_tokenizer(), [""]).to(device)
        self.device = device
        self.alphas = n.make_scheduler().alphas_cumprod.to(device)

    def at(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise of x_t at timesteps t (B), each (B, 1, 1, 1)."""
        alpha = self.alphas[t][:, None, None, None]
        return alpha.sqrt(), (1 - alpha).sqrt()

    def answer(self, x: Tensor, t: Tensor, words: Tensor) -> Tensor:
        """Where the path through x at t ends, (B, 4, h, w)."""
        (signal, noise), (skip, out) = self.at(t), boundary(t)
        v = self["unet"](x.contiguous(memory_format=torch.channels_last), t, words).sample.float()
        return skip * x + out * (signal * x - noise * v)

    def ahead(self, x: Tensor, t: Tensor, s: Tensor, words: Tensor, silence: Tensor) -> Tensor:
        """One DDIM step of the guided teacher, from t to s."""
        (teacher,) = self._teacher
        both, texts = torch.cat([x, x]), torch.cat([silence, words])
        away, towards = teacher(both.contiguous(memory_format=torch.channels_last), torch.cat([t, t]),
                                texts).sample.float().chunk(2)
        v = away + GUIDANCE * (towards - away)
        (signal, noise), (next_signal, next_noise) = self.at(t), self.at(s)
        return next_signal * (signal * x - noise * v) + next_noise * (noise * x + signal * v)

    def loss(self, part: Batch) -> tuple[Tensor, dict[str, float]]:
        held = {name: rows.to(self.device) for name, rows in part.items()}
        t = (held["t"] * POINTS // 1000 + 1) * (1000 // POINTS) - 1
        s = (t - AHEAD * 1000 // POINTS).clamp(min=0)
        signal, noise = self.at(t)
        x = signal * held["x0"] + noise * held["noise"]
        (text,) = self._text
        with n.autocast(self.device):
            with torch.no_grad():
                words = text(held["ids"]).last_hidden_state
                silence = text(self._silence).last_hidden_state.expand(len(x), -1, -1)
                wanted = self.answer(self.ahead(x, t, s, words, silence), s, words)
            guess = self.answer(x, t, words)
        error = (guess - wanted).square()
        return ((error + HUBER**2).sqrt() - HUBER).mean(), {"rms": error.mean().sqrt().item()}


@torch.no_grad()
def few_steps(parts: Parts, prompts: list[str], side: int, steps: int = 4) -> Tensor:
    """Prompts -> (B, 8 side, 8 side, 3) uint8, each of its own seed, unguided."""
    scheduler: n.Network = LCMScheduler.from_config(n.make_scheduler().config)
    scheduler.set_timesteps(steps, device=parts.unet.device)
    generator = torch.Generator("cpu").manual_seed(0)
    x, words = noise_of(range(len(prompts)), side).to(parts.unet.device), embed(parts, prompts)
    for t in scheduler.timesteps:
        with n.autocast(x.device):
            v = parts.unet(x, t, words).sample.float()
        x, clean = scheduler.step(v, t, x, generator=generator, return_dict=False)
    return decode(parts.vae, clean)


def distil_stage(run: Run) -> list[float]:
    """Trains on both sizes of canvas and on close-ups, from folder/unet; writes folder/quick -> this run's losses."""
    folder, device = run.folder, run.device
    lessons: list[Lessons | CloseUps] = [Lessons(run, 128), Lessons(run, 256), CloseUps(run)]
    torch.manual_seed(5)
    student = Consistency(folder, device)
    vae: n.Network = AutoencoderKL.from_pretrained(folder / "vae").to(device).eval()
    text: n.Network = CLIPTextModel.from_pretrained(folder / "text_encoder")
    text.to(device)

    def draw(generator: torch.Generator) -> Batch:
        return lessons[int(torch.randint(len(lessons), (), generator=generator))].draw(generator)

    def sheet(ema: dict[str, nn.Module], samples: int) -> None:
        pictures = few_steps(Parts(make_tokenizer(), text, ema["unet"], vae), SHEET, 32)
        save_grid(pictures, folder / "sheet-distil.png", 6)
        ema["unet"].save_pretrained(folder / "quick")  # type: ignore[operator]

    _, final = fit("distil", run, {"unet": student["unet"]}, {"unet": run.rate or RATE}, draw, student.loss,
                   weight_decay=0.0, sheet=sheet)
    losses: list[float] = final["losses"]
    return losses


@torch.no_grad()
def difference(base: n.Network, tuned: n.Network, rank: int = RANK) -> dict[str, Tensor]:
    """What makes of `base` very nearly `tuned`, as a LoRA in diffusers' names: per layer the largest `rank` directions
    of the weights' difference (Eckart and Young 1936). Biases and norms stay the base's.

    Returns float16 tensors, "unet.LAYER.lora_A.weight" (r, in, ...) and "unet.LAYER.lora_B.weight" (out, r, ...).
    """
    layers = dict(base.named_modules())
    result = {}
    for name, layer in tuned.named_modules():
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            continue
        change = (layer.weight - layers[name].weight).float()
        u, s, v = torch.linalg.svd(change.flatten(1), full_matrices=False)
        kept = min(rank, len(s))
        root = s[:kept].sqrt()
        down, up = root[:, None] * v[:kept], u[:, :kept] * root
        if isinstance(layer, nn.Conv2d):
            down, up = down.unflatten(1, change.shape[1:]), up[:, :, None, None]
        result[f"unet.{name}.lora_A.weight"] = down.half().contiguous()
        result[f"unet.{name}.lora_B.weight"] = up.half().contiguous()
    return result
