"""The model card: written from recorded figures only, so that it cannot say more than was measured."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from core.storybook import networks as n
from core.storybook.data import CANVASES, HELD_OUT_SEED, render_many
from core.storybook.evaluate import GUIDANCE, load_parts
from core.storybook.export import folder_bytes
from core.storybook.sampling import make_pictures
from core.storybook.train_diffusion import save_grid
from core.storybook.vocabulary import COLOURS, SCENES, STYLES, THINGS, examples

BARS = {  # first version, full quality
    "right thing": (0.60, 0.90),
    "right colour": (0.80, 0.95),
    "right side": (0.70, 0.90),
    "right thing in its box": (0.50, 0.85),
    "autoencoder PSNR": (26.0, 32.0),
}
MEANING = {
    "right thing": "the judge's main thing is the one asked for",
    "right colour": "most of the thing's pixels have the colour asked for",
    "right side": "the middle of all things lies in the half asked for (left, right, top, bottom); a coin gets 50 %",
    "right thing in its box": "three painted boxes, MultiDiffusion, 20 % bootstrapping; counted per box",
    "autoencoder PSNR": "mean over 100 held-out scenes of 256 pixels",
}
PROMPTS = [
    *examples(),
    "a green ball",
    "a white cat on a plain blue background",
    "a blue car on a city street",
    "a yellow star at the top left",
    "a pink house on a meadow",
    "a black dog on the right",
    "a purple flower in the desert",
    "a tree",
]


def _shown(value: float) -> str:
    return f"{value:.2f} dB" if value > 1 else f"{100 * value:.1f} %"


def write_card(weights: Path, device: torch.device) -> None:
    """Writes README.md, samples.jpg (18 prompts) and renders.jpg (what training pictures look like)."""
    pictures = make_pictures(load_parts(weights, device), PROMPTS, range(len(PROMPTS)), guidance=GUIDANCE)
    save_grid(pictures[:, ::2, ::2], weights / "samples.jpg", 6, quality=82)
    renders = torch.from_numpy(render_many(CANVASES[256], HELD_OUT_SEED + 1000, 12).pictures)
    save_grid(renders[:, ::2, ::2], weights / "renders.jpg", 6, quality=82)
    held = json.loads((weights / "figures.json").read_text())
    training = json.loads((weights / "training.json").read_text())
    lines = [
        "# Storybook",
        "",
        "A small latent diffusion model of a storybook world, trained by this project on pictures it draws itself "
        f"({len(THINGS)} things, {len(COLOURS)} colours, {len(SCENES)} scenes, {len(STYLES)} styles). "
        "The folder loads in plain diffusers: `StableDiffusionPipeline.from_pretrained(path)`. 256 x 256 pixels, "
        f"v prediction. All files: {folder_bytes(weights) / 2**20:.1f} MiB, float16.",
        "",
        "![samples](samples.jpg)",
        "",
        f"Samples at {n.SCALE * 32} pixels (shown at half size), 20 DDIM steps, guidance {GUIDANCE:g}, seeds 0 to "
        f"{len(PROMPTS) - 1}, one each, none picked. Row by row: " + "; ".join(PROMPTS) + ".",
        "",
        "![renders](renders.jpg)",
        "",
        "What it was trained on: renders of the scene grammar.",
        "",
        "## How good it is",
        "",
        f"Measured by `{held['command']}` ({held['steps']} steps, guidance {held['guidance']:g}) on "
        f"{held['hardware']} in {held['minutes']} minutes, on combinations of thing and colour that the renderer "
        "never draws for training (the rule is `held_out` in `../vocabulary.py`). Intervals are 95 %, Wilson.",
        "",
        "| | reached | 95 % interval | n | first version | full quality | |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, value in held["figures"].items():
        low, high = held["intervals"].get(name, (0, 0))
        spread = f"{100 * low:.0f} to {100 * high:.0f} %" if name in held["intervals"] else ""
        first, full = BARS[name]
        reached = "full quality" if value >= full else "first version" if value >= first else "below the first version"
        lines.append(
            f"| {name} | {_shown(value)} | {spread} | {held['counts'].get(name, 100)} "
            f"| {_shown(first)} | {_shown(full)} | {reached} |"
        )
    ceiling = held["judge on renders"]
    lines += [
        "",
        *(f"- {name}: {meaning}." for name, meaning in MEANING.items()),
        f"- The judge itself, on unseen flat renders of one thing: thing {_shown(ceiling['thing'])}, "
        f"colour {_shown(ceiling['colour'])}. It is a small classifier trained on renders, no part of the "
        "generator; it looks through the autoencoder's encoder, which generation does not use. What it cannot tell "
        "on renders it cannot find in samples either: read the first row against this.",
        "",
        "## How it was trained",
        "",
        "| stage | steps | samples | minutes | device |",
        "|---|---|---|---|---|",
    ]
    for stage, facts in training.items():
        size = stage.removeprefix("diffusion")
        command = f"diffusion --size {size}" if size != stage else stage
        lines.append(
            f"| `train --stage {command}` | {facts['steps']} | {facts['samples']} "
            f"| {facts['minutes']} | {facts['device']} |"
        )
    lines += [
        "",
        "Each by `python -m core.storybook train --stage STAGE --minutes M --data DIR`, "
        "then `export`, `evaluate --record` and `card`.",
        "",
    ]
    notes = weights / "NOTES.md"
    if notes.exists():
        lines += [notes.read_text().strip(), ""]
    (weights / "README.md").write_text("\n".join(lines))
