"""The distil stage: a U-Net that needs 4 passes instead of 40.

It learns where the guided model's path ends, at the four points where a consistency sampler asks (Luo et al., latent
consistency, arXiv:2310.04378), from whole paths of the model itself (Luhman and Luhman, arXiv:2101.02388): what to say
is then known from the first step on, and need not spread from the path's end as in consistency training. Guidance is a
fixed one, so the words are asked once.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, LCMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from core.storybook import networks as n
from core.storybook.closeups import CloseUps
from core.storybook.lessons import Lessons
from core.storybook.loop import Batch, Run, fit
from core.storybook.sampling import Parts, decode, embed, noise_of
from core.storybook.tokens import encode, make_tokenizer
from core.storybook.train_diffusion import SHEET, save_grid

RATE = 4e-4
GUIDANCE = 5.0
POINTS = 999, 759, 499, 259  # timesteps at which LCMScheduler asks for 4 steps
PATH = 999, 919, 839, 759, 669, 579, 499, 379, 259, 149, 49  # timesteps at which the teacher is asked, by DPM++ 2M
BOUNDARY = 0.5, 10.0  # sigma_data and the scale of timesteps in LCMScheduler's boundary condition
AGAIN = 2  # times that a path is learnt from again, later: it costs twice as much as learning from it
KEPT = 400  # batches that may come again
HUBER = 0.03  # below this a difference counts squared


def boundary(t: Tensor) -> tuple[Tensor, Tensor]:
    """The shares of x_t and of the predicted x0 in the answer at timestep t (B): at 0 the answer is x_t itself."""
    data, scale = BOUNDARY
    scaled = t.float() * scale
    skip = data**2 / (scaled**2 + data**2)
    return skip[:, None, None, None], (scaled / (scaled**2 + data**2).sqrt())[:, None, None, None]


class Student(nn.ModuleDict):
    """The student, "unet", and the loss that ties it to the guided teacher's paths."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        def load() -> n.Network:
            return n.ready_to_learn(UNet2DConditionModel.from_pretrained(folder / "unet"), device)

        super().__init__({"unet": load()})
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.ndim > 1)  # so that what it learns fits into a LoRA
        self._teacher = (load().eval().requires_grad_(False),)  # in a tuple, so that it is nobody's submodule
        text: n.Network = CLIPTextModel.from_pretrained(folder / "text_encoder")
        self._text = (text.to(device).eval().requires_grad_(False),)
        self._silence = encode(make_tokenizer(), [""]).to(device)
        self._paths: OrderedDict[int, tuple[list[Tensor], Tensor]] = OrderedDict()  # by the name of their first sample
        self.device = device
        self.alphas = n.make_scheduler().alphas_cumprod.to(device)

    def answer(self, x: Tensor, t: Tensor, words: Tensor) -> Tensor:
        """Where the path through x at t (B) ends, (B, 4, h, w)."""
        alpha, (skip, out) = self.alphas[t][:, None, None, None], boundary(t)
        v = self["unet"](x.contiguous(memory_format=torch.channels_last), t, words).sample.float()
        return skip * x + out * (alpha.sqrt() * x - (1 - alpha).sqrt() * v)

    @torch.no_grad()
    def path(self, x: Tensor, words: Tensor, silence: Tensor) -> tuple[list[Tensor], Tensor]:
        """The guided teacher's way from noise x (B, 4, h, w) -> (what it was at POINTS, its end)."""
        (teacher,) = self._teacher
        scheduler: n.Network = DPMSolverMultistepScheduler.from_config(n.make_scheduler().config)
        scheduler.set_timesteps(timesteps=list(PATH))
        texts, seen = torch.cat([silence, words]), []
        for t in PATH:
            if t in POINTS:
                seen.append(x)
            both = torch.cat([x, x]).contiguous(memory_format=torch.channels_last)
            away, towards = teacher(both, t, texts).sample.float().chunk(2)
            x = scheduler.step(away + GUIDANCE * (towards - away), t, x).prev_sample
        return seen, x

    def known_path(self, name: int, x: Tensor, words: Tensor, silence: Tensor) -> tuple[list[Tensor], Tensor]:
        """`path`, gone once only for the samples of that name."""
        if name not in self._paths:
            self._paths[name] = self.path(x, words, silence)
        while len(self._paths) > KEPT * n.workers(self.device):
            self._paths.popitem(last=False)
        return self._paths[name]

    def loss(self, part: Batch) -> tuple[Tensor, dict[str, float]]:
        noise, ids = part["noise"].to(self.device), part["ids"].to(self.device)
        (text,) = self._text
        with n.autocast(self.device):
            with torch.no_grad():
                words = text(ids).last_hidden_state
                silence = text(self._silence).last_hidden_state.expand(len(noise), -1, -1)
            seen, end = self.known_path(int(part["name"][0]), noise, words, silence)
            t = torch.tensor(POINTS, device=self.device).repeat_interleave(len(noise))
            guess = self.answer(torch.cat(seen), t, words.repeat(len(POINTS), 1, 1))
        error = (guess - end.repeat(len(POINTS), 1, 1, 1)).square()
        first, *_, last = error.detach().mean((1, 2, 3)).sqrt().view(len(POINTS), -1).mean(1).tolist()
        return ((error + HUBER**2).sqrt() - HUBER).mean(), {"rms first": first, "rms last": last}


@torch.no_grad()
def few_steps(parts: Parts, prompts: list[str], side: int, steps: int = len(POINTS)) -> Tensor:
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
    """Trains on both sizes of canvas and on close-ups, from folder/unet; writes folder/lcm -> this run's losses."""
    folder, device = run.folder, run.device
    lessons: list[Lessons | CloseUps] = [Lessons(run, 128), Lessons(run, 256), CloseUps(run)]
    torch.manual_seed(5)
    student = Student(folder, device)
    vae: n.Network = AutoencoderKL.from_pretrained(folder / "vae").to(device).eval()
    text: n.Network = CLIPTextModel.from_pretrained(folder / "text_encoder")
    text.to(device)

    kept: deque[Batch] = deque(maxlen=KEPT)

    def draw(generator: torch.Generator) -> Batch:
        """Only what to paint, and the noise that it begins with; each is asked at every point, and again later."""
        if kept and int(torch.randint(1 + AGAIN, (), generator=generator)):
            return kept[int(torch.randint(len(kept), (), generator=generator))]
        held = lessons[int(torch.randint(len(lessons), (), generator=generator))].draw(generator)
        count = max(2, len(held["ids"]) // len(POINTS))
        names = torch.randint(2**62, (count,), generator=generator)
        kept.append({"noise": held["noise"][:count], "ids": held["ids"][:count], "name": names})
        return kept[-1]

    def sheet(ema: dict[str, nn.Module], samples: int) -> None:
        pictures = few_steps(Parts(make_tokenizer(), text, ema["unet"], vae), SHEET, 32)
        save_grid(pictures, folder / "sheet-distil.png", 6)
        ema["unet"].save_pretrained(folder / "lcm")  # type: ignore[operator]

    _, final = fit("distil", run, {"unet": student["unet"]}, {"unet": run.rate or RATE}, draw, student.loss,
                   weight_decay=0.0, sheet=sheet)
    losses: list[float] = final["losses"]
    return losses
