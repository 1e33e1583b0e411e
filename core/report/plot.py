"""Curves over numbers of network calls, drawn with Pillow: a small PNG that a Markdown page can show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 900, 520  # pixels of a plot
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 66, 52
FINE = 2  # drawn so many times as large, and scaled down: smooth lines
PAPER, INK, FAINT, SOFT = (255, 255, 255), (38, 36, 44), (228, 225, 220), (118, 114, 124)
# Okabe and Ito's, told apart by the colour-blind too, without yellow, which paper swallows; then others
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (70, 70, 78), (170, 110, 0), (110, 64, 170),
           (100, 170, 220), (190, 30, 45), (120, 140, 20))
MARKS = ("disc", "square", "diamond", "ring")
STEPS = (1, 1.5, 2, 3, 5, 7)  # of a logarithmic scale's lines, times powers of ten


class Curve(NamedTuple):
    """points: (calls, value) in the order of the calls."""

    name: str
    points: tuple[tuple[float, float], ...]


class _Scale(NamedTuple):
    low: float
    high: float
    log: bool

    def part(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def draw(curves: Sequence[Curve], title: str, y_words: str, ticks: Sequence[int], log: bool = False,
         level: tuple[str, float] | None = None) -> Image.Image:
    """All curves in one frame, each named at its right end. ticks: calls that are marked. log: of the values; calls
    always are. level: a line across, with its name. Values must be above 0 where log."""
    values = [y for curve in curves for _, y in curve.points] + ([level[1]] if level else [])
    calls = sorted({*ticks, *(x for curve in curves for x, _ in curve.points)})
    if not values:
        raise ValueError("nothing to draw")
    across = _Scale(calls[0] / 1.12, calls[-1] * 1.12, True)
    upward = _range(min(values), max(values), log)
    sheet = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14 * FINE)

    def place(x: float, y: float) -> tuple[float, float]:
        return (FINE * (LEFT + across.part(x) * (WIDTH - LEFT - RIGHT)),
                FINE * (HEIGHT - BOTTOM - upward.part(y) * (HEIGHT - TOP - BOTTOM)))

    left, right = place(across.low, upward.low)[0], place(across.high, upward.low)[0]
    for value in _lines(upward):
        y = place(calls[0], value)[1]
        pen.line((left, y, right, y), FAINT, FINE)
        pen.text((left - 8 * FINE, y), f"{value:g}", SOFT, font, anchor="rm")
    for x in ticks:
        pen.line((*place(x, upward.low), *place(x, upward.high)), FAINT, FINE)
        pen.text((place(x, upward.low)[0], FINE * (HEIGHT - BOTTOM + 8)), f"{x:g}", SOFT, font, anchor="mt")
    pen.text((FINE * 16, FINE * 14), title, INK, ImageFont.load_default(17 * FINE))
    pen.text((right, FINE * (HEIGHT - 14)), "network calls", SOFT, font, anchor="rb")
    pen.text((left, FINE * (TOP - 4)), y_words, SOFT, font, anchor="lb")
    names = []
    if level:
        y = place(calls[0], level[1])[1]
        pen.line((left, y, right, y), SOFT, FINE)
        names.append((y, level[0], SOFT, (right, y)))
    for k, curve in enumerate(curves):
        colour, mark = COLOURS[k % len(COLOURS)], MARKS[k // len(COLOURS) % len(MARKS)]
        points = [place(x, y) for x, y in curve.points]
        pen.line(points, colour, 2 * FINE, joint="curve")
        for point in points:
            _mark(pen, point, mark, colour)
        names.append((points[-1][1], curve.name, colour, points[-1]))
    _write_names(pen, names, right, font)
    return sheet.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def _range(low: float, high: float, log: bool) -> _Scale:
    """A little more than the values need."""
    if log:
        return _Scale(low / 1.15, high * 1.15, True)
    room = max(0.06 * (high - low), 1e-3 * abs(high), 1e-9)
    return _Scale(low - room, high + room, False)


def _lines(scale: _Scale) -> list[float]:
    """Round values within a scale, four to nine of them."""
    if scale.log:
        powers = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high)) + 1)
        found = [step * 10.0**power for power in powers for step in STEPS]
        inside = [value for value in found if scale.low <= value <= scale.high]
        return inside if len(inside) < 10 else [v for v in inside if f"{v:e}"[0] in "125" and f"{v:e}"[2] == "0"]
    unit = 10.0 ** math.floor(math.log10(scale.high - scale.low))
    step = next(s * unit for s in (0.1, 0.2, 0.5, 1, 2) if (scale.high - scale.low) / (s * unit) < 9)
    first = math.ceil(scale.low / step)
    return [round(k * step, 10) for k in range(first, math.floor(scale.high / step) + 1)]


def _mark(pen: ImageDraw.ImageDraw, point: tuple[float, float], kind: str, colour: tuple[int, int, int]) -> None:
    (x, y), r = point, 4.5 * FINE
    if kind == "diamond":
        pen.polygon([(x - 1.3 * r, y), (x, y - 1.3 * r), (x + 1.3 * r, y), (x, y + 1.3 * r)], colour)
    elif kind == "square":
        pen.rectangle((x - r, y - r, x + r, y + r), colour)
    else:
        pen.ellipse((x - r, y - r, x + r, y + r), PAPER if kind == "ring" else colour, colour, 2 * FINE)


_Name = tuple[float, str, tuple[int, int, int], tuple[float, float]]  # height, words, colour, the curve's end


def _write_names(pen: ImageDraw.ImageDraw, names: list[_Name], right: float,
                 font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> None:
    """The names at the right, moved apart where their curves end close together, with a thin line to each end."""
    line = min(18.0, (HEIGHT - TOP - 12) / max(1, len(names))) * FINE
    names = sorted(names, key=lambda name: name[0])
    heights = [name[0] for name in names]
    for _ in range(200):  # push neighbours apart until none touch
        for k in range(len(heights) - 1):
            overlap = line - (heights[k + 1] - heights[k])
            if overlap > 0:
                heights[k] -= overlap / 2
                heights[k + 1] += overlap / 2
        lowest = FINE * (HEIGHT - 12)
        heights = [min(max(h, FINE * TOP), lowest) for h in heights]
    for y, (_, words, colour, end) in zip(heights, names, strict=True):
        pen.line((*end, right + 8 * FINE, y), tuple((c + 2 * 255) // 3 for c in colour), FINE)
        pen.text((right + 12 * FINE, y), words, colour, font, anchor="lm")
