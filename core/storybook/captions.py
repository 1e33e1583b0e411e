"""Captions: the many ways to say what a scene shows, or to leave it unsaid."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from core.storybook import vocabulary as v

if TYPE_CHECKING:
    from core.storybook.scenes import Scene, Thing

ONE_OF_SHARE = 0.25  # of captions of several things name one: a region's prompt is silent about the others
EMPTY_SHARE = 0.1  # of captions, so that the network learns what no prompt looks like (classifier-free guidance)

SCENE_PHRASES: dict[str, tuple[str, ...]] = {
    "living room": ("in a living room", "in the living room"),
    "meadow": ("on a meadow", "in a meadow"),
    "snowy field": ("in a snowy field", "on a snowy field"),
    "desert": ("in the desert", "in a desert"),
    "beach": ("on a beach", "at the beach"),
    "sea": ("on the sea", "at sea"),
    "mountains": ("in the mountains", "before mountains"),
    "night sky": ("in the night sky", "under a night sky"),
    "city street": ("on a city street", "in a city street"),
    "forest": ("in a forest", "in the forest"),
    "plain background": ("on a plain background", "before a plain background"),
}


def _say(rng: random.Random, name: str, table: dict[str, tuple[str, ...]], synonym: float = 0.3) -> str:
    """The name, or one of its synonyms."""
    others = table[name]
    return rng.choice(others) if others and rng.random() < synonym else name


def _thing(thing: Thing, rng: random.Random) -> str:
    parts = []
    if thing.named_colour:
        parts.append(_say(rng, thing.colour, v.COLOURS, 0.25))
    if thing.size > 0.62 and rng.random() < 0.6:
        parts.insert(0, _say(rng, "big", v.SIZES))
    elif thing.size < 0.3 and rng.random() < 0.4:  # seldom: a region does not say how small it is
        parts.insert(0, _say(rng, "small", v.SIZES))
    parts.append(_say(rng, thing.name, v.THINGS, 0.25))
    return v.article(" ".join(parts))


def phrase_of(thing: Thing, scene: Scene, rng: random.Random) -> str:
    """What a region's prompt would say of a thing: its colour and name, and the picture's style."""
    colour = f"{_say(rng, thing.colour, v.COLOURS, 0.1)} " if thing.named_colour else ""
    words = v.article(f"{colour}{_say(rng, thing.name, v.THINGS, 0.1)}")
    return words if scene.style == "flat" else f"{words}, {_say(rng, scene.style, v.STYLES)}"


def _where(thing: Thing, rng: random.Random) -> str:
    if not thing.position:
        return ""
    if thing.position == "above" or thing.position not in v.POSITIONS:
        return ""
    choices = [phrase for phrase in v.POSITIONS[thing.position] if phrase not in ("above", "below")]
    return " " + rng.choice(choices)


def _backdrop(scene: Scene, rng: random.Random) -> str:
    if scene.scene == "plain background":
        if scene.backdrop_colour:
            colour = _say(rng, scene.backdrop_colour, v.COLOURS, 0.2)
            return rng.choice((f"on a plain {colour} background", f"{v.article(colour)} background", f"on {colour}"))
        return rng.choice(SCENE_PHRASES["plain background"])
    if rng.random() < 0.75:
        return rng.choice(SCENE_PHRASES[scene.scene])
    return v.article(_say(rng, scene.scene, v.SCENES, 0.7)) if scene.scene != "mountains" else "mountains"


def _empty(scene: Scene, hour: str, style: str, rng: random.Random) -> str:
    """A scene with nothing in it is called by its own name, as a canvas of regions is."""
    if scene.scene == "plain background":
        name = "plain background"
        if scene.backdrop_colour:
            colour = _say(rng, scene.backdrop_colour, v.COLOURS, 0.2)
            name = rng.choice((f"plain {colour} background", f"{colour} background"))
    else:
        name = _say(rng, scene.scene, v.SCENES, 0.3)
    text = name if name.endswith("mountains") else v.article(name)
    return ", ".join(filter(None, (f"{text} {hour}".strip(), style)))


def caption_of(scene: Scene, rng: random.Random) -> str:
    """A caption of the scene: 10 % empty, a quarter very short, the rest in varied order with parts dropped."""
    draw = rng.random()
    if draw < EMPTY_SHARE:
        return ""
    plain = scene.scene == "plain background"
    things = list(scene.things)
    style = ""
    if scene.style != "flat":
        style = _say(rng, scene.style, v.STYLES)
    elif rng.random() < 0.06:
        style = _say(rng, "flat", v.STYLES, 0.8)
    hour = "" if plain or scene.scene == "night sky" else _say(rng, scene.time, v.TIMES, 0.0)
    if hour and (scene.time != "day" or rng.random() < 0.15):
        hour = rng.choice(v.TIMES[scene.time])
    else:
        hour = ""
    if not things:
        return _empty(scene, hour, style, rng)
    if len(things) == 1 and draw < 0.36:  # what a region's prompt looks like
        short = _thing(things[0], rng)
        return f"{short}, {style}" if style and rng.random() < 0.8 else short
    rng.shuffle(things)
    if len(things) > 1 and rng.random() < ONE_OF_SHARE:
        things = things[:1]
    located = rng.random() < (0.6 if len(things) == 1 else 0.8)
    listed = [_thing(t, rng) + (_where(t, rng) if located else "") for t in things]
    if len(listed) > 1:
        text = rng.choice((", ".join(listed[:-1]) + " and " + listed[-1], ", ".join(listed)))
    else:
        text = listed[0]
    backdrop = _backdrop(scene, rng)
    if rng.random() < (0.45 if plain else 0.06):
        backdrop = ""
    if backdrop and hour:
        backdrop += " " + hour
    elif hour:
        text += " " + hour
    if backdrop:
        bare = not backdrop.startswith(("in ", "on ", "at ", "before ", "under "))
        if bare and rng.random() < 0.6:
            text = f"{backdrop} with {text}"
        else:
            text = f"{text}, {backdrop}" if bare or rng.random() < 0.4 else f"{text} {backdrop}"
    if style:
        if style == "blurred background" or "background" in style:
            text = rng.choice((f"{text}, {style}", f"{text} before a blurred background", f"{text}, {style}"))
        else:
            text = rng.choice((f"{text}, {style}", f"{style}, {text}", f"{v.article(style)} of {text}"))
    return text
