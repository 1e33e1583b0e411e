"""The model card: written from recorded figures only, so that it cannot say more than was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from core.request import Request
from core.storybook.data import CANVASES, HELD_OUT_SEED, render_many
from core.storybook.evaluate import RECONSTRUCTED, Plan
from core.storybook.export import folder_bytes
from core.storybook.studio import Studio
from core.storybook.train_diffusion import save_grid
from core.storybook.vocabulary import COLOURS, SCENES, STYLES, THINGS

BARS = {  # first version, full quality
    "right thing": (0.60, 0.90),
    "right colour": (0.80, 0.95),
    "right side": (0.70, 0.90),
    "right thing in its box": (0.50, 0.85),
    "autoencoder PSNR": (26.0, 32.0),
}
MEANING = {
    "right thing": "the judge's main thing is the one asked for",
    "right colour": "painting the thing in it would explain its pixels better than any other of the twelve",
    "right side": "the middle of all things lies in the half asked for (left, right, top, bottom); a coin gets 50 %",
    "right thing in a style": "the same, asked for in one of the styles other than flat",
    "right thing in its box": "three painted boxes, as the Regions tab asks Storybook for them: MultiDiffusion with "
    "20 % bootstrapping, each region's prompt says where its box lies, small regions look at crops; counted per box",
    "places not said": "the same boxes and seeds without the places",
    "on whole pictures": "the same boxes and seeds with the places and without crops",
    "as published": "the same boxes and seeds without either: MultiDiffusion with 20 % bootstrapping and nothing else",
    "without bootstrapping": "the same boxes and seeds without that, too",
    "in one prompt": "the same words and seeds without regions, each thing with its place in the words",
    "autoencoder PSNR": f"mean over {RECONSTRUCTED} held-out scenes of 256 pixels",
    "scorer: thing of 16": "the scorer picks the one caption of 16 that names the thing of an unseen render, all in "
    "its colour (by chance 6 %); and the same of the thing's own box, as region scores see it",
    "scorer: colour of 12": "likewise of the twelve captions that differ in the colour (by chance 8 %)",
}
SIDE = 6  # pictures a side of samples.jpg and renders.jpg


def _shown(value: float) -> str:
    return f"{value:.2f} dB" if value > 1 else f"{100 * value:.1f} %"


def write_card(weights: Path, device: torch.device) -> None:
    """Writes README.md, renders.jpg (what training pictures look like) and samples.jpg (made of the same captions)."""
    guidance = Plan().guidance
    captions = write_pictures(weights, device, guidance)
    held = json.loads((weights / "figures.json").read_text())
    training = json.loads((weights / "training.json").read_text())
    notes = weights / "NOTES.md"
    parts = [introduction(folder_bytes(weights), captions, guidance), quality(held), provenance(training)]
    if notes.exists():
        parts.append(notes.read_text().strip())
    (weights / "README.md").write_text("\n\n".join(parts) + "\n")


def write_pictures(weights: Path, device: torch.device, guidance: float) -> list[str]:
    """renders.jpg and samples.jpg, at half size -> their captions."""
    count = SIDE * SIDE
    scenes = render_many(CANVASES[256], HELD_OUT_SEED + 1000, 2 * count)
    chosen = [i for i, caption in enumerate(scenes.captions) if caption][:count]
    captions = [scenes.captions[i] for i in chosen]
    studio = Studio(weights, device)
    settings = Plan(guidance=guidance).settings(studio)
    asked = [Request(prompt=caption, seed=i, **settings) for i, caption in enumerate(captions)]
    for name, pictures in (("renders", [scenes.pictures[i] for i in chosen]), ("samples", studio.paint(asked))):
        halves = torch.from_numpy(np.stack([_half(one) for one in pictures]))
        save_grid(halves, weights / f"{name}.jpg", SIDE, quality=82)
    return captions


def _half(picture: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).reduce(2))


def introduction(size: int, captions: list[str], guidance: float) -> str:
    """What it is, and how it looks. size: bytes of all files."""
    plain = Plan(guidance=guidance)
    return "\n\n".join([
        "# Storybook",
        "A small latent diffusion model of a storybook world, trained by this project on pictures it draws itself "
        f"({len(THINGS)} things, {len(COLOURS)} colours, {len(SCENES)} scenes, {len(STYLES)} styles). "
        "The folder loads in plain diffusers: `StableDiffusionPipeline.from_pretrained(path)`. 256 x 256 pixels, "
        f"v prediction. All files: {size / 2**20:.1f} MiB, float16.",
        "| renders, such as it was trained on | samples of the same captions |\n|---|---|\n"
        "| ![renders](renders.jpg) | ![samples](samples.jpg) |",
        "Both are of scenes that training never saw, none picked, shown at half size; samples at 256 pixels by "
        f"{plain.steps} steps of {plain.sampler}, guidance {guidance:g}, seeds 0 to {len(captions) - 1}. Row by row: "
        + "; ".join(captions) + ".",
    ])


def quality(held: dict[str, Any]) -> str:
    """The table of figures.json, what each row means, and how far the judge can be trusted."""
    lines = [
        "## How good it is",
        "",
        f"Measured by `{held['command']}` ({held['sampler']}, {held['steps']} steps, guidance {held['guidance']:g}) "
        f"on {held['hardware']} in {held['minutes']} minutes, on combinations of thing and colour that the renderer "
        "never draws for training (the rule is `held_out` in `../vocabulary.py`). Intervals are 95 %, Wilson.",
        "",
        "| | reached | 95 % interval | n | first version | full quality | |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_row(name, value, held) for name, value in held["figures"].items()]
    ceiling = held["judge on renders"]
    lines += [
        "",
        *(f"- {name}: {meaning}." for name, meaning in MEANING.items() if name in held["figures"]),
        f"- The judge itself, on unseen flat renders of one thing in held-out colours: thing "
        f"{_shown(ceiling['thing'])}, colour {_shown(ceiling['colour'])}; of three drawn into the boxes "
        f"{_shown(ceiling['in boxes'])}. It is a small convolutional network trained "
        "on renders in every colour, some of them seen through the autoencoder; no part of the generator, and it never "
        "saw a sample. What it cannot tell on renders it cannot find in samples either: read the table against this.",
    ]
    if held["judge confuses"]:
        lines.append("- What it got wrong there most often: " + "; ".join(held["judge confuses"][:8]) + ".")
    lines += ["", "### What goes wrong", "", "Worst first, of the single things above (`evaluate --confusion` prints "
              "all of it).", ""]
    lines += [f"- By {kind}: " + ("; ".join(rows[:6]) or "nothing") + "." for kind, rows in held["confused"].items()]
    return "\n".join(lines)


def _row(name: str, value: float, held: dict[str, Any]) -> str:
    low, high = held["intervals"].get(name, (0, 0))
    spread = f"{100 * low:.0f} to {100 * high:.0f} %" if name in held["intervals"] else ""
    first, full = BARS.get(name, (0.0, 0.0))
    bars, reached = " | ", ""
    if name in BARS:
        bars = f"{_shown(first)} | {_shown(full)}"
        reached = "full quality" if value >= full else "first version" if value >= first else "below the first version"
    return f"| {name} | {_shown(value)} | {spread} | {held['counts'].get(name, RECONSTRUCTED)} | {bars} | {reached} |"


def provenance(training: dict[str, dict[str, Any]]) -> str:
    """What each stage took."""
    lines = ["## How it was trained", "", "| stage | steps | samples | minutes | device |", "|---|---|---|---|---|"]
    for stage, facts in training.items():
        size = stage.removeprefix("diffusion")
        command = f"diffusion --size {size}" if size != stage else stage
        lines.append(f"| `train --stage {command}` | {facts['steps']} | {facts['samples']} | {facts['minutes']} "
                     f"| {facts['device']} |")
    return "\n".join([*lines, "", "Each by `python -m core.storybook train --stage STAGE --minutes M --data DIR`, then "
                      "`export`, `evaluate --record` and `card`."])
