"""The command line's `history` and `read`."""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import Any

from core import metadata
from core.errors import BadRequest
from core.history import Entry, History, Query

_FILTERS = ("model", "sampler", "since", "until", "tag")


def add_history_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="the folder of pictures")
    parser.add_argument("--search", default="", metavar="WORDS", help='words of the prompt, and "phrases"')
    for name in _FILTERS:
        wanted = "YYYY-MM-DD" if name in ("since", "until") else name.upper()
        parser.add_argument(f"--{name}", default="", metavar=wanted)
    parser.add_argument("--favourites", action="store_true", help="only those")
    parser.add_argument("--trash", action="store_true", help="those that were deleted, instead of the others")
    parser.add_argument("--count", type=int, default=50, help="how many at most, the newest first (default: 50)")
    parser.add_argument("--rebuild", action="store_true", help="throw the index away and build it from the pictures")
    parser.add_argument("--empty-trash", action="store_true", help="delete for good what is in the trash")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def history(options: argparse.Namespace) -> None:
    """Raises LoomError."""
    if not options.outputs.is_dir():
        raise BadRequest(f"There is no folder {options.outputs}: name it with --outputs.")
    logging.basicConfig(format="%(message)s")
    found = History(options.outputs)
    try:
        if options.rebuild:
            found.rebuild()
        else:
            found.scan()
        if options.empty_trash:
            found.empty_trash()
        query = Query(words=options.search, favourites=options.favourites, trash=options.trash,
                      **{name: getattr(options, name) for name in _FILTERS})
        total, entries = found.search(query, 0, options.count)
    finally:
        found.close()
    if options.json:
        print(json.dumps([row(entry) for entry in entries], ensure_ascii=False, indent=1))
        return
    for entry in entries:
        moment = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.made))
        words = " ".join(entry.prompt.split())
        print(f"{moment}  {'*' if entry.favourite else ' '} {entry.file}  {words[:80]}")
    print(f"{total} picture{'s' * (total != 1)}" + (f", the newest {len(entries)} of them" if len(entries) < total
                                                    else ""))


def row(entry: Entry) -> dict[str, Any]:
    """An entry as JSON for scripts."""
    values = entry._asdict()
    for name in ("id", "stamp"):
        del values[name]
    return {**values, "tags": list(entry.tags), "made": round(entry.made, 3)}


def read(options: argparse.Namespace) -> None:
    """Print how a picture was made, whatever program made it. Raises BadRequest."""
    found = metadata.read(options.picture)
    settings = found.settings
    if settings is None:
        raise metadata.no_settings(options.picture.name)
    if options.json:
        print(json.dumps({"program": settings.program, "width": found.width, "height": found.height,
                          "settings": dict(settings.values), "other": dict(settings.other)}, ensure_ascii=False,
                         indent=1))
        return
    print(f"{settings.program}, {found.width}x{found.height} pixels")
    for label, value in (*settings.values.items(), *settings.other.items()):
        if label != "regions":
            print(f"{label}: {value}")
    for region in settings.values.get("regions", ()):
        print(f"region {region['name']}: {region['prompt']}")
