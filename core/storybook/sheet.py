"""The contact sheet of the regions' evaluation: the same words, asked for in several ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from core.storybook.cases import Trio, trios
from core.storybook.evaluate import Plan, ways
from core.storybook.studio import Studio

SIDE = 192  # pixels of one picture
GAP, HEADER = 8, 26
INK, PAPER, FRAME = (34, 34, 40), (250, 249, 246), (120, 124, 132)
HEADINGS = {"in one prompt": "one prompt", "without bootstrapping": "regions", "as published": "20 % bootstrapping",
            "on whole pictures": "places said, too", "right thing in its box": "and on crops"}  # names of `ways`


def write_sheet(weights: Path, device: torch.device, out: Path, rows: int, guidance: float) -> None:
    """The evaluation's first layouts, none picked: their boxes, one prompt, and regions with more and more help."""
    studio, chosen = Studio(weights, device), trios(rows)
    settings = Plan(guidance=guidance).settings(studio)
    asked = [ways(trio, seed=30_000 + i, **settings) for i, trio in enumerate(chosen)]
    painted = list(studio.paint([named[way] for named in asked for way in HEADINGS]))
    font = ImageFont.load_default(13)
    width = GAP + (SIDE + GAP) * (1 + len(HEADINGS))
    sheet = Image.new("RGB", (width, HEADER + (SIDE + GAP) * rows + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, heading in enumerate(["what is asked for", *HEADINGS.values()]):
        draw.text((GAP + column * (SIDE + GAP), 6), heading, INK, font)
    for row, trio in enumerate(chosen):
        made = painted[row * len(HEADINGS) : (row + 1) * len(HEADINGS)]
        for column, picture in enumerate([draw_boxes(trio), *map(_shown, made)]):
            sheet.paste(picture, (GAP + column * (SIDE + GAP), HEADER + row * (SIDE + GAP)))
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, quality=86)


def _shown(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX)


def draw_boxes(trio: Trio) -> Image.Image:
    """The layout with its prompts."""
    image = Image.new("RGB", (SIDE, SIDE), (255, 255, 255))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(10)
    draw.rectangle((0, 0, SIDE - 1, SIDE - 1), outline=FRAME)
    draw.text((5, SIDE - 15), trio.scene, FRAME, font)
    for phrase, box in zip(trio.phrases, trio.boxes, strict=True):
        x0, y0, x1, y1 = (round(edge * (SIDE - 1)) for edge in box)
        draw.rectangle((x0, y0, x1, y1), (240, 241, 244), INK)
        draw.multiline_text((x0 + 4, y0 + 4), phrase.replace(" ", "\n"), INK, font, spacing=1)
    return image
