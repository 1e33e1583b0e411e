"""Textual inversions (Gal et al. 2022, arXiv:2208.01618): a word's vectors, read off safetensors files. No torch.

Layouts: one tensor for models with one text encoder (Automatic1111's emb_params, diffusers' "<word>"), or clip_l and
clip_g for SDXL's two.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from core.errors import BadRequest
from core.models import header
from core.models.header import shown
from core.models.widths import FAMILIES

_PAIR = ("clip_l", "clip_g")  # of SDXL's first and second text encoder
_FAMILIES = FAMILIES | {2048: ""}  # by the width of the only text encoder


@dataclass(frozen=True)
class EmbeddingInfo:
    """tensors: the names of its vectors in the file, one for each text encoder it is made for."""

    name: str
    path: str
    vectors: int
    widths: tuple[int, ...]
    tensors: tuple[str, ...]
    megabytes: float

    @property
    def family(self) -> str:
        """As people call it; "" when nobody can tell."""
        return "Stable Diffusion XL" if len(self.widths) > 1 else _FAMILIES.get(self.widths[0], "")


@lru_cache(maxsize=4096)
def describe(name: str, path: Path, stamp: tuple[int, int]) -> EmbeddingInfo:
    """Raises BadRequest, one line, for a file that cannot be used. stamp: size and time, for the memory's sake."""
    read = header.read_named(path)
    tensors = _PAIR if set(read.tensors) == set(_PAIR) else tuple(read.tensors)
    shapes = [read.shape(tensor) for tensor in tensors]
    shapes = [(1, *shape) if len(shape) == 1 else shape for shape in shapes]
    floats = all(read.tensors[tensor].dtype in ("F16", "BF16", "F32") for tensor in tensors)
    if len(tensors) != (2 if tensors == _PAIR else 1) or not floats or not all(len(s) == 2 and all(s) for s in shapes) \
            or len({shape[0] for shape in shapes}) != 1:
        raise BadRequest(f"{shown(path.name)} is no textual inversion that is known here: take it out of the folder.")
    return EmbeddingInfo(name, str(path), shapes[0][0], tuple(shape[1] for shape in shapes), tensors, stamp[0] / 2**20)
