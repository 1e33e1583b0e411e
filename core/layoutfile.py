"""Layout files: a composition as JSON that people save, share and run with `python -m core compose`.

    {"prompt", "negative_prompt", "width", "height", "bootstrap": 0.2, "masks": "area" or "paper",
     "regions": [{"name", "prompt", "negative_prompt", "mask": "file.png" or "box": [x0, y0, x1, y1] in 0..1,
                  "weight": 1, "feather": 0}]}

Mask files lie beside the layout file or below its folder; a mask may also stand in the file itself, as runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core.errors import BadRequest, closest
from core.masks import Mask
from core.request import Region, Request

FIELDS = ("prompt", "negative_prompt", "width", "height", "bootstrap", "masks", "crop_after", "join_prompts",
          "panorama", "stride", "wrap", "regions")
MAX_BYTES = 20_000_000


def read(path: Path) -> dict[str, Any]:
    """The Request fields a layout file sets, its masks read. Raises BadRequest."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadRequest(f"{path.name} is larger than {MAX_BYTES // 10**6} MB: that is no layout.", "regions")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRequest(f"The layout {path} cannot be read ({error.strerror}): check the path.", "regions") from None
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise BadRequest(f"The layout {path.name} is not JSON ({where}): mend it there.", "regions") from None
    return parse(values, path.parent)


def parse(values: Any, folder: Path | None = None) -> dict[str, Any]:
    """The same from a JSON value. folder: where mask files may lie; None allows none. Raises BadRequest."""
    if not isinstance(values, dict):
        raise BadRequest("A layout must be a JSON object with \"prompt\" and \"regions\".", "regions")
    if unknown := [key for key in values if key not in FIELDS]:
        raise BadRequest(f"A layout has no field {unknown[0]!r}. {closest(str(unknown[0]), list(FIELDS))}", "regions")
    listed = values.get("regions")
    if not isinstance(listed, list) or not listed:
        raise BadRequest("The layout has no region: add one under \"regions\", or make a picture without regions.",
                         "regions")
    regions = []
    for k, entry in enumerate(listed, start=1):
        if not isinstance(entry, dict):
            raise BadRequest(f"Region {k} of the layout must be an object.", "regions")
        entry = {"name": f"region {k}", **entry}
        if isinstance(entry.get("mask"), str):
            entry["mask"] = Mask.read(_inside(folder, entry["mask"]))
        regions.append(Region.parse(entry))
    return {**values, "regions": tuple(regions)}


def to_dict(request: Request) -> dict[str, Any]:
    """A request's composition as a layout, its masks within: one file that can be shared."""
    values = request.to_dict()
    return {name: values[name] for name in FIELDS}


def _inside(folder: Path | None, name: str) -> Path:
    """The mask file, if it lies below the layout's folder, whatever links say."""
    if folder is None:
        raise BadRequest(f"The mask {name[:80]!r} is a file, which only a layout on disk can name: paint it, or give a "
                         "box.", "regions")
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise BadRequest(f"The mask {name[:80]!r} lies outside of the layout's folder: copy it there.", "regions")
    return path
