"""Request <-> the text inside a PNG: Automatic1111's "parameters" for everybody, our own JSON for ourselves.

The A1111 text is ambiguous (a prompt may hold a line that looks like settings), so the JSON wins when both are there.
Source of the text format: Automatic1111, modules/infotext_utils.py and modules/processing.py.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from core import __version__
from core.errors import BadRequest, LoomError
from core.request import Request

A1111_KEY, OWN_KEY = "parameters", "latent_loom"
_MAX_TEXT = 1_000_000  # characters of a text chunk that is read at all

# A1111 label -> field; size, schedule and prompts are spelt out in code
_LABELS = {"Steps": "steps", "Sampler": "sampler", "Schedule type": "schedule", "CFG scale": "guidance",
           "Seed": "seed", "Model": "model"}
# A1111's pattern, its labels bounded: without a bound, a long line of letters takes the square of its length.
_PAIR = re.compile(r'(\w[\w \-/]{1,60}):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def to_text(request: Request) -> str:
    """The A1111 "parameters" text of a request."""
    lines = [request.prompt]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    pairs: dict[str, Any] = {label: getattr(request, name) for label, name in _LABELS.items()}
    pairs["CFG scale"] = f"{request.guidance:g}"
    pairs["Model"] = Path(request.model).name
    order = ("Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model", "Version")
    pairs |= {"Size": f"{request.width}x{request.height}", "Version": f"Latent Loom {__version__}"}
    lines.append(", ".join(f"{label}: {_quote(pairs[label])}" for label in order))
    return "\n".join(lines)


def from_text(text: str) -> dict[str, Any]:
    """The request fields an A1111 text tells, and under "other" what we have no field for.

    Raises BadRequest when the text holds no settings.
    """
    *body, last = text[:_MAX_TEXT].replace("\r\n", "\n").strip().split("\n")
    pairs = [(label, _unquote(value)) for label, value in _PAIR.findall(last)]
    if len(pairs) < 3:
        body, pairs = [*body, last], []
    split = next((i for i, line in enumerate(body) if line.startswith("Negative prompt:")), len(body))
    prompt = "\n".join(body[:split]).strip()
    negative = "\n".join(body[split:]).removeprefix("Negative prompt:").strip()
    if not pairs:
        raise BadRequest("This picture's text holds no settings: only pictures made by Latent Loom, "
                         "Automatic1111 and its relatives can be read.")
    values: dict[str, Any] = {"prompt": prompt, "negative_prompt": negative}
    other: dict[str, str] = {}
    for label, value in pairs:
        if label == "Size" and re.fullmatch(r"\d{1,5}x\d{1,5}", value):
            values["width"], values["height"] = (int(v) for v in value.split("x"))
        elif label in _LABELS:
            values[_LABELS[label]] = _number(value) if label in ("Steps", "CFG scale", "Seed") else value
        else:
            other[label] = value
    if "sampler" in values and "schedule" not in values:  # before version 1.9 the name carried the schedule
        for schedule in ("Karras", "Exponential"):
            if str(values["sampler"]).endswith(" " + schedule):
                values["sampler"] = str(values["sampler"]).removesuffix(" " + schedule)
                values["schedule"] = schedule
    return {**values, "other": other}


def save_png(picture: np.ndarray, path: Path, request: Request, stopped_after: int | None = None,
             forked: tuple[str, int] | None = None) -> None:
    """Write (H, W, 3) uint8 as PNG with both texts, aside first, then renamed. stopped_after: steps, if stopped.

    forked: (name of another run's trajectory, step) if the steps before that one are the other run's.
    """
    own: dict[str, Any] = {"version": __version__, "request": request.to_dict()}
    text = to_text(request)
    if stopped_after is not None:
        own["stopped_after"] = stopped_after
        text += f", Stopped after: {stopped_after}"
    if forked is not None:
        own["forked_from"], own["forked_at"] = forked
        text += f", Forked from: {_quote(forked[0])}, Forked at: {forked[1]}"
    chunks = PngImagePlugin.PngInfo()
    for key, value in ((A1111_KEY, text), (OWN_KEY, json.dumps(own, ensure_ascii=True))):
        try:
            value.encode("latin-1")
            chunks.add_text(key, value)
        except UnicodeEncodeError:
            chunks.add_itxt(key, value)
    draft = path.with_name(f".{path.name}.part")
    try:
        Image.fromarray(picture).save(draft, "PNG", pnginfo=chunks, compress_level=4)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def read_png(path: Path | str) -> Request:
    """The request that made a picture. Raises BadRequest when it does not say."""
    try:
        with Image.open(path) as image:
            image.load()
            texts = {k: v for k, v in image.info.items() if isinstance(v, str) and len(v) <= _MAX_TEXT}
            comment = _user_comment(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        unknown = isinstance(error, UnidentifiedImageError)
        why = "of no known format" if unknown else getattr(error, "strerror", None) or str(error)[:80]
        raise BadRequest(f"{Path(path).name} is not a picture that can be read ({why}): choose another file.") from None
    if OWN_KEY in texts:
        try:
            return Request.parse(json.loads(texts[OWN_KEY])["request"])
        except (ValueError, KeyError, TypeError, RecursionError, LoomError):
            pass  # written by a later version or tampered with: the common text may still do
    if A1111_KEY in texts or comment:
        values = from_text(texts.get(A1111_KEY, comment))
        values.pop("other")
        return Request.parse(values)
    raise BadRequest(f"{Path(path).name} holds no settings: it was not made here, or somebody stripped them.")


def _user_comment(image: Image.Image) -> str:
    """What JPEG and WebP files carry instead of PNG texts: EXIF's UserComment, UTF-16 behind its mark. "" if none."""
    value = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
    if not isinstance(value, bytes) or len(value) > 2 * _MAX_TEXT:
        return ""
    mark, text = value[:8], value[8:]
    if mark == b"UNICODE\0":  # the byte order is the writer's; a prompt's letters are mostly below U+0100
        order = "utf-16-be" if text[0::2].count(0) >= text[1::2].count(0) else "utf-16-le"
        return text.decode(order, "replace").strip("\0")
    return text.decode("utf-8", "replace").strip("\0") if mark == b"ASCII\0\0\0" else ""


def _quote(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(c in text for c in ',:\n"') else text


def _unquote(value: str) -> str:
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] == '"':
        try:
            return str(json.loads(value))
        except ValueError:
            return value
    return value


def _number(value: str) -> float | int | str:
    try:
        return int(value)
    except ValueError:
        try:
            return float(value)
        except ValueError:
            return value
