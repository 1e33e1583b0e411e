"""Stable Diffusion XL (Podell et al. 2023, arXiv:2307.01952): two text encoders, a summary of the prompt, and the
picture's size told to the network. Its refiner: core/models/refiner.py.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.conditioning import Conditioning, Summed
from core.errors import BadRequest
from core.models import parts
from core.models.catalogue import ModelInfo
from core.models.device import DTYPES
from core.models.sd import StableDiffusion
from core.prompts.chunks import Learned
from core.prompts.encoder import PromptEncoder, VectorsOf
from core.tuning import Tuning

_KEPT = 64  # prompts; one of SDXL's is 0.6 MB


class _Penultimate:
    """A text encoder that answers with its last layer but one, as SDXL was trained, in the place of the last.

    back: which layer, counted from the end; 2 is that one. summaries: what the encoder with a projection said of each
    text as a whole, in the order it was asked.
    """

    def __init__(self, encoder: Any, back: int):
        self.encoder, self.config, self.back = encoder, encoder.config, back
        self.summaries: list[Tensor] = []

    def parameters(self) -> Any:
        return self.encoder.parameters()

    def get_input_embeddings(self) -> Any:
        return self.encoder.get_input_embeddings()

    def __call__(self, ids: Tensor, **options: Any) -> tuple[Tensor]:
        said = self.encoder(ids, output_hidden_states=True, **options)
        if (summary := getattr(said, "text_embeds", None)) is not None:
            self.summaries.append(summary)
        return (said.hidden_states[-self.back],)


class PairEncoder:
    """Prompt -> the words of both encoders side by side, and the last one's summary. Remembers like PromptEncoder.

    The refiner has the second encoder alone.

    zeros: an empty prompt is all zeros, as diffusers' pipeline takes it when there is no negative prompt.
    """

    def __init__(self, tokenizers: list[Any], encoders: list[Any], zeros: bool):
        self.tokenizers, self.encoders, self.zeros = tokenizers, encoders, zeros
        self.tokenizer = tokenizers[0]
        self._memory: OrderedDict[Hashable, Summed] = OrderedDict()
        self._learned: tuple[Learned, ...] = ()
        self._vectors: list[VectorsOf] = [_unknown] * len(encoders)

    def learn(self, learned: Sequence[Learned], *vectors: VectorsOf) -> None:
        """As PromptEncoder's; vectors: for each of the encoders."""
        if tuple(learned) != self._learned:
            self._learned, self._vectors = tuple(learned), list(vectors)
            self._memory.clear()

    def __call__(self, prompt: str, clip_skip: int = 1, variant: Hashable = ()) -> Summed:
        """clip_skip: 1 for the layers SDXL was trained on, 2 for those before, as in diffusers its clip_skip 1.

        variant: as PromptEncoder's.
        """
        key = prompt, clip_skip, variant
        if key not in self._memory:
            self._memory[key] = self._encode(prompt, clip_skip)
            if len(self._memory) > _KEPT:
                self._memory.popitem(last=False)
        self._memory.move_to_end(key)
        return self._memory[key]

    def _encode(self, prompt: str, clip_skip: int) -> Summed:
        most = min(encoder.config.num_hidden_layers for encoder in self.encoders)
        if not 1 <= clip_skip <= most:
            raise BadRequest(f"A clip skip of {clip_skip} passes over a whole text encoder: choose from 1 to {most}.",
                             "clip_skip")
        encoders = [_Penultimate(encoder, clip_skip + 1) for encoder in self.encoders]
        words = []
        for tokenizer, encoder, vectors in zip(self.tokenizers, encoders, self._vectors, strict=True):
            one = PromptEncoder(tokenizer, encoder)  # a fresh one each: what is remembered is not asked again
            one.learn(self._learned, vectors)
            words.append(one(prompt))
        both, summary = torch.cat(words, dim=-1), encoders[-1].summaries[0][:1]
        if self.zeros and not prompt:
            return Summed(torch.zeros_like(both), torch.zeros_like(summary))
        return Summed(both, summary)


def _unknown(word: str) -> Tensor:
    raise AssertionError(f"nobody taught {word}")


@dataclass(eq=False)
class StableDiffusionXL(StableDiffusion):
    """Told the size of what it paints: that of the picture, or in a panorama of the window."""

    def asked(self, text: Conditioning, latents: Tensor) -> dict[str, Any]:
        assert isinstance(text, Summed)
        dtype = DTYPES[self.precision]
        height, width = (side * self.info.multiple for side in latents.shape[-2:])
        # size of the original, top and left of the crop, size wanted: as diffusers' pipeline by default
        sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device=latents.device)
        return {"encoder_hidden_states": text.words.to(dtype),
                "added_cond_kwargs": {"text_embeds": text.summary.to(dtype), "time_ids": sizes.repeat(len(latents), 1)}}


def load(info: ModelInfo, device: torch.device, precision: str, tuning: Tuning, offload: str) -> StableDiffusionXL:
    """Reads a diffusers folder or a single file. Raises ModelError for what is missing or broken, OutOfMemory."""
    found = parts.load(info, device, precision, tuning, offload)
    return StableDiffusionXL(info, device, precision, PairEncoder(found.tokenizers, found.texts, found.zeros),
                             found.unet, found.vae, found.tiny, found.training,
                             found.thrift(device, tuning, offload))
