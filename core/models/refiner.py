"""The refiner of Stable Diffusion XL (Podell et al. 2023, arXiv:2307.01952, section 2.5): a second network for the end
of a run, when little noise is left. It has SDXL's second text encoder alone, and is told how beautiful the picture
shall be in the place of the size wanted. It borrows its base model's VAE, so none of its own is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.conditioning import Conditioning, Scored
from core.models import parts
from core.models.catalogue import ModelInfo
from core.models.device import DTYPES
from core.models.sdxl import PairEncoder, StableDiffusionXL
from core.models.vectors import readers
from core.prompts.chunks import Learned
from core.prompts.networks import Loras
from core.tuning import Tuning

SCORE, NEGATIVE_SCORE = 6.0, 2.5  # of the prompt and of the negative one; those of diffusers' and A1111's defaults


@dataclass(eq=False)
class Refiner(StableDiffusionXL):
    """`vae` is None: what it makes are the base model's latents."""

    knows_negative = True

    def learn(self, learned: Sequence[Learned]) -> None:
        """As the base model, whose textual inversions hold vectors for both text encoders."""
        self.encode_prompt.learn(learned, readers(learned, 2)[1])

    def read(self, text: str, clip_skip: int, loras: Loras, negative: bool = False) -> Conditioning:
        """LoRAs are the base model's, and change nothing here."""
        said = self.encode_prompt(text, clip_skip)
        score = torch.full((1,), NEGATIVE_SCORE if negative else SCORE, device=said.words.device)
        return Scored(said.words, said.summary, score)

    def asked(self, text: Conditioning, latents: Tensor) -> dict[str, Any]:
        assert isinstance(text, Scored)
        dtype = DTYPES[self.precision]
        height, width = (side * self.info.multiple for side in latents.shape[-2:])
        # size of the original, top and left of the crop, score: as diffusers' pipeline by default
        sizes = torch.tensor([[height, width, 0, 0]], dtype=torch.float32, device=latents.device)
        told = torch.cat([sizes.repeat(len(latents), 1), text.score.to(latents.device)[:, None]], dim=1)
        return {"encoder_hidden_states": text.words.to(dtype),
                "added_cond_kwargs": {"text_embeds": text.summary.to(dtype), "time_ids": told}}


def load(info: ModelInfo, device: torch.device, precision: str, tuning: Tuning, offload: str) -> Refiner:
    """Reads a diffusers folder or a single file. Raises ModelError for what is missing or broken, OutOfMemory."""
    found = parts.load(info, device, precision, tuning, offload)
    return Refiner(info, device, precision, PairEncoder(found.tokenizers, found.texts, found.zeros), found.unet,
                   found.vae, None, found.training, found.thrift(device, tuning, offload))
