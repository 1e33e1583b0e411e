"""What goes into the engine (Request, Preview) and what comes out of it (Step, Done).

Only the standard library and numpy: the page, the command line and the metadata all import this.
"""

from __future__ import annotations

import dataclasses
import math
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.errors import BadRequest, closest

MAX_SEED = 2**32 - 1  # A1111 writes seeds as unsigned 32 bit; so does everybody who reads its pictures
MAX_PROMPT = 2_000  # characters; CLIP reads about 350 of them, the rest of a longer text would be lost
MAX_STEPS = 150
MAX_BATCH = 16
MAX_SIDE = 4096  # pixels
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
DECODERS = ("none", "linear", "tiny", "vae")


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything that decides the pixels, and nothing else. One that exists is valid in itself;
    whether a model and a sampler can do it, `core.checks.check` says.

    Raises BadRequest (with the field's name) for a value that no model could use.
    Picture k of a batch is the picture that seed + k makes alone.
    """

    prompt: str = ""
    negative_prompt: str = ""
    model: str = "storybook"  # name in the catalogue, path of a diffusers folder, or hub id
    sampler: str = "DPM++ 2M"
    schedule: str = "Automatic"
    steps: int = 20
    guidance: float = 5.0  # classifier-free guidance scale; 1 asks the network once a step, not twice
    seed: int = 0
    width: int = 256  # pixels
    height: int = 256  # pixels
    batch: int = 1  # pictures
    precision: str = "auto"

    def __post_init__(self) -> None:
        for name in ("prompt", "negative_prompt"):
            object.__setattr__(self, name, _text(name, getattr(self, name)))
        for name in ("model", "sampler", "schedule", "precision"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip() or len(value) > 1000 or not value.isprintable():
                raise BadRequest(f"The {_label(name)} must be a name, not {_short(value)}.", name)
        for name, low, high in _RANGES:
            object.__setattr__(self, name, _integer(name, getattr(self, name), low, high))
        object.__setattr__(self, "guidance", _guidance(self.guidance))
        if self.precision not in PRECISIONS:
            raise BadRequest(f"No precision named {self.precision!r}. {closest(self.precision, list(PRECISIONS))}",
                             "precision")

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        return tuple(f.name for f in dataclasses.fields(cls))

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Request:
        """A Request from loose values (a form, JSON). Raises BadRequest for an unknown field."""
        unknown = [k for k in values if k not in cls.fields()]
        if unknown:
            raise BadRequest(f"A request has no field {_short(unknown[0])}. "
                             f"{closest(str(unknown[0]), list(cls.fields()))}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> Request:
        return dataclasses.replace(self, **changes)


_RANGES = (("steps", 1, MAX_STEPS), ("seed", 0, MAX_SEED), ("width", 8, MAX_SIDE), ("height", 8, MAX_SIDE),
           ("batch", 1, MAX_BATCH))


def _label(field: str) -> str:
    return field.replace("_", " ")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadRequest(f"The {_label(name)} must be text, not {_short(value)}.", name)
    if len(value) > MAX_PROMPT:
        raise BadRequest(f"The {_label(name)} has {len(value):,} characters; at most {MAX_PROMPT:,} can be read. "
                         "Shorten it.", name)
    for i, char in enumerate(value):
        # Cc: control, Cs: half of a surrogate pair (cannot be written to a file)
        if unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\r\t":
            raise BadRequest(f"The {_label(name)} holds the control character U+{ord(char):04X} at position {i + 1}. "
                             "Delete it or type the text anew.", name)
    return value


def _integer(name: str, value: Any, low: int, high: int) -> int:
    whole = isinstance(value, (int, np.integer)) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole:
        raise BadRequest(f"The {_label(name)} must be a whole number, not {_short(value)}: "
                         f"choose from {low} to {high}.", name)
    if not low <= value <= high:
        raise BadRequest(f"The {_label(name)} cannot be {_short(int(value))}: choose from {low} to {high}.", name)
    return int(value)


def _guidance(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not math.isfinite(value):
        raise BadRequest(f"The guidance must be a number, not {_short(value)}: choose from 1 to 30.", "guidance")
    if not 1 <= value <= 30:
        raise BadRequest(f"The guidance cannot be {value:g}: choose from 1 (follow the prompt as it is) to 30.",
                         "guidance")
    return float(value)


@dataclass(frozen=True)
class Preview:
    """How to show the steps. Never changes the pixels of the result.

    decoder: "none", "linear" (fitted map), "tiny" (small autoencoder) or "vae" (the model's own decoder).
    """

    decoder: Literal["none", "linear", "tiny", "vae"] | str = "vae"

    def __post_init__(self) -> None:
        if self.decoder not in DECODERS:
            raise BadRequest(f"No preview decoder named {_short(self.decoder)}. "
                             f"{closest(str(self.decoder), list(DECODERS))}", "preview")


@dataclass(frozen=True, eq=False)
class Step:
    """One solver step, after it was taken. B pictures, C latent channels, h x w latent cells.

    x_t and x0 belong together: x_t went into the network at `sigma`, x0 is what it believed the clean
    latents to be. A solver that asks twice a step (Heun) reports its first question.
    """

    index: int  # 0 .. total - 1
    total: int  # steps asked for
    timestep: float  # on the training scale, 0 .. 1000
    sigma: float  # noise to signal ratio sqrt(1 - a) / sqrt(a) of x_t
    seconds: float  # since the run began
    evaluations: int  # passes of one picture through the network so far; a guided pass counts two
    x_t: np.ndarray  # (B, C, h, w) float32, scaled as the network sees it: sqrt(a) x0 + sqrt(1 - a) noise
    x0: np.ndarray  # (B, C, h, w) float32
    pictures: tuple[np.ndarray, ...] = ()  # B times (H, W, 3) uint8; empty without preview


@dataclass(frozen=True, eq=False)
class Done:
    """The end of a run. stopped: ended early by a person; the pictures are then the last step's x0."""

    pictures: tuple[np.ndarray, ...]  # B times (H, W, 3) uint8
    latents: np.ndarray  # (B, C, h, w) float32
    seconds: float
    evaluations: int
    steps: int  # steps taken
    stopped: bool
    precision: str  # what "auto" became: fp32, bf16 or fp16
