"""A picture that comes back, dropped onto the page or out of the history -> what stands in a form, and what is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from gradio.utils import get_upload_folder

from core import metadata
from core.errors import BadRequest
from core.infotext.settings import Settings, told
from core.metadata import Reading
from ui import form
from ui.languages import say

MAX_FILE = 40_000_000  # bytes of a file that is opened; in ui/components/arrival.js too
_TYPED = ("steps", "guidance", "width", "height", "clip_skip", "refiner_from")
_ENDINGS = (".safetensors", ".ckpt", ".pt", ".gguf")


def uploaded(path: object, field: str | None = None) -> Path:
    """A file this page has just sent. Raises BadRequest, about `field`, for any other place."""
    folder = Path(get_upload_folder()).resolve()
    try:
        found = Path(str(path)).resolve()
        there = found.is_relative_to(folder) and found.is_file()
    except (OSError, ValueError):
        there = False
    if not there:
        raise BadRequest(say("arrival.file-lost"), field)
    if found.stat().st_size > MAX_FILE:
        raise BadRequest(say("arrival.file-too-large", size=MAX_FILE // 10**6), field)
    return found


def read(path: Path, name: str) -> Reading:
    """What a file says; `name` stands for it in messages. Raises BadRequest, also when it does not say how it came."""
    try:
        found = metadata.read(path)
    except BadRequest as error:
        raise BadRequest(str(error).replace(path.name[:80], name)) from None
    if found.settings is None:
        raise metadata.no_settings(name)
    return found


def filled(values: Mapping[str, Any], found: Reading, models: Sequence[str]) -> dict[str, Any]:
    """A form's values with a picture's settings in them; what the picture does not tell stays.

    models: the names of those that are here. A value that no model could use arrives as it was written: the form says
    what is wrong with it.
    """
    assert found.settings is not None
    taken = form.from_request(found.request) if found.request else _of_others(found.settings)
    for own in ("preview", "batch"):  # of the person, not of the picture
        taken.pop(own, None)
    here = model_here(str(found.settings.values.get("model", "")), models)
    refiner = str(found.settings.values.get("refiner", ""))
    taken["refiner"] = model_here(refiner, models) if refiner else ""  # a text without one means none
    return {**values, **taken, "style": form.NO_STYLE, "model": here or values["model"]}


def _of_others(settings: Settings) -> dict[str, Any]:
    given = settings.values
    words = ("prompt", "negative_prompt", "sampler")
    taken: dict[str, Any] = {name: str(given[name]) for name in words if name in given}
    taken |= {name: f"{given[name]:g}" if isinstance(given[name], float) else str(given[name])
              for name in _TYPED if name in given}
    if "sampler" in given or "schedule" in given:  # one without a schedule leaves the choice to the sampler
        taken["schedule"] = given.get("schedule", "Automatic")
    if "seed" in given:
        random = given["seed"] == -1
        taken["seed"] = {"random": random, "seed": "" if random else str(given["seed"])}
    return taken


def model_here(wanted: str, models: Sequence[str]) -> str:
    """The model of that name, whatever folder and ending others write with it; "" when it is not here."""
    if wanted in models:
        return wanted
    return next((name for name in models if _bare(name) == _bare(wanted)), "")


def _bare(name: str) -> str:
    name = PurePosixPath(name.replace("\\", "/")).name.casefold()
    return next((name.removesuffix(ending) for ending in _ENDINGS if name.endswith(ending)), name)


def card(found: Reading, name: str, models: Sequence[str], stays: str) -> dict[str, Any]:
    """What is told beside the form. stays: the model that stands there while the picture's own is not here."""
    settings = found.settings
    assert settings is not None
    lines = []
    wanted = str(settings.values.get("model", ""))
    if wanted and not model_here(wanted, models):
        lines.append(say("arrival.no-model", model=wanted[:80], stays=stays[:80]))
    refiner = str(settings.values.get("refiner", ""))
    if refiner and not model_here(refiner, models):
        lines.append(say("arrival.no-refiner", refiner=refiner[:80]))
    regions = len(settings.values.get("regions") or ())
    if regions:
        lines.append(say("arrival.regions", n=regions))
    return {"name": name, "program": settings.program, "lines": lines, "other": others(settings), "regions": regions,
            "error": ""}


def others(settings: Settings | None) -> list[list[str]]:
    """[label, value] of what no form has a field for."""
    if settings is None:
        return []
    ours = settings.program == "Latent Loom"
    return told((label, value) for label, value in settings.other.items() if not (ours and label == "Version"))


def failure(name: str, error: Exception) -> dict[str, Any]:
    return {"name": name, "program": "", "lines": [], "other": [], "regions": 0, "error": str(error)}
