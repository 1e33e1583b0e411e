"""The models as the page lists them: read in a thread of their own, so that thousands keep nobody waiting."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from core.errors import LoomError, ModelError
from core.models import about
from core.models.catalogue import STORYBOOK, Catalogue
from core.models.header import shown
from core.models.kept import Kept, stamp_of

log = logging.getLogger(__name__)

SHORT = 10  # hexadecimal digits of a sha256, as Automatic1111 writes "Model hash"
_PIECE = 4 * 2**20  # bytes that are hashed in one go
_OFTEN = 50  # rows read, after which what is kept is written
Row = dict[str, Any]


class Library:
    """What is known of every model. kept: where it goes, for the next start."""

    def __init__(self, catalogue: Catalogue, kept: Kept):
        self.catalogue, self.kept = catalogue, kept
        self._rows: dict[str, Row] = {}
        self._stamps: dict[str, str] = {}
        self._serial = 0  # of the last change to a row
        self._names: list[str] = []
        self._paths: dict[str, Path] = {}
        self._epoch = 0  # of the list of names
        self._lock = threading.Lock()
        self._reading, self._hashing = _Worker("models"), _Worker("hashes")
        self._read = 0

    def look(self, again: bool = False) -> None:
        """See what is there now. What is new or has changed is read soon, in a thread; again: every folder's names."""
        found = self.catalogue.folders.scan(again)
        names, there = self.catalogue.names(), {"storybook": STORYBOOK, **found.links, **found.refused, **found.models}
        paths = {name: there.get(name, Path(name)) for name in names}
        stamps = {name: stamp_of(_files(path)) for name, path in paths.items()}
        with self._lock:
            if names != self._names:
                self._epoch += 1
                self._rows = {name: self._rows[name] for name in names if name in self._rows}
            self._names, self._paths = names, paths
            new = [name for name in names if self._stamps.get(name) != stamps[name]]
            self._stamps = stamps
            for name in new:
                self._put(name, {"name": name, "reading": True})
        for name in new:
            self._reading.add(partial(self._describe, name, paths[name], stamps[name]))
        if new:
            self._reading.add(self.kept.write)

    def state(self, epoch: int = -1, serial: int = -1) -> dict[str, Any]:
        """What changed since a state with these numbers: rows, and when the list itself did, all names in order.

        waiting: models that are still to be read.
        """
        with self._lock:
            whole = epoch != self._epoch
            rows = [row for name in self._names if (row := self._rows[name])["serial"] > serial or whole]
            return {"epoch": self._epoch, "serial": self._serial, "rows": rows,
                    "names": list(self._names) if whole else None,
                    "waiting": sum(bool(row.get("reading")) for row in self._rows.values())}

    def rows(self, hashes: bool = False) -> list[Row]:
        """All of them, now: for the command line. hashes: take those that are missing."""
        self.look()
        self._reading.wait()
        for name in self._names:
            if hashes and self._paths[name].is_file():
                self._take_hash(name, self._paths[name])
        hidden = ("serial", "path", "changed", "bytes", "hashable")
        return [{key: value for key, value in self._rows[name].items() if key not in hidden} for name in self._names]

    def hash(self, name: str) -> None:
        """Take a model's hash, in a thread."""
        with self._lock:
            row = self._rows.get(name)
            if row is None or not row.get("hashable") or row.get("hash") or "hashing" in row:
                return
            self._put(name, {**row, "hashing": 0})
        self._hashing.add(partial(self._take_hash, name, self._paths[name]))

    def licence(self, name: str) -> str:
        """The text of a model's licence. Raises ModelError for a model that cannot be read."""
        info = self.catalogue.get(name)
        return about.licence(info, self.catalogue.roots(Path(info.path)))[1]

    def thumbnail(self, name: str, folder: Path) -> Path | None:
        """The preview picture of a model that is listed, made small, as a JPEG in `folder`; None without one."""
        path = self._paths.get(name)
        found = about.picture(path, self.catalogue.roots(path)) if path else None
        if found is None:
            return None
        key = hashlib.sha256(f"{found} {stamp_of([found])}".encode()).hexdigest()[:24]
        made = folder / f"model-{key}.jpg"
        return made if made.exists() or about.shrink(found, made) else None

    def wait(self) -> None:
        """Until all that was asked for is done."""
        self._reading.wait()
        self._hashing.wait()

    # -- in the threads

    def _describe(self, name: str, path: Path, stamp: str) -> None:
        row = self.kept.row(path, stamp)
        if row is None or row.get("name") != name:
            row = {key: value for key, value in self.catalogue.row(name).items()
                   if key not in ("tokens", "multiple", "tiny_preview")}
            if "error" not in row and path.exists():
                self.kept.put_row(path, stamp, row)
        with contextlib.suppress(OSError):
            row = {**row, "changed": round(path.stat().st_mtime, 1)}
        home = self.catalogue.folders.home(path)
        more = {"home": home, "bytes": round(row.get("megabytes", 0) * 2**20), "hashable": path.is_file()
                and "error" not in row, "hash": self.kept.hash(path)[:SHORT]}
        with self._lock:
            if name in self._names:
                self._put(name, {**row, **more})
        self._read += 1
        if self._read % _OFTEN == 0:
            self.kept.write()

    def _take_hash(self, name: str, path: Path) -> None:
        found = self.kept.hash(path)
        if not found:
            try:
                stamp = stamp_of([path])
                found = sha256(path, lambda part: self._tell(name, hashing=round(100 * part)))
                if stamp == stamp_of([path]):
                    self.kept.put_hash(path, stamp, found)
                    self.kept.write()
            except LoomError as error:
                log.info("%s", error)
        with self._lock:
            row = {key: value for key, value in self._rows.get(name, {}).items() if key != "hashing"}
            if row:
                self._put(name, {**row, "hash": found[:SHORT]})

    def _tell(self, name: str, **values: object) -> None:
        with self._lock:
            if row := self._rows.get(name):
                self._put(name, {**row, **values})

    def _put(self, name: str, row: Row) -> None:
        self._serial += 1
        self._rows[name] = {**row, "serial": self._serial}


def sha256(path: Path, told: Callable[[float], object] = lambda part: None) -> str:
    """Of a whole file, as Automatic1111's and Civitai's lists have it. told: how far, 0 to 1. Raises ModelError."""
    digest, done = hashlib.sha256(), 0
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                done += len(piece)
                told(done / max(size, 1))
    except OSError as error:
        raise ModelError(f"{shown(path)} cannot be read ({error.strerror}): copy the file anew.") from None
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    """What a model's row hangs on."""
    parts = [path / part for part in ("model_index.json", "unet", "unet/config.json", "vae/config.json",
                                      "scheduler/scheduler_config.json")] if path.is_dir() else \
        [path, *(path.with_suffix(suffix) for suffix in (".json", ".yaml", ".vae.safetensors"))]
    return [*parts, *about.licence_files(path)]


class _Worker:
    """One thread at a time that does what is asked for, in order, and ends when there is no more."""

    def __init__(self, name: str):
        self.name = name
        self._tasks: deque[Callable[[], object]] = deque()
        self._lock = threading.Condition()
        self._busy = False

    def add(self, task: Callable[[], object]) -> None:
        with self._lock:
            self._tasks.append(task)
            if not self._busy:
                self._busy = True
                threading.Thread(target=self._work, name=self.name, daemon=True).start()

    def wait(self) -> None:
        with self._lock:
            self._lock.wait_for(lambda: not self._busy)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._tasks:
                    self._busy = False
                    self._lock.notify_all()
                    return
                task = self._tasks.popleft()
            try:
                task()
            except Exception:  # our own mistake: the others' rows are read all the same
                log.exception("%s", self.name)
