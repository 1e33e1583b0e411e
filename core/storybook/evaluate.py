"""How good Storybook is: held-out prompts, 20 steps, a judge that is no part of the generator, 95 % intervals."""

from __future__ import annotations

import itertools
import json
import math
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from core.storybook import judge as j
from core.storybook import networks as n
from core.storybook.captions import SCENE_PHRASES
from core.storybook.data import CANVASES, HELD_OUT_SEED, render_many
from core.storybook.export import processor
from core.storybook.sampling import Box, Parts, make_layout, make_pictures
from core.storybook.train_autoencoder import reconstruct
from core.storybook.vocabulary import article, held_out_pairs

STEPS = 20
GUIDANCE = 5.0
SIDES = ("left", "right", "top", "bottom")
PHRASES = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}
TOLERANCE = 0.03  # other processors round differently; a picture or two of a hundred may turn


class Rate(NamedTuple):
    """A share of successes with its Wilson 95 % interval."""

    right: int
    of: int

    @property
    def value(self) -> float:
        return self.right / max(1, self.of)

    def interval(self) -> tuple[float, float]:
        count, p, z = max(1, self.of), self.value, 1.96
        middle = p + z * z / (2 * count)
        spread = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count))
        return (middle - spread) / (1 + z * z / count), (middle + spread) / (1 + z * z / count)

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{100 * self.value:5.1f} %  ({100 * low:.0f} to {100 * high:.0f} %, n = {self.of})"


def load_parts(weights: Path, device: torch.device) -> Parts:
    """Tokenizer, text tower, U-Net and autoencoder of a weights folder, in float32."""
    text: n.Network = CLIPTextModel.from_pretrained(weights / "text_encoder", dtype=torch.float32)
    return Parts(
        CLIPTokenizer.from_pretrained(weights / "tokenizer"),
        text.to(device).eval(),
        UNet2DConditionModel.from_pretrained(weights / "unet", torch_dtype=torch.float32).to(device).eval(),
        AutoencoderKL.from_pretrained(weights / "vae", torch_dtype=torch.float32).to(device).eval(),
    )


class Case(NamedTuple):
    """One prompt and what must be seen."""

    prompt: str
    thing: str
    colour: str
    side: str  # "" or one of SIDES


def single_cases(count: int, sides: bool) -> list[Case]:
    """Prompts for one held-out (thing, colour) each: bare, with a scene, or (sides) with a place."""
    rng = random.Random(5 if sides else 4)
    pairs = held_out_pairs()
    rng.shuffle(pairs)
    cases = []
    for i, (thing, colour) in enumerate(itertools.islice(itertools.cycle(pairs), count)):
        what, side = article(f"{colour} {thing}"), SIDES[i % 4] if sides else ""
        scene = rng.choice([phrases[0] for phrases in SCENE_PHRASES.values()])
        where = f" {PHRASES[side]}" if side else ""
        cases.append(Case(f"{what}{where} {scene}" if rng.random() < 0.6 else f"{what}{where}", thing, colour, side))
    return cases


def pictures_of(parts: Parts, cases: list[Case], first_seed: int, guidance: float, side: int) -> torch.Tensor:
    """(B, H, W, 3) uint8, a seed each; by as many threads as there are cores."""

    def some(start: int) -> torch.Tensor:
        part = cases[start : start + 8]
        seeds = range(first_seed + start, first_seed + start + len(part))
        return make_pictures(parts, [case.prompt for case in part], seeds, side, STEPS, guidance)

    with ThreadPoolExecutor(n.workers(parts.unet.device)) as pool:
        return torch.cat(list(pool.map(some, range(0, len(cases), 8))))


def middle_of_things(cells: torch.Tensor) -> tuple[float, float]:
    """The centre (x, y in 0..1) of everything that is not background."""
    mass = (1 - cells[0]).clamp_min(1e-6).pow(2)
    axis = (torch.arange(j.CELLS) + 0.5) / j.CELLS
    return float((mass.sum(0) * axis).sum() / mass.sum()), float((mass.sum(1) * axis).sum() / mass.sum())


def on_side(side: str, x: float, y: float) -> bool:
    return {"left": x < 0.5, "right": x > 0.5, "top": y < 0.5, "bottom": y > 0.5}[side]


def layouts(count: int) -> list[tuple[str, list[Box], list[str]]]:
    """Three boxes side by side on a scene: (background prompt, boxes, things asked)."""
    rng = random.Random(6)
    pairs, result = held_out_pairs(), []
    for _ in range(count):
        chosen, boxes = rng.sample(pairs, 3), []
        while len({thing for thing, _ in chosen}) < 3:
            chosen = rng.sample(pairs, 3)
        for k, (thing, colour) in enumerate(chosen):
            height = rng.uniform(0.38, 0.5)
            top = rng.uniform(0.05, 0.95 - height)
            boxes.append(Box(article(f"{colour} {thing}"), 0.02 + k * 0.33, top, 0.32 + k * 0.33, top + height))
        background = rng.choice(["a living room", "a meadow", "a beach", "a snowy field", "a plain background"])
        result.append((background, boxes, [thing for thing, _ in chosen]))
    return result


def measure(
    weights: Path, device: torch.device, count: int, boxes: int, guidance: float, side: int = 32
) -> dict[str, Rate | float]:
    """The table of the model card."""
    parts = load_parts(weights, device)
    cases, placed = single_cases(count, False), single_cases(max(4, count * 2 // 3), True)
    pictures = torch.cat(
        [pictures_of(parts, cases, 10_000, guidance, side), pictures_of(parts, placed, 20_000, guidance, side)]
    )
    asked = layouts(boxes)
    with ThreadPoolExecutor(n.workers(device)) as pool:
        painted = list(
            pool.map(
                lambda i: make_layout(parts, asked[i][0], asked[i][1], 30_000 + i, side, STEPS, guidance), range(boxes)
            )
        )
    judge = j.load_judge(weights / "judge")
    cells = j.cells_of(judge, parts.vae, pictures)
    found = [j.find(picture, seen) for picture, seen in zip(pictures, cells, strict=True)]
    everything = cases + placed
    thing = Rate(sum(f.thing == c.thing for f, c in zip(found, everything, strict=True)), len(everything))
    colour = Rate(sum(f.colour == c.colour for f, c in zip(found, everything, strict=True)), len(everything))
    sides = [on_side(c.side, *middle_of_things(seen)) for c, seen in zip(placed, cells[len(cases) :], strict=True)]
    inside = total = 0
    for picture, (_, regions, things) in zip(painted, asked, strict=True):
        seen = j.cells_of(judge, parts.vae, picture[None])[0]
        inside += sum(j.find(picture, seen, b[1:]).thing == t for b, t in zip(regions, things, strict=True))
        total += len(regions)
    scenes = torch.from_numpy(render_many(CANVASES[256], HELD_OUT_SEED, 100).pictures)
    return {
        "right thing": thing,
        "right colour": colour,
        "right side": Rate(sum(sides), len(sides)),
        "right thing in its box": Rate(inside, total),
        "autoencoder PSNR": reconstruct(parts.vae, scenes, device)[1],
    }


def evaluate(weights: Path, device: torch.device, count: int, boxes: int, guidance: float, record: bool) -> int:
    """Prints the table; with `record` writes it to figures.json -> 0, or 1 if below the recorded figures."""
    start = time.monotonic()
    figures = measure(weights, device, count, boxes, guidance)
    ceiling = j.on_renders(j.load_judge(weights / "judge"), load_parts(weights, device).vae)
    for name, value in figures.items():
        print(f"{name:24} {value if isinstance(value, Rate) else f'{value:5.2f} dB (n = 100 scenes)'}")
    print(f"the judge on unseen renders: thing {100 * ceiling['thing']:.1f} %, colour {100 * ceiling['colour']:.1f} %")
    path = weights / "figures.json"
    flat = {name: value.value if isinstance(value, Rate) else value for name, value in figures.items()}
    worse = []
    if path.exists() and not record:
        for name, wanted in json.loads(path.read_text())["figures"].items():
            slack = TOLERANCE if wanted <= 1 else 0.1  # dB
            if flat[name] < wanted - slack:
                worse.append(f"{name}: {flat[name]:.3f}, the card says {wanted:.3f}")
    if record:
        intervals = {
            name: [round(v, 4) for v in value.interval()] for name, value in figures.items() if isinstance(value, Rate)
        }
        counts = {name: value.of for name, value in figures.items() if isinstance(value, Rate)}
        held = {
            "figures": {name: round(value, 4) for name, value in flat.items()},
            "intervals": intervals,
            "counts": counts,
            "judge on renders": ceiling,
            "steps": STEPS,
            "guidance": guidance,
            "command": f"python -m core.storybook evaluate --count {count} --boxes {boxes} --guidance {guidance}",
            "hardware": processor() if device.type == "cpu" else torch.cuda.get_device_name(device),
            "minutes": round((time.monotonic() - start) / 60, 1),
        }
        path.write_text(json.dumps(held, indent=2) + "\n")
    for line in worse:
        print(f"WORSE {line}")
    return 1 if worse else 0
