"""Layout files: a composition as JSON that people save, share and run with `python -m core compose`.

    {"name", "prompt", "negative_prompt", "width", "height", "bootstrap": 0.2, "masks": "area" or "paper",
     "regions": [{"name", "prompt", "negative_prompt", "mask": "file.png" or "box": [x0, y0, x1, y1] in 0..1,
                  "weight": 1, "feather": 0, "hidden": false}]}

The name is for lists of presets. Mask files lie beside the layout file or below its folder; a mask may also stand in
the file itself, as runs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import BadRequest, closest
from core.masks import Mask
from core.request import Region, Request

FIELDS = ("prompt", "negative_prompt", "width", "height", "bootstrap", "masks", "crop_after", "say_places",
          "join_prompts", "panorama", "stride", "wrap", "regions")
MAX_BYTES = 20_000_000


class State(NamedTuple):
    """What a region of a half-finished layout is or lacks; its Region holds something in the place of that."""

    hidden: bool = False  # left out of the picture
    wordless: bool = False
    unpainted: bool = False


class Sketch(NamedTuple):
    """A layout that somebody works on. fields: of Request, those that it sets."""

    fields: dict[str, Any]
    states: list[State]
    name: str  # "" where it has none


def read(path: Path) -> dict[str, Any]:
    """The Request fields a layout file sets, its masks read; hidden regions are left out. Raises BadRequest."""
    return parse(_load(path), path.parent)


def parse(values: Any, folder: Path | None = None) -> dict[str, Any]:
    """The same from a JSON value. folder: where mask files may lie; None allows none. Raises BadRequest."""
    regions = [Region.parse(entry) for entry, hidden in _entries(values, folder) if not hidden]
    if not regions:
        raise BadRequest("Every region of the layout is hidden: show one.", "regions")
    return {**_fields(values), "regions": tuple(regions)}


def sketch(path: Path) -> Sketch:
    """The same for a layout that somebody works on: hidden and half-finished regions are there, their State beside."""
    regions, states = [], []
    values = _load(path)
    for entry, hidden in _entries(values, path.parent):
        region, state = lend(entry, hidden)
        regions.append(region)
        states.append(state)
    return Sketch({**_fields(values), "regions": tuple(regions)}, states, values.get("name", ""))


def spoken(path: Path) -> str:
    """The name of a layout that has none in it, from its file: "1-living-room.json" is "Living room"."""
    return path.stem.lstrip("0123456789-").replace("-", " ").capitalize()


def lend(entry: dict[str, Any], hidden: bool = False) -> tuple[Region, State]:
    """A Region of an entry that may lack its prompt or its place; what it has is checked. Raises BadRequest."""
    prompt, mask = entry.get("prompt", ""), entry.get("mask")
    wordless = isinstance(prompt, str) and not prompt.strip()
    unpainted = entry.get("box") is None and (mask is None or isinstance(mask, Mask) and mask.empty)
    whole = {**entry, **({"prompt": "?"} if wordless else {}),
             **({"mask": None, "box": (0, 0, 1, 1)} if unpainted else {})}
    return Region.parse(whole), State(hidden, wordless, unpainted)


def to_dict(request: Request, states: Sequence[State] = ()) -> dict[str, Any]:
    """A request's composition as a layout, its masks within: one file that can be shared.

    states: of its regions, where some are hidden, or lack what `lend` put there.
    """
    values = request.to_dict()
    for entry, state in zip(values["regions"], states or [State()] * len(request.regions), strict=True):
        if state.wordless:
            entry["prompt"] = ""
        if state.unpainted:
            del entry["box"]
        if state.hidden:
            entry["hidden"] = True
    return {name: values[name] for name in FIELDS}


def _fields(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "name"}


def _load(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadRequest(f"{path.name} is larger than {MAX_BYTES // 10**6} MB: that is no layout.", "regions")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRequest(f"The layout {path} cannot be read ({error.strerror}): check the path.", "regions") from None
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise BadRequest(f"The layout {path.name} is not JSON ({where}): mend it there.", "regions") from None


def _entries(values: Any, folder: Path | None) -> list[tuple[dict[str, Any], bool]]:
    """A layout's regions as Region's fields, mask files read; and whether each is hidden."""
    if not isinstance(values, dict):
        raise BadRequest("A layout must be a JSON object with \"prompt\" and \"regions\".", "regions")
    if unknown := [key for key in _fields(values) if key not in FIELDS]:
        raise BadRequest(f"A layout has no field {unknown[0]!r}. {closest(str(unknown[0]), list(FIELDS))}", "regions")
    if not isinstance(values.get("name", ""), str):
        raise BadRequest("The name of a layout must be text.", "regions")
    listed = values.get("regions")
    if not isinstance(listed, list) or not listed:
        raise BadRequest("The layout has no region: add one under \"regions\", or make a picture without regions.",
                         "regions")
    entries = []
    for k, entry in enumerate(listed, start=1):
        if not isinstance(entry, dict):
            raise BadRequest(f"Region {k} of the layout must be an object.", "regions")
        entry = {"name": f"region {k}", **entry}
        hidden = entry.pop("hidden", False)
        if not isinstance(hidden, bool):
            raise BadRequest(f"\"hidden\" of region {k} must be true or false.", "regions")
        if isinstance(entry.get("mask"), str):
            entry["mask"] = Mask.read(_inside(folder, entry["mask"]))
        elif entry.get("mask") is not None:
            entry["mask"] = Mask.parse(entry["mask"])
        entries.append((entry, hidden))
    return entries


def _inside(folder: Path | None, name: str) -> Path:
    """The mask file, if it lies below the layout's folder, whatever links say."""
    if folder is None:
        raise BadRequest(f"The mask {name[:80]!r} is a file, which only a layout on disk can name: paint it, or give a "
                         "box.", "regions")
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise BadRequest(f"The mask {name[:80]!r} lies outside of the layout's folder: copy it there.", "regions")
    return path
