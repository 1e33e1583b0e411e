"""Pens and colours: what every drawing of the Storybook world is made with."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

RGB = tuple[int, int, int]

PALETTE: dict[str, RGB] = {
    "red": (214, 45, 48),
    "orange": (242, 132, 34),
    "yellow": (248, 210, 56),
    "green": (62, 155, 72),
    "turquoise": (56, 190, 188),
    "blue": (48, 96, 206),
    "purple": (134, 70, 188),
    "pink": (245, 146, 188),
    "brown": (128, 82, 48),
    "black": (44, 44, 52),
    "white": (246, 244, 239),
    "grey": (142, 146, 152),
}


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """The colour `share` of the way from a (0) to b (1)."""
    return (
        round(a[0] + (b[0] - a[0]) * share),
        round(a[1] + (b[1] - a[1]) * share),
        round(a[2] + (b[2] - a[2]) * share),
    )


def jitter(colour: RGB, rng: random.Random, amount: int = 9) -> RGB:
    """The colour, each channel moved by at most `amount`."""
    r, g, b = (min(255, max(0, channel + rng.randint(-amount, amount))) for channel in colour)
    return (r, g, b)


class Ink(NamedTuple):
    """The shades one thing is painted with."""

    main: RGB
    dark: RGB  # its shaded side
    light: RGB  # its lit side
    line: RGB  # outlines

    @classmethod
    def of(cls, main: RGB) -> Ink:
        return cls(main, mix(main, (20, 16, 36), 0.26), mix(main, (255, 252, 240), 0.30), mix(main, (24, 18, 34), 0.66))


Points = Sequence[tuple[float, float]]


class Pen:
    """Draws in the unit square of a transparent tile; x to the right, y down, both 0..1.

    width, height: pixels of the tile. Lines are a share of the longer side.
    """

    def __init__(self, width: int, height: int, ink: Ink, rng: random.Random) -> None:
        self.tile = Image.new("RGBA", (width, height), (*ink.main, 0))
        self.draw = ImageDraw.Draw(self.tile)
        self.width, self.height, self.ink, self.rng = width, height, ink, rng
        self.stroke = max(1, round(max(width, height) * 0.014))

    def _xy(self, points: Points) -> list[tuple[float, float]]:
        return [(x * (self.width - 1), y * (self.height - 1)) for x, y in points]

    def ellipse(self, x0: float, y0: float, x1: float, y1: float, fill: RGB, line: bool = True) -> None:
        outline = self.ink.line if line else None
        self.draw.ellipse(self._xy([(x0, y0), (x1, y1)]), fill, outline, self.stroke if line else 0)

    def disc(self, x: float, y: float, radius: float, fill: RGB, line: bool = True) -> None:
        """A circle; the radius is a share of the tile's width."""
        ry = radius * self.width / self.height
        self.ellipse(x - radius, y - ry, x + radius, y + ry, fill, line)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: RGB, round_: float = 0, line: bool = True) -> None:
        outline = self.ink.line if line else None
        radius = round_ * max(self.width, self.height)
        points = self._xy([(x0, y0), (x1, y1)])
        self.draw.rounded_rectangle(points, radius, fill, outline, self.stroke if line else 0)

    def poly(self, points: Points, fill: RGB, line: bool = True) -> None:
        xy = self._xy(points)
        self.draw.polygon(xy, fill)
        if line:
            self.draw.line([*xy, xy[0], xy[1]], self.ink.line, self.stroke, joint="curve")

    def line(self, points: Points, fill: RGB, width: float = 0.014) -> None:
        """A polyline; the width is a share of the tile's longer side."""
        self.draw.line(self._xy(points), fill, max(1, round(width * max(self.width, self.height))), joint="curve")

    def pie(self, x0: float, y0: float, x1: float, y1: float, start: float, end: float, fill: RGB) -> None:
        """A sector of an ellipse, degrees clockwise from three o'clock."""
        self.draw.pieslice(self._xy([(x0, y0), (x1, y1)]), start, end, fill, self.ink.line, self.stroke)

    def chord(self, x0: float, y0: float, x1: float, y1: float, start: float, end: float, fill: RGB) -> None:
        self.draw.chord(self._xy([(x0, y0), (x1, y1)]), start, end, fill, self.ink.line, self.stroke)

    def blob(self, points: Points, fill: RGB, line: bool = True) -> None:
        """A smooth closed curve through the points (Catmull-Rom)."""
        self.poly(smooth(points), fill, line)


def smooth(points: Points, pieces: int = 6) -> list[tuple[float, float]]:
    """A closed Catmull-Rom curve through the points."""
    n, curve = len(points), []
    for i in range(n):
        p0, p1, p2, p3 = (points[(i + k - 1) % n] for k in range(4))
        for step in range(pieces):
            t = step / pieces
            curve.append(
                tuple(
                    0.5
                    * (
                        2 * p1[a]
                        + (p2[a] - p0[a]) * t
                        + (2 * p0[a] - 5 * p1[a] + 4 * p2[a] - p3[a]) * t * t
                        + (3 * p1[a] - p0[a] - 3 * p2[a] + p3[a]) * t**3
                    )
                    for a in (0, 1)
                )
            )
    return curve  # type: ignore[return-value]


def ring(x: float, y: float, rx: float, ry: float, count: int, start: float = -90.0) -> list[tuple[float, float]]:
    """`count` points on an ellipse, clockwise from `start` degrees."""
    angles = [math.radians(start + 360 * i / count) for i in range(count)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]
