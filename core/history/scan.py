"""Which pictures lie in the outputs folder now, against what the index knows: only folders that changed are read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from core import metadata
from core.errors import BadRequest
from core.owners import PEOPLE

OWN = ".history"  # this package's folder below the outputs
TRASH = f"{OWN}/trash"
RACY = 2_000_000_000  # ns: a folder that was changed this lately may change again without a trace in its time stamp


class Folder(NamedTuple):
    """A folder that changed. files: name -> (mtime in ns, bytes) of each PNG."""

    place: str  # below the outputs; "" for them
    stamp: int
    files: dict[str, tuple[int, int]]


def changed(outputs: Path, known: dict[str, int], gone: set[str]) -> Iterator[Folder]:
    """The folders that are not as `known` (place -> stamp), top down, the trash too.

    gone: filled with the known folders that are there no more. Links are not followed.
    """
    gone |= set(known)
    children: dict[str, list[str]] = {}
    for place in known:
        if place:
            children.setdefault(_parent(place), []).append(place)
    waiting = ["", TRASH]
    while waiting:
        place = waiting.pop()
        try:
            stamp = os.stat(outputs / place, follow_symlinks=False).st_mtime_ns
        except OSError:
            continue
        gone.discard(place)
        if known.get(place) == stamp:
            waiting += children.get(place, [])
            continue
        files = {}
        try:
            with os.scandir(outputs / place) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name == PEOPLE and not place:  # each has a history of their own
                            continue
                        waiting.append(f"{place}/{entry.name}" if place else entry.name)
                    elif entry.name.lower().endswith(".png") and entry.is_file(follow_symlinks=False):
                        found = entry.stat(follow_symlinks=False)
                        files[entry.name] = (found.st_mtime_ns, found.st_size)
        except OSError:
            continue
        yield Folder(place, stamp if time.time_ns() - stamp > RACY else 0, files)


def _parent(place: str) -> str:
    return "" if place == TRASH else place.rpartition("/")[0]


def facts(outputs: Path, file: str, stamp: int, size: int) -> dict[str, Any]:
    """The columns of a picture. file: its place below the outputs. Raises BadRequest for one that cannot be read."""
    if not file.isprintable():
        raise BadRequest(f"The name {ascii(file)[:80]} holds signs that cannot be shown: give it another one.")
    found = metadata.read(outputs / file)
    values = dict(found.settings.values) if found.settings else {}

    def whole(name: str) -> int | None:
        value = values.get(name)
        return value if type(value) is int and abs(value) < 2**63 else None

    def text(name: str) -> str:
        return "".join(c if c.isprintable() or c in "\n\t" else " " for c in str(values.get(name) or ""))

    place, deleted = file, None
    if file.startswith(TRASH + "/"):
        moment, _, place = file.removeprefix(TRASH + "/").partition("/")
        if not moment.isdecimal() or not place:
            raise BadRequest(f"{file} lies in the trash, but was not put there by the studio: move it elsewhere.")
        deleted = int(moment) / 1000
    return {"file": file, "folder": file.rpartition("/")[0], "place": place, "stamp": stamp, "bytes": size,
            "made": stamp / 1e9, "width": found.width, "height": found.height, "prompt": text("prompt"),
            "negative": text("negative_prompt"), "model": text("model"), "sampler": text("sampler"),
            "seed": whole("seed"), "steps": whole("steps"), "regions": len(values.get("regions") or ()),
            "program": found.settings.program if found.settings else "", "deleted": deleted}
