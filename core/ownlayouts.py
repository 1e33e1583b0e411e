"""A person's own layouts of regions: a folder of layout files (core/layoutfile.py), also half-finished ones."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from core import layoutfile
from core.errors import BadRequest
from core.files import write_text
from core.request import Request


class OwnLayout(NamedTuple):
    """fields: of Request, those that the file sets; states: of its regions."""

    fields: Mapping[str, Any]
    states: list[layoutfile.State]
    path: Path


class OwnLayouts:
    """What lies in `folder`, which the first save creates."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._read: dict[Path, tuple[object, tuple[str, OwnLayout] | BadRequest]] = {}

    def all(self) -> tuple[dict[str, OwnLayout], list[str]]:
        """The layouts by name, in the order of their files; and a line for every file that is left out."""
        found, lines = {}, []
        for path in sorted(self.folder.glob("*.json")):
            entry = self._entry(path)
            if isinstance(entry, BadRequest):
                lines.append(f"The preset {path.name} cannot be used: {entry} It is left out.")
            else:
                found[entry[0]] = entry[1]
        return found, lines

    def save(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a layout, as layoutfile.to_dict makes it. Raises BadRequest for one without regions."""
        if not values.get("regions"):
            raise BadRequest("There is no region to save: paint one first.", "presets")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(self._free(name), name, values)

    def rename(self, layout: OwnLayout, new: str) -> None:
        """The file stays where it is, beside its masks."""
        self._write(layout.path, new, json.loads(layout.path.read_text(encoding="utf-8")))

    def delete(self, layout: OwnLayout) -> None:
        layout.path.unlink(missing_ok=True)

    def _write(self, path: Path, name: str, values: Mapping[str, Any]) -> None:
        write_text(path, json.dumps({"name": "", **values} | {"name": name}, ensure_ascii=False, indent=1))

    def _free(self, name: str) -> Path:
        """A file that is not there yet, with as much of the name as any disk takes."""
        plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower()).strip("-") or "layout"
        return next(path for k in itertools.count(1) if not (path := self.folder / f"{plain}-{k}.json").exists())

    def _entry(self, path: Path) -> tuple[str, OwnLayout] | BadRequest:
        """(name, layout) of a file, or what is wrong with it; read anew when it has changed."""
        try:
            stat = path.stat()
        except OSError as error:
            return BadRequest(f"It cannot be read ({error.strerror}).")
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if path not in self._read or self._read[path][0] != stamp:
            try:
                found = layoutfile.sketch(path)
                Request(**found.fields)
                entry: tuple[str, OwnLayout] | BadRequest = (found.name or layoutfile.spoken(path),
                                                             OwnLayout(found.fields, found.states, path))
            except BadRequest as error:
                entry = error
            self._read[path] = stamp, entry
        return self._read[path][1]
