"""What goes into the engine (Request, Preview) and what comes out of it (Step, Done).

Only the standard library and numpy: the page, the command line and the metadata all import this.
"""

from __future__ import annotations

import dataclasses
import math
import secrets
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.errors import BadRequest, closest
from core.masks import Box, Mask

MAX_SEED = 2**32 - 1  # A1111 writes seeds as unsigned 32 bit; so does everybody who reads its pictures
MAX_PROMPT = 5_000  # characters; CLIP reads them in some 16 chunks
MAX_CLIP_SKIP = 12  # layers of the largest text encoder in use, as in Automatic1111
MAX_STEPS = 150
MAX_BATCH = 16
MAX_SIDE = 4096  # pixels
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
DECODERS = ("none", "auto", "linear", "tiny", "vae")
MASKS = ("area", "paper")
PANORAMAS = ("off", "smooth", "uniform")
MAX_REGIONS = 32
MAX_BOOTSTRAP = 0.5  # of the steps


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part of the picture with its own prompt. Raises BadRequest for values that mean nothing."""

    name: str
    prompt: str
    negative_prompt: str = ""  # empty: the request's
    box: Box | None = None  # x0, y0, x1, y1 in 0..1 of the picture; either this
    mask: Mask | None = None  # or what was painted, at the request's size
    guidance: float | None = None  # None: the request's
    weight: float = 1.0  # its share where it meets others softly
    feather: float = 0.0  # pixels (standard deviation) its edge is blurred by

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", _text("regions", self.name).strip() or "region")
        who = f"The region {self.name[:40]!r}"
        for field in ("prompt", "negative_prompt"):
            try:
                _text(field, getattr(self, field))
            except BadRequest as error:
                raise BadRequest(f"{who}: {error}", "regions") from None
        if not self.prompt.strip():
            raise BadRequest(f"{who} has no prompt: say what should be there, or delete the region.", "regions")
        if (self.box is None) == (self.mask is None):
            raise BadRequest(f"{who} has no place yet: paint it, or give it a box.", "regions")
        if self.box is not None:
            object.__setattr__(self, "box", _box(who, self.box))
        if self.mask is not None and self.mask.empty:
            raise BadRequest(f"{who} has an empty mask: paint it, or delete the region.", "regions")
        if self.guidance is not None:
            object.__setattr__(self, "guidance", _amount(who, "guidance", self.guidance, 1, 30))
        object.__setattr__(self, "weight", _amount(who, "weight", self.weight, 0.05, 20))
        object.__setattr__(self, "feather", _amount(who, "feather", self.feather, 0, 256))

    @property
    def shape(self) -> Mask | Box:
        shape = self.mask or self.box
        assert shape is not None
        return shape

    def to_dict(self) -> dict[str, Any]:
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["mask"] = self.mask.to_dict() if self.mask else None
        values["box"] = list(self.box) if self.box else None
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def parse(cls, values: Any) -> Region:
        """From JSON. Raises BadRequest for an unknown field."""
        known = [f.name for f in dataclasses.fields(cls)]
        if not isinstance(values, dict):
            raise BadRequest(f"A region must be an object, not {_short(values)}.", "regions")
        if unknown := [k for k in values if k not in known]:
            raise BadRequest(f"A region has no field {_short(unknown[0])}. {closest(str(unknown[0]), known)}",
                             "regions")
        missing = [name for name in ("name", "prompt") if name not in values]
        if missing:
            raise BadRequest(f"A region has no {missing[0]}: give it one.", "regions")
        mask = values.get("mask")
        return cls(**{**values, "mask": mask if mask is None or isinstance(mask, Mask) else Mask.parse(mask)})


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
    refiner: str = ""  # name in the catalogue of an SDXL refiner, which takes over; empty: none does
    refiner_from: float = 0.8  # how much of the noise's course is over when it does, in 0..1 of the training's time
    clip_skip: int = 1  # layers from the text encoder's end that prompts are taken from: 1, the last; 2, the one before
    regions: tuple[Region, ...] = ()  # later ones are painted over earlier ones; `prompt` rules what is left
    bootstrap: float = 0.2  # share of the steps in which regions see a constant colour around them
    masks: str = "area"  # how masks reach the latents: "area", or "paper" as in MultiDiffusion's published code
    crop_after: float = 1.0  # share of the steps after which small regions look at their surroundings only; 1: never
    say_places: bool = False  # put words behind every region's prompt that say where in the picture it lies
    join_prompts: bool = False  # put `prompt` behind every region's prompt
    panorama: str = "off"  # windows of the model's own size over a larger canvas, with "smooth" or "uniform" shares
    stride: int = 128  # pixels from window to window
    wrap: bool = False  # the right edge goes on at the left one: 360 degrees

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
        if not isinstance(self.refiner, str) or len(self.refiner) > 1000 or not self.refiner.isprintable():
            raise BadRequest(f"The refiner must be a name, or empty for none, not {_short(self.refiner)}.", "refiner")
        object.__setattr__(self, "refiner", self.refiner.strip())
        object.__setattr__(self, "refiner_from", _amount("A request", "refiner_from", self.refiner_from, 0, 1))
        if self.precision not in PRECISIONS:
            raise BadRequest(f"No precision named {self.precision!r}. {closest(self.precision, list(PRECISIONS))}",
                             "precision")
        object.__setattr__(self, "regions", self._checked_regions())
        object.__setattr__(self, "bootstrap", _amount("A request", "bootstrap", self.bootstrap, 0, MAX_BOOTSTRAP))
        object.__setattr__(self, "crop_after", _amount("A request", "crop_after", self.crop_after, 0, 1))
        if self.masks not in MASKS:
            raise BadRequest(f"No way of masks named {_short(self.masks)}. {closest(str(self.masks), list(MASKS))}",
                             "masks")
        if self.panorama not in PANORAMAS:
            raise BadRequest(f"No panorama named {_short(self.panorama)}. "
                             f"{closest(str(self.panorama), list(PANORAMAS))}", "panorama")
        object.__setattr__(self, "stride", _integer("stride", self.stride, 8, MAX_SIDE))
        for name in ("say_places", "join_prompts", "wrap"):
            if not isinstance(getattr(self, name), bool):
                raise BadRequest(f"The {_label(name)} must be true or false, not {_short(getattr(self, name))}.", name)

    def _checked_regions(self) -> tuple[Region, ...]:
        if not isinstance(self.regions, (list, tuple)):
            raise BadRequest(f"The regions must be a list, not {_short(self.regions)}.", "regions")
        if len(self.regions) > MAX_REGIONS:
            raise BadRequest(f"{len(self.regions)} regions are too many: at most {MAX_REGIONS} can be told apart. "
                             "Join some.", "regions")
        regions = tuple(r if isinstance(r, Region) else Region.parse(r) for r in self.regions)
        for region in regions:
            if region.mask and (region.mask.width, region.mask.height) != (self.width, self.height):
                raise BadRequest(f"The mask of {region.name!r} is {region.mask.width}x{region.mask.height} pixels, the "
                                 f"picture {self.width}x{self.height}: paint it at the picture's size.", "regions")
        return regions

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        return tuple(f.name for f in dataclasses.fields(cls))

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Request:
        """A Request from loose values (a form, JSON). Raises BadRequest for an unknown field."""
        if not isinstance(values, dict):
            raise BadRequest(f"A request must be a list of fields with their values, not {_short(values)}.")
        unknown = [k for k in values if k not in cls.fields()]
        if unknown:
            raise BadRequest(f"A request has no field {_short(unknown[0])}. "
                             f"{closest(str(unknown[0]), list(cls.fields()))}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.fields()}
        return values | {"regions": [region.to_dict() for region in self.regions]}

    def replace(self, **changes: Any) -> Request:
        return dataclasses.replace(self, **changes)

    def single(self, k: int) -> Request:
        """The request that makes picture k of this batch alone; after the last seed comes 0."""
        return self.replace(seed=(self.seed + k) % (MAX_SEED + 1), batch=1)


def draw_seed() -> int:
    """A new seed that leaves room for a batch after it."""
    return secrets.randbelow(MAX_SEED - MAX_BATCH)


_RANGES = (("steps", 1, MAX_STEPS), ("seed", 0, MAX_SEED), ("width", 8, MAX_SIDE), ("height", 8, MAX_SIDE),
           ("batch", 1, MAX_BATCH), ("clip_skip", 1, MAX_CLIP_SKIP))


def _label(field: str) -> str:
    return field.replace("_", " ")


def _short(value: object) -> str:
    if value is None or (isinstance(value, str) and not value):
        return "empty"
    if isinstance(value, int) and abs(value) >= 10**20:  # beyond 4300 digits repr itself refuses
        return "a number that long"
    text = " ".join(repr(value).split())  # arrays are written over several lines
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
    if not _is_number(value):
        raise BadRequest(f"The guidance must be a number, not {_short(value)}: choose from 1 to 30.", "guidance")
    if not 1 <= value <= 30:
        raise BadRequest(f"The guidance cannot be {_short(value)}: choose from 1 (follow the prompt as it is) to 30.",
                         "guidance")
    return float(value)


def _amount(who: str, name: str, value: Any, low: float, high: float) -> float:
    if not _is_number(value) or not low <= value <= high:
        raise BadRequest(f"{who} cannot have the {_label(name)} {_short(value)}: choose from {low:g} to {high:g}.",
                         name if who == "A request" else "regions")
    return float(value)


def _is_number(value: Any) -> bool:
    """Real and finite. An int is, however long: math.isfinite cannot take the long ones."""
    if isinstance(value, (bool, int)):
        return not isinstance(value, bool)
    return isinstance(value, (float, np.integer, np.floating)) and math.isfinite(value)


def _box(who: str, box: Any) -> Box:
    if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(_is_number(v) for v in box):
        raise BadRequest(f"{who} has the box {_short(box)}: it must be x0, y0, x1, y1 in 0 to 1.", "regions")
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise BadRequest(f"{who} has the box {_short(list(box))}: x0 < x1 and y0 < y1, all in 0 to 1.", "regions")
    return float(x0), float(y0), float(x1), float(y1)


@dataclass(frozen=True)
class Preview:
    """How to show the steps. Never changes the pixels of the result.

    decoder: "none", "linear" (fitted map), "tiny" (small autoencoder), "vae" (the model's own decoder), or "auto": the
    best that takes no more than `budget` of the run's time, by what each costs on this machine.
    """

    decoder: Literal["none", "auto", "linear", "tiny", "vae"] | str = "vae"
    budget: float = 0.05  # share of the run's time, for "auto"

    def __post_init__(self) -> None:
        if self.decoder not in DECODERS:
            raise BadRequest(f"No preview decoder named {_short(self.decoder)}. "
                             f"{closest(str(self.decoder), list(DECODERS))}", "preview")
        object.__setattr__(self, "budget", _amount("A preview", "budget", self.budget, 0.005, 1))


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
    # B times (H, W, 3) uint8, as large as the preview decoder makes them; empty without preview
    pictures: tuple[np.ndarray, ...] = ()
    # number of each visible region (0: the background) -> its own x0, (B, C, h, w)
    regions_x0: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)
    # what a trajectory keeps of the step beyond this (core.record.Record), fetched only when it is called
    record: Callable[[], Any] | None = None


@dataclass(frozen=True)
class StepInfo:
    """A Step without its arrays: what steps.json and the page hold."""

    index: int
    total: int
    timestep: float
    sigma: float
    seconds: float  # since the run began
    evaluations: int

    @classmethod
    def of(cls, step: Step) -> StepInfo:
        return cls(step.index, step.total, round(step.timestep, 3), round(step.sigma, 5), round(step.seconds, 4),
                   step.evaluations)


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
    note: str = ""  # one line on what was done because the memory did not suffice
