"""What tells a model's weights from another's: cheap, and good enough to notice a mistake."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from core.models.catalogue import ModelInfo

_PARTS = ("unet", "vae", "text_encoder", "scheduler")
_PIECE = 64 * 1024  # bytes, of each file's beginning, middle and end: its header alone is the same for equal networks


def fingerprint(info: ModelInfo) -> str:
    """16 hexadecimal digits from the names, the sizes and three pieces of every file of weights."""
    files = sorted(path for part in _PARTS for path in (Path(info.path) / part).glob("*")
                   if path.suffix in (".safetensors", ".json"))
    return _of(info.path, tuple((str(path.relative_to(info.path)), path.stat().st_size, path.stat().st_mtime_ns)
                                for path in files))


@lru_cache(maxsize=32)
def _of(folder: str, files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for name, size, _ in files:
        digest.update(f"{name} {size}\n".encode())
        with (Path(folder) / name).open("rb") as file:
            for place in (0, size // 2, max(0, size - _PIECE)):
                file.seek(place)
                digest.update(file.read(_PIECE))
    return digest.hexdigest()[:16]
