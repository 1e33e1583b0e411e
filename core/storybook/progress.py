"""Time budgets, progress lines and files that appear whole or not at all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Writes beside the path, then renames: a kill at any moment leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(beside, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """A training state, atomically."""
    write_atomically(path, lambda file: torch.save(state, file))


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The last training state, or None if there is none."""
    return torch.load(path, map_location="cpu", weights_only=False) if path.exists() else None


class Progress:
    """A stage's clock and its progress line."""

    def __init__(self, stage: str, minutes: float, every: float = 15.0) -> None:
        self.stage, self.every = stage, every  # seconds between lines
        self.start = self.last = time.monotonic()
        self.end = self.start + minutes * 60
        self.last_samples: int | None = None

    def time_left(self) -> float:
        """Seconds until the stage's budget is spent."""
        return self.end - time.monotonic()

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def show(self, samples: int, figures: dict[str, float]) -> None:
        """Prints stage, samples, samples/s, figures and time left, at most every few seconds."""
        now = time.monotonic()
        if self.last_samples is None:
            self.last_samples, self.last = samples, now
        if now - self.last < self.every:
            return
        speed = (samples - self.last_samples) / (now - self.last)
        shown = " ".join(f"{name} {value:.4f}" for name, value in figures.items())
        left = max(0, round(self.time_left()))
        print(f"{self.stage}: {samples} samples, {speed:.1f}/s, {shown}, {left // 60}:{left % 60:02d} left", flush=True)
        self.last, self.last_samples = now, samples
