"""<lora:name:0.8> in a prompt: which changes to the network a prompt asks for, and its text without them.

Grammar after Automatic1111's modules/extra_networks.py and its wiki ("Extra networks"): a tag counts wherever it
stands, for the whole prompt and all steps, and is no part of the text. Standard library only.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from core.errors import BadRequest

MOST = 100.0  # a weight beyond it leaves nothing of the picture, as with words
MOST_LORAS = 16  # in one prompt; each makes every pass of the network slower
EXAMPLE = "<lora:name:0.8>"

_TAG = re.compile(r"<\s*(?:lora|lyco|lycoris)\s*:([^<>]*)>", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)", re.ASCII)


class Lora(NamedTuple):
    """A LoRA by its name, with its weights in the text encoders and in the noise predictor."""

    name: str
    text: float
    unet: float


Loras = tuple[Lora, ...]  # in the order of their names, each once: equal tuples are equal networks


def without_tags(prompt: str) -> str:
    """The text that the text encoder reads."""
    return _TAG.sub("", prompt) if "<" in prompt else prompt


@lru_cache(maxsize=512)
def loras_in(prompt: str) -> Loras:
    """The LoRAs that a prompt names. Raises BadRequest for a tag that means nothing."""
    found: dict[str, Lora] = {}
    for match in _TAG.finditer(prompt):
        lora = _read(match[1], shown(match[0]))
        if lora.name in found:
            raise BadRequest(f"The LoRA {lora.name[:60]!r} stands in the prompt twice: write it once, with the weight "
                             "it shall have.")
        found[lora.name] = lora
    if len(found) > MOST_LORAS:
        raise BadRequest(f"The prompt names {len(found)} LoRAs; at most {MOST_LORAS} work together: leave some out.")
    return tuple(sorted(found.values()))


def joined(common: Loras, own: Loras) -> Loras:
    """Those of the whole picture and a region's own. A region's weight of the same LoRA wins; 0 takes it away there."""
    found = {lora.name: lora for lora in (*common, *own)}
    return tuple(sorted(lora for lora in found.values() if lora.text or lora.unet))


def _read(inside: str, tag: str) -> Lora:
    """name, name:weight, name:text encoder's:network's, or name:te=..:unet=.. as there."""
    parts = [part.strip() for part in inside.split(":")]
    named = dict(part.split("=", 1) for part in parts[1:] if "=" in part)
    places = [part for part in parts if "=" not in part]
    unknown = [key for key in named if key.strip().lower() not in ("te", "unet")]
    if not parts[0] or "=" in parts[0]:
        raise BadRequest(f"{tag} names no LoRA: write {EXAMPLE}.")
    if unknown or len(places) > 3:
        raise BadRequest(f"{tag} says more than a LoRA takes: write {EXAMPLE}, or <lora:name:0.6:0.8> for text "
                         "encoder and network.")
    named = {key.strip().lower(): value.strip() for key, value in named.items()}
    text = _weight(named.get("te", places[1] if len(places) > 1 else "1"), tag)
    unet = _weight(named["unet"] if "unet" in named else places[2], tag) if "unet" in named or len(places) > 2 else text
    return Lora(parts[0], text, unet)


def _weight(number: str, tag: str) -> float:
    if not _NUMBER.fullmatch(number):
        raise BadRequest(f"{tag} has a weight that is no number: write {EXAMPLE}.")
    weight = float(number)
    if abs(weight) > MOST:
        raise BadRequest(f"{tag} has a weight that is too much: stay between -{MOST:g} and {MOST:g}.")
    return weight


def shown(tag: str) -> str:
    """On one line, printable, at most 60 signs."""
    text = "".join(c for c in " ".join(tag.split()) if c.isprintable())
    return text if len(text) <= 60 else text[:57] + "..."
