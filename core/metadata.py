"""Request <-> the text inside a PNG: Automatic1111's "parameters" for everybody, our own JSON for ourselves.

The A1111 text is ambiguous (a prompt may hold a line that looks like settings), so the JSON wins when both are there.
Pictures of other programs are read too, by core/infotext.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin

from core import __version__
from core.errors import BadRequest, LoomError
from core.infotext import a1111, comfyui, container, invokeai
from core.infotext.a1111 import Infotext, Pair, quoted
from core.infotext.settings import LABELS, Settings, of_infotext
from core.request import Request

A1111_KEY, OWN_KEY = "parameters", "latent_loom"


class Reading(NamedTuple):
    """What a picture file says. settings: None when it does not say how it was made."""

    width: int  # pixels
    height: int
    settings: Settings | None
    request: Request | None = None  # whole, if the picture was made here


def to_text(request: Request) -> str:
    """The A1111 "parameters" text of a request."""
    pairs: dict[str, Any] = {label: getattr(request, name) for label, name in LABELS.items()}
    pairs["CFG scale"] = f"{request.guidance:g}"
    pairs["Model"] = Path(request.model).name
    order = ("Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model", "Clip skip", "Refiner",
             "Refiner switch at", "Version")
    pairs |= {"Size": f"{request.width}x{request.height}", "Version": f"Latent Loom {__version__}"}
    if request.clip_skip > 1:
        pairs["Clip skip"] = request.clip_skip
    if request.refiner:
        pairs |= {"Refiner": Path(request.refiner).name, "Refiner switch at": f"{request.refiner_from:g}"}
    # a line for the prompt also when it is empty, so that a reader finds the negative one
    lines = [request.prompt, str(Infotext("", request.negative_prompt, tuple(
        Pair(label, str(pairs[label])) for label in order if label in pairs)))]
    return "\n".join(lines)


def from_text(text: str) -> dict[str, Any]:
    """The request fields an A1111 text tells, and under "other" what we have no field for.

    Raises BadRequest when the text holds no settings.
    """
    settings = _common(text)
    if settings is None:
        raise BadRequest("This picture's text holds no settings: only pictures made by Latent Loom, "
                         "Automatic1111 and its relatives can be read.")
    return {**settings.values, "other": dict(settings.other)}


def _common(text: str) -> Settings | None:
    found = a1111.parse(text[:container.MAX_TEXT])
    return of_infotext(found, text) if found.pairs else None


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
        text += f", Forked from: {quoted(forked[0])}, Forked at: {forked[1]}"
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


def read(path: Path | str) -> Reading:
    """All that a picture file says, of whatever program it is; no pixel is decoded.

    Raises BadRequest for a file that is no picture, truncated, damaged or far too large.
    """
    carried = container.read(path)
    texts = carried.texts
    request = _own(texts.get(OWN_KEY, ""))
    settings = _common(texts[A1111_KEY]) if A1111_KEY in texts else None
    if request:
        other = dict(settings.other) if settings else {}
        settings = Settings("Latent Loom", request.to_dict(), other, texts.get(A1111_KEY, ""))
    settings = settings or comfyui.read(texts) or invokeai.read(texts)
    if settings and carried.dropped:
        other = {**settings.other, "Too long to be read": ", ".join(carried.dropped)}
        settings = Settings(settings.program, settings.values, other, settings.text)
    return Reading(carried.width, carried.height, settings, request)


def read_png(path: Path | str) -> Request:
    """The request that made a picture. Raises BadRequest when it does not say."""
    found = read(path)
    if found.request:
        return found.request
    if found.settings is None:
        raise no_settings(Path(path).name)
    values = dict(found.settings.values)
    if "Sampler" in found.settings.other:  # one that is not here: whoever wants to run it is told
        values["sampler"] = found.settings.other["Sampler"]
    return Request.parse(values)


def no_settings(name: str) -> BadRequest:
    return BadRequest(f"{name} holds no settings: it was not made here, or somebody stripped them.")


def _own(text: str) -> Request | None:
    """Of our JSON; None if it was written by a later version or tampered with: the common text may still do."""
    try:
        return Request.parse(json.loads(text)["request"]) if text else None
    except (ValueError, KeyError, TypeError, RecursionError, LoomError):
        return None
