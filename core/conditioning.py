"""What a text encoder hands to the noise predictor: a tensor for most models, more for some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Summed(NamedTuple):
    """A prompt's words and their sum: what SDXL is asked with."""

    words: Tensor  # (n, tokens, width)
    summary: Tensor  # (n, width of the second encoder's projection)

    @property
    def shape(self) -> torch.Size:
        """Of the words, which is what batches are sorted by."""
        return self.words.shape


class Scored(NamedTuple):
    """What SDXL's refiner is asked with: as Summed, by one encoder, and how beautiful the picture shall be."""

    words: Tensor  # (n, tokens, width)
    summary: Tensor  # (n, width of the encoder's projection)
    score: Tensor  # (n), on the scale of its training's judge, 0 .. 10

    @property
    def shape(self) -> torch.Size:
        return self.words.shape


Conditioning = Tensor | Summed | Scored


def join(texts: Sequence[Conditioning]) -> Conditioning:
    """Several prompts as one batch; all of the same kind."""
    first = texts[0]
    if isinstance(first, (Summed, Scored)):
        return type(first)(*(torch.cat(parts) for parts in zip(*texts, strict=True)))
    return torch.cat([text for text in texts if isinstance(text, Tensor)])
