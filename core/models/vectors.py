"""The vectors of textual inversions, out of their files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from core.models import embedding
from core.prompts.chunks import Learned
from core.prompts.encoder import VectorsOf


def readers(learned: Sequence[Learned], encoders: int) -> list[VectorsOf]:
    """For each text encoder: name -> (vectors, width) float32."""
    words = {word.name: word for word in learned}

    def read(k: int, name: str) -> Tensor:
        return _read(words[name], k)

    return [partial(read, k) for k in range(encoders)]


@lru_cache(maxsize=64)
def _read(word: Learned, k: int) -> Tensor:
    path = Path(word.file)
    tensors = embedding.describe(word.name, path, (path.stat().st_size, word.changed)).tensors
    with safe_open(path, "pt", device="cpu") as file:
        vectors: Tensor = file.get_tensor(tensors[k])
    return (vectors[None] if vectors.ndim == 1 else vectors).float().clone()
