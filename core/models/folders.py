"""Where models lie: the models folder, and those of other studios by their layouts. Reads names, opens no file."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from core.models.header import PICKLED, leads_out

TINY = {"sd": "taesd", "sdxl": "taesdxl"}  # small decoders, by the names their authors gave them
VAE_FOLDER = "vae"
# Folders, in lower case, that hold no checkpoints: our own, and those that A1111, Forge and ComfyUI make in `models`.
ASIDE = frozenset("""vae vae_approx vae-approx preview lora loras lycoris embeddings embedding textual_inversion
controlnet control_net hypernetworks clip clip_vision text_encoder text_encoders style_models gligen ipadapter unet
diffusion_models upscale_models esrgan realesrgan gfpgan codeformer swinir ldsr dat scunet karlo deepbooru
torch_deepdanbooru blip""".split())
DEEPEST = 6  # folders within folders
_RACY = 2 * 10**9  # ns: some disks note the time of a folder's last change to two seconds only


class Layout(NamedTuple):
    """How another studio sorts its models: folders from its root (or the folder `models` there), in lower case."""

    words: str
    signs: tuple[str, ...]  # one of them tells this studio; they hold checkpoints
    checkpoints: tuple[str, ...]  # others that do
    vaes: tuple[str, ...]


LAYOUTS = (
    Layout("Automatic1111", ("stable-diffusion",), ("diffusers",), ("vae",)),  # Forge and SD.Next have the same
    Layout("ComfyUI", ("checkpoints",), ("diffusers",), ("vae",)),
    Layout("InvokeAI", ("sd-1/main", "sd-2/main", "sdxl/main"), (), ("sd-1/vae", "sd-2/vae", "sdxl/vae", "any/vae")),
)


@dataclass
class Scan:
    """What was found. Every value: name -> where it lies."""

    models: dict[str, Path] = field(default_factory=dict)  # diffusers folders and .safetensors files
    refused: dict[str, Path] = field(default_factory=dict)  # pickled checkpoints: shown, and never loaded
    links: dict[str, Path] = field(default_factory=dict)  # folders that lead out: shown, and never entered
    vaes: dict[str, Path] = field(default_factory=dict)


class Folders:
    """own: the models folder. also: roots of other studios, or any folder. None of them needs to be there.

    Names are paths from the folder that holds the models, without .safetensors; where two are the same, the later one
    begins with its root's name.
    """

    def __init__(self, own: Path | str, also: Iterable[Path | str] = ()):
        self.own, self.also = Path(own), [Path(root).expanduser() for root in also]
        self._scan: Scan | None = None
        self._stamps: dict[Path, int] = {}  # of every folder that was read

    @property
    def roots(self) -> list[Path]:
        return [self.own, *self.also]

    def lists(self, path: Path) -> bool:
        """Whether a path stands below one of the folders, wherever its links may lead."""
        return any(path.is_relative_to(root) for root in self.roots)

    def scan(self, again: bool = False) -> Scan:
        """What is there now; read anew only where a folder has changed, or `again`."""
        if self._scan is None or again or any(_stamp(folder) != stamp for folder, stamp in self._stamps.items()):
            reader = _Reader(self)
            self._stamps, self._scan = reader.stamps, reader.read()
        return self._scan

    def home(self, path: Path) -> str:
        """The root that a model was found in, in short; "" for the models folder."""
        root = next((root for root in self.also if path.is_relative_to(root)), None)
        return "" if root is None or path.is_relative_to(self.own) else root.name


class _Entry(NamedTuple):
    path: Path
    folder: bool
    link: bool


class _Reader:
    """One look at all folders."""

    def __init__(self, folders: Folders):
        self.folders, self.found, self.stamps = folders, Scan(), dict[Path, int]()
        self.began = time.time_ns()

    def read(self) -> Scan:
        self._checkpoints(self.folders.own, self.folders.own, self.folders.own)
        for root in self.folders.also:
            self._other(root)
        found = self.found
        found.models = dict(sorted(found.models.items()))
        return found

    def _other(self, root: Path) -> None:
        for base in (root, root / "models"):
            below = {entry.path.name.lower(): entry.path for entry in self._list(base) if entry.folder}
            for name in [name for name in below if name in ("sd-1", "sd-2", "sdxl", "any")]:
                below |= {f"{name}/{entry.path.name.lower()}": entry.path for entry in self._list(below[name])}
            layout = next((one for one in LAYOUTS if any(sign in below for sign in one.signs)), None)
            if layout is None:
                continue
            for names, enter in (((*layout.signs, *layout.checkpoints), self._checkpoints), (layout.vaes, self._vaes)):
                for folder in (below[name] for name in names if name in below):
                    if leads_out(folder, self.folders.roots):
                        self._add(self.found.links, folder, base, root)
                    else:
                        enter(folder, folder, root)
            return
        self._checkpoints(root, root, root)

    def _checkpoints(self, folder: Path, base: Path, root: Path, depth: int = 0) -> None:
        """base: from where names count. Folders in it sort checkpoints, are diffusers folders, or hold VAEs."""
        for entry in self._list(folder):
            path = entry.path
            if entry.folder:
                self._folder(entry, base, root, depth)
            elif path.suffix.lower() in PICKLED:
                self._add(self.found.refused, path, base, root)
            elif path.suffix.lower() == ".safetensors" and not _is_part(path):
                self._add(self.found.models, path, base, root)

    def _folder(self, entry: _Entry, base: Path, root: Path, depth: int) -> None:
        path, name = entry.path, entry.path.name.lower()
        inside = {one.path.name for one in self._list(path)}
        if "model_index.json" in inside:
            self._add(self.found.models, path, base, root)
        elif "config.json" in inside:
            self._add(self.found.vaes, path, path.parent, root)
        elif entry.link:  # what lies inside of the roots is found at its own place
            if leads_out(path, self.folders.roots):
                self._add(self.found.links, path, base, root)
        elif name == VAE_FOLDER:
            self._vaes(path, path, root)
        elif name not in ASIDE and name not in TINY.values() and depth < DEEPEST:
            self._checkpoints(path, base, root, depth + 1)

    def _vaes(self, folder: Path, base: Path, root: Path, depth: int = 0) -> None:
        for path, is_folder, is_link in self._list(folder):
            if not is_folder:
                if path.suffix.lower() == ".safetensors" and not path.name.startswith(tuple(TINY.values())):
                    self._add(self.found.vaes, path, path.parent, root)
            elif any(one.path.name == "config.json" for one in self._list(path)):
                self._add(self.found.vaes, path, path.parent, root)
            elif depth < DEEPEST and not is_link:
                self._vaes(path, base, root, depth + 1)

    def _add(self, where: dict[str, Path], path: Path, base: Path, root: Path) -> None:
        """By the first name that is free: a .safetensors goes without its ending if it can."""
        name = path.relative_to(base)
        full = name.as_posix()
        plain = name.with_suffix("").as_posix() if path.suffix.lower() == ".safetensors" and path.is_file() else full
        more = (f"{root.name} {number}/{plain}" for number in itertools.count(2))
        taken = self.found.models.keys() | where.keys()
        where[next(one for one in itertools.chain((plain, full, f"{root.name}/{plain}"), more)
                   if one not in taken)] = path

    def _list(self, folder: Path) -> list[_Entry]:
        """Folders first, sorted; nothing for a folder that is missing or closed."""
        stamp = _stamp(folder)
        self.stamps[folder] = stamp if stamp < self.began - _RACY else -1  # may change again without a new time
        try:
            with os.scandir(folder) as found:
                entries = [_Entry(folder / one.name, one.is_dir(), one.is_symlink())
                           for one in found if not one.name.startswith(".")]
                return sorted(entries, key=lambda one: (not one.folder, one.path.name))
        except OSError:
            return []


def _is_part(path: Path) -> bool:
    """A file that belongs to a model beside it."""
    return path.stem.endswith(".vae") or path.stem.startswith(tuple(TINY.values()))


def _stamp(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0

