"""Drawings of plants, animals, buildings, vehicles and the sky's things. Each takes a Pen with the asked colour."""

from __future__ import annotations

import math

from core.storybook.draw import RGB, Pen, mix, ring

BARK: RGB = (116, 78, 48)
EYE: RGB = (30, 28, 34)
CREAM: RGB = (252, 242, 222)


def tree(p: Pen) -> None:
    main, dark, light, _ = p.ink
    p.poly([(0.42, 0.5), (0.58, 0.5), (0.64, 0.99), (0.36, 0.99)], BARK)
    bumps = ring(0.5, 0.34, 0.42, 0.28, 8, p.rng.uniform(0, 45))
    points = []
    for x, y in bumps:
        r = p.rng.uniform(0.9, 1.16)
        points.append((min(0.99, max(0.01, 0.5 + (x - 0.5) * r)), min(0.72, max(0.01, 0.34 + (y - 0.34) * r))))
    p.blob(points, main)
    p.blob(ring(0.4, 0.22, 0.2, 0.12, 6), light, line=False)
    p.blob(ring(0.62, 0.48, 0.2, 0.08, 6), dark, line=False)


def pine_tree(p: Pen) -> None:
    main, dark, light, _ = p.ink
    p.box(0.42, 0.84, 0.58, 0.99, BARK)
    for i, (top, bottom, half) in enumerate(((0.48, 0.88, 0.48), (0.24, 0.64, 0.39), (0.0, 0.38, 0.28))):
        p.poly([(0.5, top), (0.5 + half, bottom), (0.5 - half, bottom)], (main, main, main)[i])
        p.poly([(0.5, top + 0.03), (0.5 + half * 0.9, bottom - 0.02), (0.52, bottom - 0.02)], dark, line=False)


def palm_tree(p: Pen) -> None:
    main, dark, light, _ = p.ink
    lean = p.rng.choice((-0.12, 0.12))
    foot = 0.5 + lean
    p.poly(
        [
            (foot - 0.07, 0.99),
            (0.5 + lean * 0.5 - 0.05, 0.6),
            (0.46, 0.3),
            (0.54, 0.3),
            (0.5 + lean * 0.5 + 0.05, 0.6),
            (foot + 0.07, 0.99),
        ],
        (168, 122, 74),
    )
    leaves = [(0.02, 0.5), (0.98, 0.5), (0.0, 0.26), (0.99, 0.24), (0.2, 0.04), (0.8, 0.03)]
    for i, (x, y) in enumerate(leaves):
        mx, my = (0.5 + x) / 2, min(0.28, y) - 0.06
        p.blob([(0.5, 0.26), (mx, max(0.0, my)), (x, y), (mx, my + 0.15)], (main, dark, light, main, dark, main)[i])
    p.disc(0.46, 0.31, 0.05, BARK)
    p.disc(0.55, 0.32, 0.05, BARK)


def house(p: Pen) -> None:
    main, dark, light, _ = p.ink
    roof = mix(main, (60, 34, 30), 0.62) if p.rng.random() < 0.7 else (150, 70, 56)
    if p.rng.random() < 0.6:
        p.box(0.7, 0.06, 0.82, 0.4, (140, 120, 112))
    p.box(0.1, 0.42, 0.9, 0.99, main)
    p.poly([(0.5, 0.02), (0.99, 0.46), (0.01, 0.46)], roof)
    p.box(0.42, 0.64, 0.6, 0.99, mix(roof, (90, 60, 40), 0.3), 0.02)
    for x in (0.18, 0.68):
        p.box(x, 0.56, x + 0.16, 0.76, (252, 230, 150))


def car(p: Pen) -> None:
    main, dark, light, _ = p.ink
    flip = p.rng.random() < 0.5

    def f(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(1 - x, y) for x, y in points] if flip else points

    p.poly(f([(0.18, 0.45), (0.3, 0.06), (0.66, 0.06), (0.82, 0.45)]), main)
    p.poly(f([(0.25, 0.43), (0.33, 0.14), (0.46, 0.14), (0.46, 0.43)]), (188, 224, 244))
    p.poly(f([(0.51, 0.43), (0.51, 0.14), (0.63, 0.14), (0.74, 0.43)]), (188, 224, 244))
    p.box(0.01, 0.42, 0.98, 0.82, main, 0.06)
    p.poly(f([(0.03, 0.68), (0.96, 0.68), (0.96, 0.78), (0.03, 0.78)]), dark, line=False)
    x0, y0 = f([(0.93, 0.54)])[0]
    p.disc(x0, y0, 0.035, (254, 236, 140))
    for x in (0.24, 0.76):
        p.disc(x, 0.8, 0.115, (50, 48, 54))
        p.disc(x, 0.8, 0.055, (196, 198, 204))


def boat(p: Pen) -> None:
    main, dark, light, line = p.ink
    flip = -1 if p.rng.random() < 0.5 else 1
    p.line([(0.5, 0.02), (0.5, 0.72)], BARK, 0.03)
    p.poly([(0.5 + 0.03 * flip, 0.04), (0.5 + 0.03 * flip, 0.64), (0.5 + 0.44 * flip, 0.64)], CREAM)
    p.poly([(0.5 - 0.04 * flip, 0.14), (0.5 - 0.04 * flip, 0.64), (0.5 - 0.34 * flip, 0.64)], mix(main, CREAM, 0.55))
    p.poly([(0.02, 0.7), (0.98, 0.7), (0.82, 0.98), (0.2, 0.98)], main)
    p.poly([(0.06, 0.73), (0.94, 0.73), (0.91, 0.79), (0.09, 0.79)], light, line=False)


def flower(p: Pen) -> None:
    main, dark, light, _ = p.ink
    p.line([(0.5, 0.4), (0.48, 0.7), (0.5, 0.99)], (56, 132, 64), 0.05)
    p.blob([(0.5, 0.86), (0.66, 0.68), (0.92, 0.66), (0.76, 0.84)], (70, 158, 76))
    p.blob([(0.5, 0.9), (0.34, 0.74), (0.08, 0.74), (0.26, 0.9)], (70, 158, 76))
    count = p.rng.choice((5, 6, 8))
    aspect = p.width / p.height
    for i, (x, y) in enumerate(ring(0.5, 0.31, 0.31, 0.31 * aspect, count)):
        p.disc(x, y, 0.17 if count < 8 else 0.13, main if i % 2 else light if count != 5 else main)
    p.disc(
        0.5,
        0.31,
        0.16,
        (250, 206, 60) if p.ink.main[0] < 235 or p.ink.main[1] < 180 or p.ink.main[2] > 120 else (150, 92, 44),
    )


def mushroom(p: Pen) -> None:
    main, dark, light, _ = p.ink
    p.blob([(0.4, 0.44), (0.6, 0.44), (0.62, 0.7), (0.7, 0.96), (0.5, 0.99), (0.3, 0.96), (0.38, 0.7)], CREAM)
    p.chord(0.0, 0.02, 0.99, 1.06, 180, 360, main)
    spots = CREAM if sum(p.ink.main) < 640 else (226, 196, 170)
    for x, y, r in ((0.5, 0.2, 0.11), (0.24, 0.36, 0.08), (0.76, 0.38, 0.08), (0.5, 0.45, 0.05)):
        p.disc(x, y, r, spots)


def _face(p: Pen, x: float, y: float, gap: float, nose: RGB) -> None:
    for s in (-1, 1):
        p.disc(x + s * gap, y, 0.045, (250, 250, 246), line=False)
        p.disc(x + s * gap, y, 0.03, EYE, line=False)
    p.poly([(x - 0.035, y + 0.07), (x + 0.035, y + 0.07), (x, y + 0.115)], nose, line=False)


def cat(p: Pen) -> None:
    main, dark, light, line = p.ink
    side = p.rng.choice((-1, 1))
    p.line(
        [(0.5 + 0.2 * side, 0.9), (0.5 + 0.42 * side, 0.84), (0.5 + 0.44 * side, 0.62), (0.5 + 0.36 * side, 0.52)],
        line,
        0.1,
    )
    p.line(
        [(0.5 + 0.2 * side, 0.9), (0.5 + 0.42 * side, 0.84), (0.5 + 0.44 * side, 0.62), (0.5 + 0.36 * side, 0.52)],
        main,
        0.075,
    )
    p.blob([(0.5, 0.42), (0.7, 0.6), (0.78, 0.9), (0.62, 0.99), (0.38, 0.99), (0.22, 0.9), (0.3, 0.6)], main)
    p.blob(ring(0.5, 0.78, 0.12, 0.16, 6), light, line=False)
    for s in (-1, 1):
        p.poly([(0.5 + s * 0.3, 0.34), (0.5 + s * 0.28, 0.0), (0.5 + s * 0.06, 0.16)], main)
        p.poly([(0.5 + s * 0.25, 0.24), (0.5 + s * 0.25, 0.07), (0.5 + s * 0.12, 0.17)], (244, 176, 176), line=False)
    p.ellipse(0.17, 0.12, 0.83, 0.56, main)
    for s in (-1, 1):
        p.line([(0.5 + s * 0.1, 0.42), (0.5 + s * 0.38, 0.38)], line, 0.01)
        p.line([(0.5 + s * 0.1, 0.45), (0.5 + s * 0.37, 0.48)], line, 0.01)
        p.box(0.5 + s * 0.13 - 0.07, 0.9, 0.5 + s * 0.13 + 0.07, 0.995, light, 0.03)
    _face(p, 0.5, 0.31, 0.15, (226, 120, 130))


def dog(p: Pen) -> None:
    main, dark, light, line = p.ink
    flip = p.rng.random() < 0.5

    def f(x: float) -> float:
        return 1 - x if flip else x

    def box(x0: float, y0: float, x1: float, y1: float, fill: RGB, r: float) -> None:
        a, b = sorted((f(x0), f(x1)))
        p.box(a, y0, b, y1, fill, r)

    p.line([(f(0.12), 0.5), (f(0.03), 0.24)], line, 0.085)
    p.line([(f(0.12), 0.5), (f(0.03), 0.24)], main, 0.06)
    for x in (0.12, 0.24, 0.5, 0.62):
        box(x, 0.66, x + 0.1, 0.99, dark if x in (0.24, 0.5) else main, 0.02)
    box(0.08, 0.42, 0.74, 0.78, main, 0.1)
    box(0.62, 0.1, 0.94, 0.52, main, 0.1)  # head
    box(0.8, 0.28, 0.995, 0.5, light, 0.06)  # muzzle
    box(0.56, 0.1, 0.68, 0.46, dark, 0.06)  # ear
    p.disc(f(0.95), 0.32, 0.04, EYE, line=False)
    p.disc(f(0.8), 0.24, 0.04, (250, 250, 246), line=False)
    p.disc(f(0.8), 0.24, 0.026, EYE, line=False)
    box(0.62, 0.48, 0.74, 0.54, (220, 60, 60) if p.ink.main[0] < 190 else (60, 90, 190), 0.01)  # collar


def bird(p: Pen) -> None:
    main, dark, light, _ = p.ink
    flip = p.rng.random() < 0.5

    def f(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(1 - x, y) for x, y in points] if flip else points

    for x in (0.46, 0.58):
        p.line(f([(x, 0.8), (x, 0.98), (x + 0.08, 0.98)]), (230, 150, 50), 0.03)
    p.poly(f([(0.26, 0.6), (0.0, 0.44), (0.02, 0.7)]), dark)
    p.blob(
        f(
            [
                (0.16, 0.58),
                (0.4, 0.36),
                (0.62, 0.12),
                (0.84, 0.14),
                (0.88, 0.36),
                (0.76, 0.68),
                (0.52, 0.86),
                (0.26, 0.78),
            ]
        ),
        main,
    )
    p.blob(f([(0.7, 0.48), (0.76, 0.62), (0.56, 0.82), (0.42, 0.8)]), light, line=False)
    p.blob(f([(0.22, 0.56), (0.46, 0.42), (0.6, 0.52), (0.46, 0.68)]), dark)
    p.poly(f([(0.86, 0.22), (0.99, 0.3), (0.86, 0.36)]), (246, 166, 44))
    x, y = f([(0.73, 0.26)])[0]
    p.disc(x, y, 0.05, (250, 250, 246), line=False)
    p.disc(x, y, 0.032, EYE, line=False)


def moon(p: Pen) -> None:
    main, dark, light, _ = p.ink
    points = [
        (0.56 + 0.48 * math.cos(math.radians(a)), 0.5 + 0.48 * math.sin(math.radians(a))) for a in range(60, 301, 12)
    ]
    inner = [
        (0.78 + 0.42 * math.cos(math.radians(a)), 0.5 + 0.4 * math.sin(math.radians(a))) for a in range(270, 89, -12)
    ]
    p.poly(points + inner, main)
    for x, y, r in ((0.2, 0.46, 0.06), (0.3, 0.7, 0.05), (0.3, 0.26, 0.04)):
        p.disc(x, y, r, dark, line=False)


def sun(p: Pen) -> None:
    main, dark, light, _ = p.ink
    outer, inner = ring(0.5, 0.5, 0.495, 0.495, 12), ring(0.5, 0.5, 0.36, 0.36, 12, -75)
    p.poly([point for pair in zip(outer, inner, strict=True) for point in pair], light)
    p.disc(0.5, 0.5, 0.32, main)
    if p.rng.random() < 0.5:
        for s in (-1, 1):
            p.disc(0.5 + 0.11 * s, 0.45, 0.035, p.ink.line, line=False)
        p.draw.arc(p._xy([(0.36, 0.42), (0.64, 0.66)]), 20, 160, p.ink.line, p.stroke * 2)


def cloud(p: Pen) -> None:
    main, dark, light, line = p.ink
    discs = [(0.2, 0.66, 0.19), (0.38, 0.42, 0.22), (0.62, 0.4, 0.2), (0.8, 0.64, 0.19), (0.5, 0.64, 0.22)]
    grow = p.stroke / p.width
    for x, y, r in discs:
        p.disc(x, y, r + grow, line, line=False)
    p.box(0.18, 0.6, 0.82, 0.97, line, 0.1, line=False)
    for x, y, r in discs:
        p.disc(x, y, r - grow / 2, main, line=False)
    p.box(0.2, 0.6, 0.8, 0.95, main, 0.1, line=False)
    p.ellipse(0.3, 0.22, 0.5, 0.46, light, line=False)
    p.box(0.2, 0.84, 0.8, 0.93, dark, 0.05, line=False)
