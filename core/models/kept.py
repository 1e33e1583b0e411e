"""What the studio remembers about models from start to start: the last one chosen, hashes, what it read of files."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Any

from core.files import write_text

log = logging.getLogger(__name__)

NAME = ".models.json"  # in the outputs folder
# another version of the code beside this file may read other things off the same models
_VERSION = max(path.stat().st_mtime_ns for path in Path(__file__).parent.glob("*.py"))


class Kept:
    """A small JSON file. Nothing hangs on it: one that is missing, broken or cannot be written is begun anew."""

    def __init__(self, outputs: Path):
        self.path = outputs / NAME
        self._lock = threading.Lock()
        held = _read(self.path)
        self.chosen = str(held.get("chosen", ""))[:400]
        same = held.get("version") == _VERSION
        self._read: dict[str, list[Any]] = _table(held.get("read")) if same else {}  # path -> [stamp, row]
        self._hashes: dict[str, list[Any]] = _table(held.get("hashes"))  # path -> [stamp, sha256]

    def choose(self, model: str) -> None:
        """Remember the model for the next start."""
        self.chosen = model
        self.write()

    def row(self, path: Path, stamp: str) -> dict[str, Any] | None:
        """What was read of a model, if it has not changed since."""
        found = self._read.get(str(path))
        return found[1] if found and found[0] == stamp and isinstance(found[1], dict) else None

    def put_row(self, path: Path, stamp: str, row: dict[str, Any]) -> None:
        with self._lock:
            self._read[str(path)] = [stamp, row]

    def hash(self, path: Path) -> str:
        """sha256 of a file, "" if it was never taken, or the file is another now."""
        found = self._hashes.get(str(path))
        return str(found[1]) if found and found[0] == stamp_of([path]) else ""

    def put_hash(self, path: Path, stamp: str, value: str) -> None:
        with self._lock:
            self._hashes[str(path)] = [stamp, value]

    def write(self) -> None:
        with self._lock:
            text = json.dumps({"version": _VERSION, "chosen": self.chosen, "hashes": self._hashes, "read": self._read},
                              ensure_ascii=False)
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_text(self.path, text)
            except OSError as error:
                log.info("%s cannot be written: %s", self.path, error)


def stamp_of(paths: list[Path]) -> str:
    """Sizes and times of last change; a file that is missing counts too."""
    found = []
    for path in paths:
        try:
            stat = path.stat()
            found.append(f"{stat.st_size}:{stat.st_mtime_ns}")
        except OSError:
            found.append("-")
    return " ".join(found)


def _read(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}


def _table(value: object) -> dict[str, list[Any]]:
    if not isinstance(value, dict):
        return {}
    return {str(name): pair for name, pair in value.items() if isinstance(pair, list) and len(pair) == 2}
