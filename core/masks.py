"""Painted masks as runs: small, exact, hashable; so a Request can hold them and a PNG can keep them. numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core.errors import BadRequest

MAX_PIXELS = 4096 * 4096
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in 0..1 of the picture


@dataclass(frozen=True)
class Mask:
    """What was painted, pixel by pixel. runs: lengths of unpainted and painted stretches in turn, row by row."""

    width: int  # pixels
    height: int
    runs: tuple[int, ...]  # starts with an unpainted stretch, which may be 0; adds up to width * height

    def __post_init__(self) -> None:
        if not (0 < self.width and 0 < self.height and self.width * self.height <= MAX_PIXELS):
            raise BadRequest(f"A mask cannot be {self.width}x{self.height} pixels.", "regions")
        if any(run < 0 for run in self.runs) or sum(self.runs) != self.width * self.height:
            raise BadRequest(f"A mask of {self.width}x{self.height} pixels is damaged: its runs do not add up. "
                             "Paint it anew.", "regions")

    @classmethod
    def of(cls, painted: np.ndarray) -> Mask:
        """painted: (H, W), anything true where there is paint."""
        height, width = painted.shape
        flat = np.concatenate([[False], painted.astype(bool).ravel()])
        edges = np.flatnonzero(flat[1:] != flat[:-1])
        bounds = np.concatenate([[0], edges, [width * height]])
        return cls(width, height, tuple(int(run) for run in np.diff(bounds)))

    @classmethod
    def parse(cls, value: Any) -> Mask:
        """From JSON: {"width", "height", "runs": "12 5 300 ..."} (or a list of numbers). Raises BadRequest."""
        try:
            runs = value["runs"]
            numbers = runs.split() if isinstance(runs, str) else runs
            return cls(int(value["width"]), int(value["height"]), tuple(int(n) for n in numbers))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise BadRequest("A mask is not in the form it was saved in: paint it anew.", "regions") from None

    @classmethod
    def read(cls, path: Path) -> Mask:
        """From a picture file: painted where it is at least half bright and half opaque. Raises BadRequest."""
        try:
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadRequest(f"The mask {path.name} is {image.width}x{image.height} pixels, more than any "
                                     "picture here.", "regions")
                shades = np.asarray(image.convert("LA"), dtype=np.uint16)
        except FileNotFoundError:
            raise BadRequest(f"The mask {path.name} is missing: put it beside the layout file.", "regions") from None
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise BadRequest(f"The mask {path.name} is not a picture that can be read ({str(error)[:80]}).",
                             "regions") from None
        return cls.of(shades[..., 0] * shades[..., 1] >= 128 * 255)

    def to_dict(self) -> dict[str, Any]:
        return {"width": self.width, "height": self.height, "runs": " ".join(map(str, self.runs))}

    def to_array(self) -> np.ndarray:
        """(H, W) bool, True where there is paint."""
        values = np.zeros(len(self.runs), bool)
        values[1::2] = True
        return np.repeat(values, self.runs).reshape(self.height, self.width)

    @property
    def empty(self) -> bool:
        return not any(self.runs[1::2])


def painted(shape: Mask | Box, width: int, height: int) -> np.ndarray:
    """(H, W) bool: a mask or box in the pixels of a picture. A box covers the pixels whose centres it holds."""
    if isinstance(shape, Mask):
        return shape.to_array()
    x0, y0, x1, y1 = shape
    inside_x = _centres(width, x0, x1)
    return _centres(height, y0, y1)[:, None] & inside_x[None, :]


def coverage(shape: Mask | Box, width: int, height: int, factor: int) -> np.ndarray:
    """(H / factor, W / factor) float32 in 0..1: the share of each latent cell that is painted; exact for boxes."""
    if isinstance(shape, Mask):
        rows, columns = height // factor, width // factor
        return shape.to_array().reshape(rows, factor, columns, factor).mean((1, 3), dtype=np.float32)
    x0, y0, x1, y1 = shape
    return np.outer(_overlap(height // factor, y0, y1), _overlap(width // factor, x0, x1)).astype(np.float32)


def _centres(count: int, start: float, stop: float) -> np.ndarray:
    places = (np.arange(count) + 0.5) / count
    return (places >= start) & (places < stop)


def _overlap(count: int, start: float, stop: float) -> np.ndarray:
    """Share of each of `count` equal cells of 0..1 that lies between start and stop."""
    edges = np.arange(count + 1) / count
    return np.clip(np.minimum(edges[1:], stop) - np.maximum(edges[:-1], start), 0, None) * count
