"""A person's own presets beside the project's: styles, settings and negative prompts (TOML), layouts (JSON).

A folder holds styles.toml, settings.toml, negatives.toml and layouts/ (core/ownlayouts.py); each is optional. An own
entry stands in for the project's of the same name. A file that cannot be used is left out, with one line; it is never
overwritten.
"""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from core import layoutfile
from core.errors import BadRequest, LoomError
from core.files import disk_errors, write_text
from core.owners import home
from core.ownlayouts import OwnLayouts
from core.presets import PRESETS, Style, load_layouts, parse_style, read_tables
from core.request import Request
from core.samplers import SAMPLERS, SCHEDULES

SETTINGS = ("sampler", "schedule", "steps", "guidance", "width", "height", "batch", "precision", "clip_skip")
LAYOUT = "layout"  # the kind that has files of its own
FILES = {"style": "styles.toml", "settings": "settings.toml", "negative": "negatives.toml"}
KINDS = (*FILES, LAYOUT)
MAX_NAME = 60  # characters: what a list shows without cutting
MAX_BYTES = 5_000_000  # of a styles.csv
NO_NAMES = ("none",)  # the Style field says it where no style is chosen


class Preset(NamedTuple):
    """One entry. values: a Style's fields, some of Request's SETTINGS, the negative_prompt, or a layout's "fields" of
    Request and the "states" of its regions."""

    kind: str
    name: str
    values: Mapping[str, Any]
    own: bool


class Presets:
    """The project's presets and those of `folder`, which the first save creates. None: nothing can be saved."""

    def __init__(self, folder: Path | None = None, project: Path = PRESETS):
        self.folder, self.project = folder, project
        self._layouts = OwnLayouts(folder / "layouts") if folder else None
        self._lock = threading.Lock()
        self._people: dict[str, Presets] = {}
        self._read: dict[Path, tuple[object, dict[str, dict[str, Any]] | LoomError]] = {}

    def of(self, owner: str) -> Presets:
        """Those of somebody who logged in, in a folder of their own. Without logins the owner is "", and has these."""
        if not owner or self.folder is None:
            return self
        return self._people.setdefault(owner, Presets(home(self.folder, owner), self.project))

    def all(self, kind: str) -> dict[str, Preset]:
        """The presets of a kind by name: the project's, then the own; without files that cannot be used."""
        if kind == LAYOUT:
            return self._all_layouts()
        found: dict[str, Preset] = {}
        for folder, own in ((self.project, False), (self.folder, True)):
            entries = self._entries(folder / FILES[kind], kind) if folder else {}
            if not isinstance(entries, LoomError):
                found |= {name: Preset(kind, name, values, own) for name, values in entries.items()}
        return found

    def get(self, kind: str, name: str) -> Preset:
        """Raises BadRequest for one that is not there."""
        found = self.all(kind).get(name) if kind in KINDS else None
        if found is None:
            raise BadRequest(f"There is no preset {name[:MAX_NAME]!r} any more: choose another.", "presets")
        return found

    def styles(self) -> dict[str, Style]:
        return {name: Style(name=name, **preset.values) for name, preset in self.all("style").items()}

    def problems(self) -> list[str]:
        """One line for every file that is left out."""
        read = [self._entries(folder / file, kind) for folder in (self.project, self.folder) if folder
                for kind, file in FILES.items()]
        left = self._layouts.all()[1] if self._layouts else []
        return [f"{error} It is left out." for error in read if isinstance(error, LoomError)] + left

    def save(self, kind: str, name: str, values: Mapping[str, Any]) -> Preset:
        """Write a new own preset. Raises BadRequest for a name or values that cannot be, OutputError by the disk."""
        name = check_name(name)
        if kind == LAYOUT:
            with self._changing_layouts() as layouts:
                _refuse_taken(kind, name, layouts.all()[0])
                layouts.save(name, values)
            return self.get(kind, name)

        def add(entries: dict[str, dict[str, Any]]) -> None:
            _refuse_taken(kind, name, entries)
            entries[name] = _checked("The preset", kind, name, dict(values))
        self._change(kind, add)
        return self.get(kind, name)

    def rename(self, kind: str, name: str, new: str) -> Preset:
        """Raises BadRequest for a preset that is not one's own, or a name that cannot be."""
        new = check_name(new)
        if kind == LAYOUT:
            with self._changing_layouts() as layouts:
                own = layouts.all()[0]
                _refuse_foreign(name, own)
                _refuse_taken(kind, new, own)
                layouts.rename(own[name], new)
            return self.get(kind, new)

        def move(entries: dict[str, dict[str, Any]]) -> None:
            _refuse_foreign(name, entries)
            _refuse_taken(kind, new, entries)
            entries[new] = entries.pop(name)
        self._change(kind, move)
        return self.get(kind, new)

    def delete(self, kind: str, name: str) -> None:
        """Raises BadRequest for a preset that is not one's own."""
        if kind == LAYOUT:
            with self._changing_layouts() as layouts:
                own = layouts.all()[0]
                _refuse_foreign(name, own)
                layouts.delete(own[name])
            return

        def drop(entries: dict[str, dict[str, Any]]) -> None:
            _refuse_foreign(name, entries)
            del entries[name]
        self._change(kind, drop)

    def import_styles(self, path: Path) -> tuple[int, list[str]]:
        """Take over the styles of a styles.csv; how many came, and a line for each that did not.

        The file has a heading and the columns name, prompt (or text) and negative_prompt. Raises BadRequest for a file
        that is none.
        """
        rows = _read_csv(path)
        left: list[str] = []

        def add(entries: dict[str, dict[str, Any]]) -> None:
            for line, row in rows:
                try:
                    name = check_name(row["name"])
                    _refuse_taken("style", name, entries)
                    entries[name] = _checked(path.name, "style", name, style_values(row["prompt"],
                                                                                    row["negative_prompt"]))
                except LoomError as error:
                    left.append(f"Line {line} did not come: {error}")
        self._change("style", add)
        return len(rows) - len(left), left

    def _entries(self, path: Path, kind: str) -> dict[str, dict[str, Any]] | LoomError:
        """A file's entries, checked, or what is wrong with it; read anew when it has changed."""
        try:
            stat = path.stat()
        except OSError:
            return {}
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if path not in self._read or self._read[path][0] != stamp:
            try:
                entries: dict[str, dict[str, Any]] | LoomError = {
                    name: _checked(path.name, kind, name, entry) for name, entry in read_tables(path).items()}
            except LoomError as error:
                entries = error
            self._read[path] = stamp, entries
        return self._read[path][1]

    def _all_layouts(self) -> dict[str, Preset]:
        found = {}
        for name, fields in self._shipped_layouts.items():
            states = [layoutfile.State()] * len(fields["regions"])
            found[name] = Preset(LAYOUT, name, {"fields": fields, "states": states}, False)
        for name, layout in self._layouts.all()[0].items() if self._layouts else ():
            found[name] = Preset(LAYOUT, name, {"fields": layout.fields, "states": layout.states}, True)
        return found

    @cached_property
    def _shipped_layouts(self) -> dict[str, dict[str, Any]]:
        return load_layouts(self.project / "layouts")

    def _change(self, kind: str, change: Callable[[dict[str, dict[str, Any]]], None]) -> None:
        """Read the own file of a kind, change its entries and write them."""
        if kind not in FILES:
            raise BadRequest("Choose what to save, from the list.", "presets")
        with self._writing() as folder:
            path = folder / FILES[kind]
            entries = self._entries(path, kind)
            if isinstance(entries, LoomError):
                raise BadRequest(f"{entries} Mend or move it before saving there.", "presets")
            entries = dict(entries)
            change(entries)
            folder.mkdir(parents=True, exist_ok=True)
            write_text(path, to_toml(entries))

    @contextmanager
    def _changing_layouts(self) -> Iterator[OwnLayouts]:
        with self._writing():
            assert self._layouts  # where there is a folder
            yield self._layouts

    @contextmanager
    def _writing(self) -> Iterator[Path]:
        """The own folder, for one who changes what lies there. Raises BadRequest where there is none, OutputError by
        the disk."""
        if self.folder is None:
            raise BadRequest("There is no folder for own presets: start the studio with --presets DIR.", "presets")
        with self._lock, disk_errors("presets", self.folder):
            yield self.folder


def check_name(name: str) -> str:
    """The name without spaces around it. Raises BadRequest for one that is empty, too long, or looks like a path."""
    name = (name or "").strip()
    if not name:
        raise BadRequest("The preset needs a name: type one.", "presets")
    if len(name) > MAX_NAME:
        raise BadRequest(f"The name has {len(name):,} characters: at most {MAX_NAME} fit.", "presets")
    if not name.isprintable():
        raise BadRequest("The name holds a character that cannot be shown: type it anew.", "presets")
    if "/" in name or "\\" in name or name.startswith("."):
        raise BadRequest(f"The name {name!r} looks like a path: leave out / and \\, and a dot at the front.", "presets")
    if name.lower() in NO_NAMES:
        raise BadRequest(f"{name!r} says that nothing is chosen: take another name.", "presets")
    return name


def style_values(prompt: str, negative_prompt: str) -> dict[str, str]:
    """A style of these words. Raises BadRequest where there are none."""
    prompt, negative_prompt = prompt.strip(), negative_prompt.strip()
    if not prompt and not negative_prompt:
        raise BadRequest("There are no words to save: write them in the prompt or the negative prompt.", "presets")
    return {"prompt": prompt, "negative_prompt": negative_prompt}


def to_toml(entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables of text, numbers and true or false."""
    tables = (f"[{_toml(name)}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())
              for name, values in entries.items())
    return "\n".join(tables)


def _toml(value: str | float | bool) -> str:
    # JSON's text is TOML's, but for the delete character, which TOML wants escaped
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _checked(file: str, kind: str, name: str, entry: Any) -> dict[str, Any]:
    """The values of an entry. Raises BadRequest or StartError, in one line."""
    if kind == "style":
        parse_style(file, name, entry)
        return dict(entry)
    known = SETTINGS if kind == "settings" else ("negative_prompt",)
    where = f"{file}: {name[:MAX_NAME]!r}"
    if not isinstance(entry, dict) or not entry:
        raise BadRequest(f"{where} holds nothing to apply.", "presets")
    if unknown := [key for key in entry if key not in known]:
        raise BadRequest(f"{where} has an unknown setting {unknown[0][:40]!r}: it may hold {', '.join(known)}.",
                         "presets")
    try:
        Request(**entry)
        if "sampler" in entry:
            SAMPLERS[entry["sampler"]]
        if "schedule" in entry:
            SCHEDULES[entry["schedule"]]
    except BadRequest as error:
        raise BadRequest(f"{where} cannot be used: {error}", "presets") from None
    except KeyError:
        raise BadRequest(f"{where} names the schedule {str(entry['schedule'])[:40]!r}, which is not there.",
                         "presets") from None
    if kind == "negative" and not entry["negative_prompt"].strip():
        raise BadRequest("There is no negative prompt to save: write one.", "presets")
    return dict(entry)


def _refuse_taken(kind: str, name: str, entries: Mapping[str, Any]) -> None:
    if name in entries:
        what = {"style": "style", "settings": "preset of settings", "negative": "negative prompt"}.get(kind, kind)
        raise BadRequest(f"You have a {what} named {name!r} already: take another name, or delete that one.", "presets")


def _refuse_foreign(name: str, entries: Mapping[str, Any]) -> None:
    if name not in entries:
        raise BadRequest(f"{name[:MAX_NAME]!r} is not one of your own presets: only those can be changed.", "presets")


def _read_csv(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line where it ends, row) of every row that is not empty."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadRequest(f"{path.name} is larger than {MAX_BYTES // 10**6} MB: that is no list of styles.",
                             "presets")
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        heading = reader.fieldnames or []
        column = next((name for name in ("prompt", "text") if name in heading), None)
        if "name" not in heading or column is None:
            raise BadRequest(f"{path.name} lacks the heading name,prompt,negative_prompt: that is no list of styles.",
                             "presets")
        return [(reader.line_num, {"name": row["name"] or "", "prompt": row[column] or "",
                                   "negative_prompt": row.get("negative_prompt") or ""})
                for row in reader if any(isinstance(cell, str) and cell.strip() for cell in row.values())]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadRequest(f"{path.name} cannot be read ({str(error)[:80]}): save it as CSV in UTF-8.",
                         "presets") from None
