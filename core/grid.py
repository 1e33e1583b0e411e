"""A comparison as one labelled picture: a row for each combination of the first axes, a column for the last one."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from core.compare import Comparison, shown
from core.files import disk_errors

SIDE, LEAST = 256, 64  # pixels of a cell's longer side, at most, and of either side, at least
GAP, MARGIN, TEXT = 8, 16, 15
HEAD = 3 * TEXT  # pixels for the columns' labels
LEFT = 168  # pixels for the rows' labels
LETTERS = 20  # of a label in a line
PAPER, INK, FAINT = (250, 249, 247), (38, 36, 44), (214, 210, 204)


def draw(comparison: Comparison, pictures: Sequence[np.ndarray | None], errors: Sequence[str] = (),
         side: int = SIDE, corner: str = "") -> Image.Image:
    """pictures: one (H, W, 3) uint8 per cell of the comparison, None where there is none; errors: why.

    side: pixels of a cell's longer side, at most. corner: a word above the rows' labels.
    """
    columns = comparison.axes[-1]
    across = len(columns.values)
    rows = [comparison.grid[k:k + across] for k in range(0, len(comparison.grid), across)]
    width, height = cell_size(pictures, side)
    font = ImageFont.load_default(TEXT)
    top = MARGIN + HEAD
    sheet = Image.new("RGB", sheet_size(comparison, (width, height)), PAPER)
    pen = ImageDraw.Draw(sheet)
    _write(pen, (MARGIN, MARGIN), corner, font, 2)
    for x, value in enumerate(columns.values):
        label = shown(columns.field, value, comparison.equal_evaluations)
        _write(pen, (LEFT + x * (width + GAP), MARGIN), label, font, 2, min(LETTERS, width // 8))
    for y, (cells, label) in enumerate(zip(rows, row_labels(comparison), strict=True)):
        _write(pen, (MARGIN, top + y * (height + GAP)), label, font, height // (TEXT + 4))
        for x, cell in enumerate(cells):
            place = LEFT + x * (width + GAP), top + y * (height + GAP)
            picture = pictures[cell]
            if picture is None:
                pen.rectangle((*place, place[0] + width - 1, place[1] + height - 1), outline=FAINT)
                why = errors[cell] if cell < len(errors) and errors[cell] else "not made"
                _write(pen, (place[0] + 8, place[1] + 8), why, font, height // (TEXT + 4), width // 9)
            else:
                still = Image.fromarray(picture)
                still.thumbnail((width, height), Image.Resampling.LANCZOS)
                sheet.paste(still, place)
    return sheet


def save(sheet: Image.Image, path: Path) -> None:
    """Raises OutputError."""
    draft = path.with_name(f".{path.name}.part")
    with disk_errors("grid", path.parent):
        sheet.save(draft, "PNG")
        draft.replace(path)


def row_labels(comparison: Comparison) -> list[str]:
    """One for each combination of values of all axes but the last, in the order of the rows."""
    labels = [""]
    for axis in comparison.axes[:-1]:
        labels = [f"{label}\n{shown(axis.field, value, comparison.equal_evaluations)}".strip()
                  for label in labels for value in axis.values]
    return labels


def cell_size(pictures: Sequence[np.ndarray | None], side: int = SIDE) -> tuple[int, int]:
    """The box (width, height) in pixels that holds the largest picture, scaled down to `side`."""
    there = [picture.shape for picture in pictures if picture is not None]
    width, height = max((s[1] for s in there), default=side), max((s[0] for s in there), default=side)
    scale = min(1.0, side / max(width, height))
    return max(LEAST, round(width * scale)), max(LEAST, round(height * scale))


def sheet_size(comparison: Comparison, cell: tuple[int, int]) -> tuple[int, int]:
    """(width, height) in pixels of the whole picture with cells of that size."""
    across = len(comparison.axes[-1].values)
    rows = len(comparison.grid) // across
    return LEFT + across * (cell[0] + GAP) + MARGIN, MARGIN + HEAD + rows * (cell[1] + GAP) + MARGIN


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _write(pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, font: Font, most: int,
           letters: int = LETTERS) -> None:
    """Text in lines of `letters`, at most `most` of them; what is longer ends in dots."""
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, letters) or [""]]
    if len(lines) > most:
        lines = [*lines[:most - 1], lines[most - 1][:letters - 3] + "..."]
    pen.multiline_text(place, "\n".join(lines), INK, font, spacing=4)
