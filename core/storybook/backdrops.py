"""The scenes things stand in: one painter per scene, each seeded, each telling where its ground begins."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from PIL import Image

from core.storybook.draw import PALETTE, RGB, Ink, Pen, jitter, mix

SKIES: dict[str, tuple[RGB, RGB]] = {  # time -> (top, at the horizon)
    "day": ((112, 180, 236), (206, 232, 246)),
    "evening": ((226, 112, 96), (252, 204, 130)),
    "night": ((18, 24, 62), (58, 70, 124)),
}
TINT: dict[str, tuple[RGB, float]] = {  # what the light of the hour does to everything else
    "day": ((255, 255, 255), 0.0),
    "evening": ((236, 120, 72), 0.22),
    "night": ((16, 20, 64), 0.52),
}


class Stage:
    """A backdrop being painted: a pen over an opaque picture, the hour, and the height of the ground's edge."""

    def __init__(self, size: int, time: str, rng: random.Random) -> None:
        self.size, self.time, self.rng = size, time, rng
        self.pen = Pen(size * 2, size * 2, Ink.of((90, 90, 90)), rng)
        self.horizon = 0.62

    def lit(self, colour: RGB) -> RGB:
        """The colour in the light of the hour, slightly varied."""
        tint, share = TINT[self.time]
        return mix(jitter(colour, self.rng, 8), tint, share)

    def sky(self) -> None:
        top, low = (jitter(colour, self.rng, 10) for colour in SKIES[self.time])
        self.gradient(top, low, 0.0, self.horizon)

    def gradient(self, top: RGB, low: RGB, y0: float, y1: float) -> None:
        rows = max(1, round((y1 - y0) * self.size * 2))
        ramp = np.linspace(np.array(top, float), np.array(low, float), rows).round().astype(np.uint8)[:, None]
        strip = Image.fromarray(np.repeat(ramp, 1, 1), "RGB").resize((self.size * 2, rows))
        self.pen.tile.paste(strip, (0, round(y0 * self.size * 2)))

    def ground(self, colour: RGB, waves: float = 0.0) -> None:
        near, far = self.lit(colour), mix(self.lit(colour), SKIES[self.time][1], 0.22)
        self.gradient(far, near, self.horizon, 1.0)
        if waves:
            self.hill(self.horizon, waves, mix(far, near, 0.4))

    def hill(self, y: float, height: float, colour: RGB) -> None:
        phase, turns = self.rng.uniform(0, 6.3), self.rng.uniform(0.7, 1.6)
        xs = np.linspace(0, 1, 15)
        ys = y - height * (0.5 + 0.5 * np.sin(phase + turns * 6.3 * xs))
        self.pen.poly([*zip(xs.tolist(), ys.tolist(), strict=True), (1.0, 1.0), (0.0, 1.0)], colour, line=False)


def living_room(s: Stage) -> None:
    s.horizon = s.rng.uniform(0.62, 0.7)
    wall = s.lit(s.rng.choice(((240, 226, 200), (214, 226, 216), (236, 208, 196), (206, 216, 232))))
    s.pen.box(0, 0, 1, s.horizon, wall, line=False)
    if s.rng.random() < 0.4:
        stripe = mix(wall, (255, 255, 255), 0.25)
        for i in range(6):
            s.pen.box(i / 6, 0, i / 6 + 1 / 12, s.horizon, stripe, line=False)
    floor = s.lit((188, 140, 96))
    s.pen.box(0, s.horizon, 1, 1, floor, line=False)
    for y in np.linspace(s.horizon, 1, 5)[1:-1]:
        s.pen.line([(0, y), (1, y)], mix(floor, (60, 40, 30), 0.18), 0.005)
    s.pen.box(0, s.horizon - 0.025, 1, s.horizon + 0.015, s.lit((250, 244, 236)), line=False)
    if s.rng.random() < 0.5:
        s.pen.ellipse(0.12, s.horizon + 0.1, 0.88, 0.97, s.lit((206, 176, 160)), line=False)


def meadow(s: Stage) -> None:
    s.horizon = s.rng.uniform(0.5, 0.64)
    s.sky()
    s.hill(s.horizon + 0.02, 0.12, s.lit((138, 192, 110)))
    s.ground((104, 178, 84), 0.03)
    for _ in range(12):
        x, y = s.rng.random(), s.rng.uniform(s.horizon + 0.08, 0.98)
        s.pen.line([(x, y), (x + 0.012, y - 0.035)], s.lit((66, 138, 62)), 0.008)


def snowy_field(s: Stage) -> None:
    s.horizon = s.rng.uniform(0.5, 0.64)
    s.sky()
    s.hill(s.horizon + 0.02, 0.12, s.lit((206, 218, 236)))
    s.ground((240, 244, 250), 0.03)
    for _ in range(16):
        x, y = s.rng.random(), s.rng.uniform(0, s.horizon)
        s.pen.disc(x, y, 0.008, (250, 250, 255), line=False)


def desert(s: Stage) -> None:
    s.horizon = s.rng.uniform(0.5, 0.64)
    s.sky()
    s.hill(s.horizon + 0.02, 0.14, s.lit((220, 166, 96)))
    s.ground((236, 190, 116), 0.05)
    x = s.rng.choice((s.rng.uniform(0.04, 0.2), s.rng.uniform(0.8, 0.96)))
    y = s.horizon + 0.04
    green = s.lit((92, 140, 86))
    s.pen.line([(x, y), (x, y - 0.16)], green, 0.03)
    s.pen.line([(x, y - 0.06), (x + 0.05, y - 0.06), (x + 0.05, y - 0.12)], green, 0.02)


def beach(s: Stage) -> None:
    s.horizon = s.rng.uniform(0.4, 0.48)
    s.sky()
    shore = s.horizon + s.rng.uniform(0.16, 0.22)
    s.pen.box(0, s.horizon, 1, 1, s.lit((64, 156, 202)), line=False)
    s.hill(shore + 0.02, 0.05, s.lit((236, 244, 246)))
    s.hill(shore + 0.06, 0.05, s.lit((242, 214, 152)))
    s.pen.box(0, shore + 0.06, 1, 1, s.lit((242, 214, 152)), line=False)
    s.horizon = shore


def sea(s: Stage) -> None:
    s.horizon = s.rng.uniform(0.44, 0.56)
    s.sky()
    s.gradient(s.lit((84, 160, 210)), s.lit((34, 96, 164)), s.horizon, 1.0)
    for _ in range(10):
        x, y = s.rng.uniform(-0.05, 0.95), s.rng.uniform(s.horizon + 0.04, 0.97)
        s.pen.line([(x, y), (x + 0.03, y - 0.012), (x + 0.07, y), (x + 0.1, y - 0.012)], s.lit((166, 208, 232)), 0.008)


def mountains(s: Stage) -> None:
    s.horizon = s.rng.uniform(0.6, 0.7)
    s.sky()
    for left in (-0.2, 0.5, 0.12):
        x = left + s.rng.uniform(-0.08, 0.08)
        w, y = s.rng.uniform(0.56, 0.8), s.rng.uniform(0.2, 0.36)
        rock = s.lit((128, 136, 158))
        s.pen.poly([(x, s.horizon + 0.02), (x + w / 2, y), (x + w, s.horizon + 0.02)], rock, line=False)
        s.pen.poly(
            [(x + w / 2, y), (x + w, s.horizon + 0.02), (x + w * 0.55, s.horizon + 0.02)],
            mix(rock, (30, 36, 70), 0.25),
            line=False,
        )
        k = 0.3
        s.pen.poly(
            [
                (x + w / 2, y),
                (x + w / 2 * (1 + k), y + k * (s.horizon - y)),
                (x + w / 2, y + 0.7 * k * (s.horizon - y)),
                (x + w / 2 * (1 - k), y + k * (s.horizon - y)),
            ],
            s.lit((246, 248, 252)),
            line=False,
        )
    s.ground((122, 172, 104), 0.02)


def night_sky(s: Stage) -> None:
    s.time = "night"
    s.horizon = s.rng.uniform(0.86, 0.92)
    s.gradient(jitter((14, 16, 52), s.rng), jitter((52, 48, 112), s.rng), 0.0, 1.0)
    for _ in range(30):
        s.pen.disc(
            s.rng.random(),
            s.rng.uniform(0, s.horizon),
            s.rng.choice((0.006, 0.009, 0.013)),
            (252, 248, 220),
            line=False,
        )
    s.hill(s.horizon + 0.03, 0.06, (16, 22, 44))


def city_street(s: Stage) -> None:
    s.horizon = s.rng.uniform(0.62, 0.68)
    s.sky()
    x = -0.05
    glow = (252, 226, 140) if s.time != "day" else s.lit((196, 222, 238))
    while x < 1:
        w, y = s.rng.uniform(0.17, 0.26), s.rng.uniform(0.1, 0.36)
        wall = s.lit(s.rng.choice(((176, 148, 136), (150, 160, 176), (196, 182, 156), (164, 136, 150))))
        s.pen.box(x, y, x + w, s.horizon, wall, line=False)
        for wy in np.arange(y + 0.04, s.horizon - 0.08, 0.09):
            for k in (0.18, 0.6):
                s.pen.box(x + w * k, wy, x + w * (k + 0.22), wy + 0.045, glow, line=False)
        x += w + 0.004
    s.pen.box(0, s.horizon, 1, s.horizon + 0.06, s.lit((190, 190, 192)), line=False)
    s.pen.box(0, s.horizon + 0.06, 1, 1, s.lit((104, 106, 116)), line=False)
    for i in range(4):
        s.pen.box(i * 0.28, 0.85, i * 0.28 + 0.15, 0.875, s.lit((240, 236, 216)), line=False)


def forest(s: Stage) -> None:
    s.horizon = s.rng.uniform(0.6, 0.68)
    s.sky()
    s.pen.box(0, 0.12, 1, s.horizon, s.lit((112, 156, 116)), line=False)
    for shade in ((84, 134, 92), (56, 104, 68)):
        for i in range(6):
            x, top = (i + s.rng.uniform(0.1, 0.9)) / 6, s.rng.uniform(-0.05, 0.16)
            s.pen.poly([(x, top), (x + 0.13, s.horizon - 0.02), (x - 0.13, s.horizon - 0.02)], s.lit(shade), line=False)
            s.pen.line([(x, s.horizon - 0.04), (x, s.horizon + 0.03)], s.lit((92, 66, 48)), 0.02)
    s.ground((96, 138, 76), 0.02)


PAINTERS: dict[str, Callable[[Stage], None]] = {
    "living room": living_room,
    "meadow": meadow,
    "snowy field": snowy_field,
    "desert": desert,
    "beach": beach,
    "sea": sea,
    "mountains": mountains,
    "night sky": night_sky,
    "city street": city_street,
    "forest": forest,
}


def paint_backdrop(
    scene: str, colour: str | None, time: str, size: int, rng: random.Random
) -> tuple[Image.Image, float]:
    """A scene without things -> (RGB picture of size x size pixels, height of its ground's edge 0..1).

    colour: of a plain background; None for any colour at all (what bootstrapping shows the network).
    """
    if scene == "plain background":
        named = jitter(PALETTE[colour], rng, 10) if colour else tuple(rng.randrange(256) for _ in range(3))
        return Image.new("RGB", (size, size), named), 0.0
    stage = Stage(size, time, rng)
    PAINTERS[scene](stage)
    return stage.pen.tile.convert("RGB").resize((size, size), Image.Resampling.BOX), stage.horizon
