"""Models distilled to few steps want other settings than the rest: which, by name and notes. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class Advice(NamedTuple):
    """What a model's makers recommend. guidance 1: ask without the negative prompt, one network call a step."""

    words: str
    sampler: str
    schedule: str
    steps: int
    guidance: float


# Sources: the model cards of latent-consistency/lcm-sdxl and SimianLuo/LCM_Dreamshaper_v7 (LCM), stabilityai/sdxl-turbo
# (Turbo), ByteDance/SDXL-Lightning, ByteDance/Hyper-SD; diffusers writes 0 for what is guidance 1 here.
_ADVICE = (
    (r"lightning", Advice("Lightning", "Euler", "SGM Uniform", 4, 1.0)),
    (r"hyper[-_ ]?(sd|xl|\d)|hypersd", Advice("Hyper", "DDIM", "SGM Uniform", 8, 1.0)),
    (r"turbo", Advice("Turbo", "Euler a", "SGM Uniform", 4, 1.0)),
    (r"(?<![a-z])lcm(?![a-z])", Advice("LCM", "LCM", "Automatic", 4, 1.0)),
)


def advise(names: Iterable[str]) -> Advice | None:
    """Advice by a model's name and its notes (title, tags); a number of steps in them counts ("4step", "8steps")."""
    text = " ".join(names).lower()
    for pattern, advice in _ADVICE:
        if re.search(pattern, text):
            said = re.search(r"(?<!\d)([1-9]|1\d)[-_ ]?steps?(?![a-z])", text)
            return advice._replace(steps=int(said[1])) if said else advice
    return None


SETTINGS = ("sampler", "schedule", "steps", "guidance")  # of a Request, that Advice is about


def is_advice(sampler: str, schedule: str, steps: object, guidance: object) -> bool:
    """Whether these settings are some distilled model's, and no other's."""
    return any((sampler, schedule, guidance) == (a.sampler, a.schedule, a.guidance) and steps in range(1, 20)
               for _, a in _ADVICE)
