"""Prompt text -> embeddings: the first of the three parts (text encoder, noise predictor, decoder)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

_KEPT = 64  # embeddings; one of Stable Diffusion's is 0.2 MB


class PromptEncoder:
    """A CLIP tokenizer and text encoder with a small memory: the same words are encoded once."""

    def __init__(self, tokenizer: Any, text_encoder: Any):
        self.tokenizer, self.text_encoder = tokenizer, text_encoder
        self._memory: OrderedDict[str, Tensor] = OrderedDict()

    def __call__(self, prompt: str) -> Tensor:
        """(1, tokens, width), float32 or the text encoder's own precision; longer prompts are cut (see `left_out`)."""
        if prompt not in self._memory:
            tokens = self.tokenizer(prompt, padding="max_length", truncation=True, return_tensors="pt",
                                    max_length=self.tokenizer.model_max_length)
            device = next(self.text_encoder.parameters()).device
            with torch.inference_mode():
                self._memory[prompt] = self.text_encoder(tokens.input_ids.to(device))[0]
            if len(self._memory) > _KEPT:
                self._memory.popitem(last=False)
        self._memory.move_to_end(prompt)
        return self._memory[prompt]

    def left_out(self, prompt: str) -> str:
        """The end of a prompt that is longer than the encoder reads; empty when everything fits."""
        ids = self.tokenizer(prompt, truncation=False, verbose=False).input_ids
        room = self.tokenizer.model_max_length - 1  # the end mark takes the last place
        return str(self.tokenizer.decode(ids[room:-1])).strip() if len(ids) > room + 1 else ""
