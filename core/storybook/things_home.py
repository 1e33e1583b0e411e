"""Drawings of furniture, household things and toys. Each takes a Pen whose ink bears the asked colour."""

from __future__ import annotations

from core.storybook.draw import RGB, Pen, mix, ring

WOOD: RGB = (150, 100, 62)
CLAY: RGB = (196, 104, 66)
LEAF: RGB = (58, 148, 74)
PAPER: RGB = (250, 246, 236)


def sofa(p: Pen) -> None:
    main, dark, light, _ = p.ink
    kind = p.rng.randrange(3)
    legs = WOOD if kind != 2 else (70, 66, 70)
    for x in (0.12, 0.82):
        p.box(x, 0.84, x + 0.06, 0.99, legs)
    top = (0.08, 0.16, 0.04)[kind]
    p.box(0.1, top, 0.9, 0.75, main, 0.08)  # back
    if kind != 1:
        p.line([(0.5, top + 0.06), (0.5, 0.5)], p.ink.line)
    p.box(0.12, 0.5, 0.88, 0.9, dark, 0.03)
    p.box(0.14, 0.48, 0.5, 0.7, light, 0.04)
    p.box(0.5, 0.48, 0.86, 0.7, light, 0.04)
    for x in (0.0, 0.84):
        p.box(x, 0.34, x + 0.16, 0.92, main, 0.06)  # arms


def house_plant(p: Pen) -> None:
    main, dark, light, _ = p.ink
    kind = p.rng.randrange(2)
    pot = CLAY if kind else (226, 220, 208)
    stems = [(-0.38, 0.2), (0.38, 0.2), (-0.28, 0.04), (0.28, 0.06), (0.0, -0.02), (-0.42, 0.42), (0.42, 0.42)]
    for i, (dx, y) in enumerate(stems):
        x = 0.5 + dx
        bend = 0.5 + dx * 0.25
        side = 0.07 if kind else 0.1
        p.blob(
            [(0.5, 0.7), (bend - side, (y + 0.6) / 2), (x, y + 0.04), (bend + side, (y + 0.62) / 2)],
            (main, light, dark)[i % 3],
        )
    p.poly([(0.27, 0.66), (0.73, 0.66), (0.66, 0.99), (0.34, 0.99)], pot)
    p.box(0.24, 0.62, 0.76, 0.72, mix(pot, (255, 255, 255), 0.2), 0.01)


def painting(p: Pen) -> None:
    main, dark, light, _ = p.ink
    frame = ((196, 150, 70), (120, 78, 44), (50, 46, 52))[p.rng.randrange(3)]
    p.box(0.0, 0.0, 0.99, 0.99, frame, 0.01)
    p.box(0.09, 0.11, 0.9, 0.88, main)
    kind = p.rng.randrange(3)
    if kind == 0:
        p.poly([(0.1, 0.87), (0.36, 0.42), (0.54, 0.68), (0.68, 0.5), (0.89, 0.87)], dark, line=False)
        p.disc(0.7, 0.3, 0.08, light, line=False)
    elif kind == 1:
        p.poly([(0.1, 0.62), (0.45, 0.52), (0.89, 0.66), (0.89, 0.87), (0.1, 0.87)], dark, line=False)
        p.disc(0.32, 0.32, 0.1, light, line=False)
    else:
        p.disc(0.5, 0.5, 0.2, light, line=False)
        p.disc(0.5, 0.5, 0.1, dark, line=False)
    p.box(0.09, 0.11, 0.9, 0.88, None, line=True)  # type: ignore[arg-type]


def lamp(p: Pen) -> None:
    main, dark, light, line = p.ink
    p.box(0.46, 0.34, 0.54, 0.95, (96, 84, 80))
    p.ellipse(0.22, 0.9, 0.78, 0.99, (84, 74, 72))
    wide = p.rng.uniform(0.0, 0.08)
    p.poly([(0.3 - wide / 2, 0.02), (0.7 + wide / 2, 0.02), (0.98, 0.42), (0.02, 0.42)], main)
    p.poly([(0.34, 0.03), (0.48, 0.03), (0.36, 0.4), (0.1, 0.4)], light, line=False)
    p.line([(0.02, 0.42), (0.98, 0.42)], line)


def table(p: Pen) -> None:
    main, dark, light, _ = p.ink
    kind = p.rng.randrange(2)
    if kind:
        for x in (0.08, 0.84):
            p.box(x, 0.3, x + 0.08, 0.99, dark)
        p.box(0.08, 0.26, 0.92, 0.42, dark)
    else:
        p.box(0.44, 0.3, 0.56, 0.92, dark)
        p.ellipse(0.24, 0.84, 0.76, 0.99, dark)
    p.box(0.0, 0.1, 0.99, 0.3, main, 0.03)
    p.box(0.03, 0.12, 0.96, 0.19, light, 0.02, line=False)


def window(p: Pen) -> None:
    main, dark, _, _ = p.ink
    pane = ((156, 208, 240), (246, 214, 150), (96, 130, 190))[p.rng.randrange(3)]
    arch = p.rng.random() < 0.35
    if arch:
        p.pie(0.04, 0.0, 0.96, 0.8, 180, 360, main)
        p.box(0.04, 0.38, 0.96, 0.94, main)
    else:
        p.box(0.04, 0.02, 0.96, 0.94, main)
    for x in (0.14, 0.55):
        for y in (0.12, 0.54):
            top = y + (0.08 if arch and y < 0.3 else 0)
            p.box(x, top, x + 0.31, y + 0.33, pane)
            p.poly(
                [(x + 0.05, y + 0.3), (x + 0.22, top + 0.04), (x + 0.28, top + 0.04), (x + 0.11, y + 0.3)],
                mix(pane, (255, 255, 255), 0.5),
                line=False,
            )
    p.box(0.0, 0.9, 0.99, 0.99, dark)


def ball(p: Pen) -> None:
    main, dark, light, line = p.ink
    p.disc(0.5, 0.5, 0.49, main)
    if p.rng.random() < 0.5:
        p.chord(0.02, 0.02, 0.98, 0.98, 20, 140, dark)
        p.disc(0.5, 0.5, 0.14, PAPER)
    else:
        p.pie(0.1, 0.02, 0.9, 0.98, 60, 120, PAPER)
        p.pie(0.1, 0.02, 0.9, 0.98, 180, 240, PAPER)
        p.pie(0.1, 0.02, 0.9, 0.98, 300, 360, PAPER)
    p.ellipse(0.2, 0.12, 0.38, 0.28, light, line=False)


def cube(p: Pen) -> None:
    main, dark, light, _ = p.ink
    p.poly([(0.02, 0.26), (0.5, 0.48), (0.5, 0.99), (0.02, 0.76)], main)
    p.poly([(0.98, 0.26), (0.5, 0.48), (0.5, 0.99), (0.98, 0.76)], dark)
    p.poly([(0.02, 0.26), (0.5, 0.02), (0.98, 0.26), (0.5, 0.48)], light)


def star(p: Pen) -> None:
    outer, inner = ring(0.5, 0.53, 0.5, 0.5, 5), ring(0.5, 0.53, 0.22, 0.22, 5, -54)
    p.poly([point for pair in zip(outer, inner, strict=True) for point in pair], p.ink.main)
    middle = ring(0.5, 0.53, 0.26, 0.26, 5)
    centre = ring(0.5, 0.53, 0.12, 0.12, 5, -54)
    p.poly([point for pair in zip(middle, centre, strict=True) for point in pair], p.ink.light, line=False)


def umbrella(p: Pen) -> None:
    main, dark, light, line = p.ink
    p.line([(0.5, 0.4), (0.5, 0.9), (0.54, 0.97), (0.61, 0.97), (0.65, 0.9)], (92, 66, 50), 0.04)
    p.pie(0.0, 0.04, 1.0, 1.04, 180, 360, main)
    p.pie(0.2, 0.04, 0.8, 1.04, 180, 360, light)
    p.pie(0.38, 0.04, 0.62, 1.04, 180, 360, main)
    p.line([(0.5, 0.0), (0.5, 0.06)], (92, 66, 50), 0.03)


def cup(p: Pen) -> None:
    main, dark, light, _ = p.ink
    p.ellipse(0.6, 0.3, 0.99, 0.76, main)
    p.ellipse(0.68, 0.4, 0.9, 0.66, PAPER)
    p.poly([(0.03, 0.16), (0.79, 0.16), (0.68, 0.97), (0.14, 0.97)], main)
    p.poly([(0.1, 0.24), (0.22, 0.24), (0.26, 0.92), (0.18, 0.92)], light, line=False)
    p.ellipse(0.03, 0.04, 0.79, 0.28, dark)
    p.ellipse(0.1, 0.08, 0.72, 0.25, (110, 66, 42))
    if p.rng.random() < 0.4:
        p.box(0.12, 0.5, 0.71, 0.62, light, line=False)


def balloon(p: Pen) -> None:
    main, dark, light, line = p.ink
    p.line([(0.3, 0.6), (0.42, 0.84)], line)
    p.line([(0.7, 0.6), (0.58, 0.84)], line)
    p.blob(
        [
            (0.5, 0.01),
            (0.86, 0.12),
            (0.98, 0.36),
            (0.8, 0.58),
            (0.6, 0.72),
            (0.4, 0.72),
            (0.2, 0.58),
            (0.02, 0.36),
            (0.14, 0.12),
        ],
        main,
    )
    p.blob([(0.5, 0.01), (0.66, 0.16), (0.7, 0.4), (0.58, 0.7), (0.42, 0.7), (0.3, 0.4), (0.34, 0.16)], light)
    p.blob([(0.5, 0.01), (0.57, 0.18), (0.58, 0.4), (0.53, 0.7), (0.47, 0.7), (0.42, 0.4), (0.43, 0.18)], dark)
    p.box(0.38, 0.83, 0.62, 0.99, WOOD, 0.02)


def rocket(p: Pen) -> None:
    main, dark, light, _ = p.ink
    p.blob([(0.36, 0.8), (0.5, 0.99), (0.64, 0.8)], (252, 176, 48))
    for s in (1, -1):
        x = 0.5 - 0.5 * s
        p.poly([(0.5 - 0.2 * s, 0.5), (x + 0.02 * s, 0.74), (x + 0.04 * s, 0.9), (0.5 - 0.16 * s, 0.8)], dark)
    p.blob([(0.5, 0.0), (0.68, 0.18), (0.76, 0.44), (0.68, 0.82), (0.32, 0.82), (0.24, 0.44), (0.32, 0.18)], main)
    p.blob([(0.4, 0.2), (0.36, 0.44), (0.36, 0.7), (0.32, 0.6), (0.3, 0.4)], light, line=False)
    p.disc(0.5, 0.38, 0.13, (176, 220, 244))
