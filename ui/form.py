"""The form: loose values as people leave them <-> Request. No component here repairs what was typed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from core.models.catalogue import ModelInfo
from core.models.distilled import SETTINGS, is_advice
from core.presets import Style
from core.request import Preview, Request, draw_seed
from core.samplers import SAMPLERS, SCHEDULES
from ui.languages import say, told, word

# The fields of a Request that a text to image form asks for, in the order of the endpoint's arguments.
FIELDS = ("prompt", "negative_prompt", "model", "sampler", "schedule", "steps", "guidance", "seed", "width", "height",
          "batch", "precision", "clip_skip", "refiner", "refiner_from")
ADVISED = SETTINGS  # what some models recommend
NO_STYLE = "None"
CUSTOM = "Custom"
AUTOMATIC = "Automatic"  # as a Request says it
Choice = tuple[Any, str]  # what is shown, and the value
# folded away at first
MORE = ("schedule", "guidance", "seed", "batch", "width", "height", "precision", "clip_skip", "preview", "refiner",
        "refiner_from")
PREVIEWS: list[Choice] = [(word(f"preview.{name}"), name) for name in ("vae", "auto", "tiny", "linear", "none")]
PRECISIONS: list[Choice] = [(word("field.automatic"), "auto"), (word("form.fp32"), "fp32"),
                            ("bfloat16", "bf16"), ("float16", "fp16")]

_NUMBER = re.compile(r"[+-]?(\d{1,400}(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)

Values = Mapping[str, Any]


def number(typed: object) -> Any:
    """What was typed, as a number; as it is when it is none, so that Request can say what is wrong."""
    if not isinstance(typed, str):
        return typed
    text = typed.strip()
    if not _NUMBER.fullmatch(text):
        return text
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def to_request(values: Values, style: Style | None = None) -> Request:
    """The Request that a form asks for; a random seed is drawn here. Raises BadRequest with the field's name."""
    prompt, negative = values["prompt"] or "", values["negative_prompt"] or ""
    if style:
        Request(prompt=prompt, negative_prompt=negative)  # the style must not hide what is wrong with the typed text
        prompt, negative = style.apply(prompt, negative)
    seed = values["seed"]
    return Request(
        prompt=prompt, negative_prompt=negative, model=values["model"] or "", sampler=values["sampler"] or "",
        schedule=values["schedule"] or "", precision=values["precision"] or "",
        seed=draw_seed() if seed["random"] else number(seed["seed"]),
        **{name: number(values[name]) for name in ("steps", "guidance", "width", "height", "batch", "clip_skip")},
        refiner=values.get("refiner") or "", refiner_from=number(values.get("refiner_from", Request().refiner_from)),
    )


def to_preview(values: Values) -> Preview:
    return Preview(values["preview"] or "")


def from_request(request: Request, preview: Preview | None = None) -> dict[str, Any]:
    """The values of a form that asks for exactly this request."""
    return {
        "prompt": request.prompt, "negative_prompt": request.negative_prompt, "style": NO_STYLE,
        "model": request.model, "sampler": request.sampler, "schedule": request.schedule,
        "steps": str(request.steps), "guidance": f"{request.guidance:g}",
        "seed": {"random": False, "seed": str(request.seed)},
        "size": size_name(str(request.width), str(request.height)),
        "width": str(request.width), "height": str(request.height), "batch": str(request.batch),
        "precision": request.precision, "clip_skip": str(request.clip_skip), "preview": (preview or Preview()).decoder,
        "refiner": request.refiner, "refiner_from": f"{request.refiner_from:g}",
    }


def first_request(model: str, info: ModelInfo | None) -> Request:
    """What a form asks for before anybody has typed: the model's own size, and what it was distilled for."""
    start = Request(model=model)
    if info and info.advice:
        start = start.replace(**{name: getattr(info.advice, name) for name in ADVISED})
    return start.replace(width=info.width, height=info.height) if info else start


def advised(info: ModelInfo, values: Values) -> dict[str, str]:
    """The settings a model distilled to few steps was made for; back to the usual ones where those stood till now."""
    typed = [number(values[name]) for name in ADVISED]
    wanted: Any = info.advice or (Request() if is_advice(*typed) else None)
    return {name: _written(getattr(wanted, name)) for name in ADVISED} if wanted else {}


def written(settings: Values) -> dict[str, str]:
    """Some of a Request's settings as the form shows them."""
    return {name: _written(value) for name, value in settings.items()}


def _written(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def size_name(width: str, height: str) -> str:
    return f"{width}x{height}"


def sizes(info: ModelInfo | None) -> list[Choice]:
    """(label, value) of the sizes offered for a model: its own, one wider, one taller, and Custom."""
    if info is None:
        return [(word("form.custom"), CUSTOM)]
    width, height, multiple = info.width, info.height, info.multiple
    long, tall = (round(side * 1.5 / multiple) * multiple for side in (width, height))
    offered = [(width, height), (long, height), (width, tall)]
    return [*((f"{w} × {h}", size_name(str(w), str(h))) for w, h in offered), (word("form.custom"), CUSTOM)]


def schedules(sampler: str | None) -> list[Choice]:
    """(label, value) of the schedules a sampler accepts; all of them for a sampler nobody knows."""
    if sampler is None or sampler not in SAMPLERS:
        return [(word("field.automatic") if name == AUTOMATIC else name, name) for name in SCHEDULES]
    entry = SAMPLERS[sampler]
    return [(word("form.automatic-schedule", schedule=entry.automatic), AUTOMATIC),
            *((name, name) for name in entry.schedules)]


def hints(values: Values, style: Style | None = None) -> dict[str, str]:
    """A line of help beside a field, where nothing more urgent stands."""
    found = {}
    if values["sampler"] in SAMPLERS:
        found["sampler"] = _sentence(told(SAMPLERS[values["sampler"]].words))
    if values["schedule"] in SCHEDULES and values["schedule"] != AUTOMATIC:
        found["schedule"] = _sentence(told(SCHEDULES[values["schedule"]]))
    if values["preview"] in [name for _, name in PREVIEWS]:
        found["preview"] = say(f"preview.words.{values['preview']}")
    if str(values.get("clip_skip", "1")).strip() != "1":
        found["clip_skip"] = say("form.clip-skip")
    if values.get("refiner"):
        found["refiner"] = say("form.refiner")
    if style:
        found["style"] = _sentence(told(style.words))
    return found


def _sentence(words: str) -> str:
    return say("form.sentence", words=words[:1].upper() + words[1:]) if words else ""
