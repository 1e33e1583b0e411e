"""What a picture tells of how it was made, whoever wrote it: the fields of a Request, and whatever else there was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.infotext.a1111 import Infotext
from core.samplers import SAMPLERS
from core.samplers.aliases import sampler_of, schedule_of

# Automatic1111's label -> field; size, schedule, clip skip and prompts are spelt out in code
LABELS = {"Steps": "steps", "Sampler": "sampler", "Schedule type": "schedule", "CFG scale": "guidance",
          "Seed": "seed", "Model": "model"}
MAX_OTHERS = 200  # settings nobody here has a field for
_WHOLE = re.compile(r"[+-]?\d{1,4300}", re.ASCII)


@dataclass(frozen=True)
class Settings:
    """values: fields of a Request, as they were written: whether they can be done, Request says.

    other: label -> value of everything we have no field for, and of what we cannot do ("Sampler: Heun++ 2").
    """

    program: str
    values: Mapping[str, Any]
    other: Mapping[str, str] = field(default_factory=dict)
    text: str = ""  # as it stands in the file, for people


def number(value: object) -> Any:
    """A number if it is one; else as it is, so that Request can say what is wrong."""
    text = str(value).strip()
    if _WHOLE.fullmatch(text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return value


def solver(values: dict[str, Any], other: dict[str, str], sampler: object, schedule: object = None) -> None:
    """Puts a sampler and a schedule of another program into `values`; what we do not have goes to `other`."""
    name = str(sampler or "").strip()
    ours, carried = sampler_of(name) if name else (None, "")
    if ours:
        values["sampler"] = ours
    elif name:
        other["Sampler"] = name
    wanted = str(schedule or carried or "").strip()
    known = schedule_of(wanted) if wanted else None
    if known and (ours is None or known == "Automatic" or known in SAMPLERS[ours].schedules):
        values["schedule"] = known
    elif wanted:
        other["Schedule type"] = wanted


def of_infotext(found: Infotext, text: str) -> Settings:
    """From Automatic1111's format."""
    values: dict[str, Any] = {"prompt": found.prompt, "negative_prompt": found.negative_prompt}
    other: dict[str, str] = {}
    given: dict[str, str] = {}
    for label, value, _ in (*found.pairs, *found.later):
        if label == "Size" and re.fullmatch(r"\d{1,5}x\d{1,5}", value):
            values["width"], values["height"] = (int(side) for side in value.split("x"))
        elif label in ("Sampler", "Schedule type"):
            given.setdefault(label, value)
        elif label in LABELS:
            values[LABELS[label]] = number(value) if label in ("Steps", "CFG scale", "Seed") else value
        elif label == "Clip skip":
            values["clip_skip"] = number(value)
        elif label == "Refiner":  # there with the beginning of its hash
            values["refiner"] = re.sub(r" \[[0-9a-fA-F]{8,64}\]$", "", value)
        elif label == "Refiner switch at":
            values["refiner_from"] = number(value)
        elif len(other) < MAX_OTHERS:
            other[label if label not in other else f"{label} (again)"] = value
    if "Sampler" in given or "Schedule type" in given:
        solver(values, other, given.get("Sampler"), given.get("Schedule type"))
    if found.unread:
        other["Between the settings"] = ", ".join(found.unread)
    return Settings(_program(other, text), values, other, text)


def _program(other: Mapping[str, str], text: str) -> str:
    version = other.get("Version", "")
    if version.startswith("Latent Loom"):
        return "Latent Loom"
    if "SD.Next" in (other.get("App", ""), other.get("Backend", "")) or "App: SD.Next" in text:
        return "SD.Next"
    if re.match(r"f\d", version):
        return "Forge"
    return "Automatic1111" if re.match(r"v?\d", version) else "Automatic1111 or a relative"


def told(other: Iterable[tuple[str, str]], longest: int = 300) -> list[list[str]]:
    """[label, value] for people, the values cut."""
    return [[label[:80], value if len(value) <= longest else value[: longest - 1] + "…"]
            for label, value in other][:MAX_OTHERS]
