"""Prompt text -> embeddings: the first of the three parts (text encoder, noise predictor, decoder)."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from core.errors import BadRequest
from core.prompts.chunks import Learned, Token, Words, chunks_of

_NOTHING = 1e-5  # of the mean size of the numbers: a mean below it is rounding, and to divide by it noise
_KEPT = 64  # embeddings; one chunk of Stable Diffusion's is 0.2 MB

VectorsOf = Callable[[str], Tensor]  # a textual inversion's name -> (vectors, width)


class PromptEncoder:
    """A CLIP tokenizer and text encoder with a small memory: the same words are encoded once."""

    def __init__(self, tokenizer: Any, text_encoder: Any):
        self.tokenizer, self.text_encoder = tokenizer, text_encoder
        self._memory: OrderedDict[Hashable, Tensor] = OrderedDict()
        self.room = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings) - 2
        self.words = Words((), self._tokenize)
        self._vectors: VectorsOf | None = None

    @property
    def encoders(self) -> list[Any]:
        return [self.text_encoder]

    def learn(self, learned: Sequence[Learned], vectors: VectorsOf) -> None:
        """The textual inversions that prompts may name from now on."""
        if tuple(learned) != self.words.learned:
            self.words, self._vectors = Words(learned, self._tokenize), vectors
            self._memory.clear()

    def __call__(self, text: str, clip_skip: int = 1, variant: Hashable = ()) -> Tensor:
        """(1, tokens, width), float32 or the text encoder's own precision; tokens: what it reads at once, per chunk.

        text: of one step and without AND, see `composition`. clip_skip: 1 for the last layer's output, 2 for that of
        the one before, as Automatic1111 counts. variant: what else the text encoder's answer hangs on, its LoRAs.
        Raises BadRequest for too many chunks, layers, a broken weight or a textual inversion that cannot be read.
        """
        key = text, clip_skip, variant
        if key not in self._memory:
            with torch.inference_mode():
                self._memory[key] = torch.cat([self._encoded(chunk, clip_skip) for chunk in self.chunks(text)], dim=1)
            if len(self._memory) > _KEPT:
                self._memory.popitem(last=False)
        self._memory.move_to_end(key)
        return self._memory[key]

    def chunks(self, text: str) -> list[list[Token]]:
        """The tokens of a text, as the text encoder reads them."""
        return chunks_of(text, self._tokenize, self.tokenizer.get_vocab().get(",</w>"), self.room, self.words)

    def _tokenize(self, part: str) -> Sequence[int]:
        ids: list[int] = self.tokenizer(part, add_special_tokens=False, truncation=False, verbose=False).input_ids
        return ids

    def _encoded(self, chunk: Sequence[Token], clip_skip: int) -> Tensor:
        """(1, room + 2, width)."""
        begin, end, pad = (getattr(self.tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad"))
        missing = self.room - len(chunk)
        ids = torch.tensor([[begin, *(token.id for token in chunk), end, *[pad] * missing]])
        weights = torch.tensor([1.0, *(token.weight for token in chunk), 1.0, *[1.0] * missing])
        with self._spoken(chunk):
            return weighted(self._layer(ids.to(next(self.text_encoder.parameters()).device), clip_skip), weights)

    @contextlib.contextmanager
    def _spoken(self, chunk: Sequence[Token]) -> Iterator[None]:
        """The vectors of textual inversions in their places, for one pass of the text encoder."""
        learned = [(place, token) for place, token in enumerate(chunk, start=1) if token.word]
        if not learned or self._vectors is None:
            yield
            return
        vectors = torch.stack([self._vectors(token.word)[token.vector] for _, token in learned])
        places = [place for place, _ in learned]

        def put(module: Any, ids: Any, embedded: Tensor) -> Tensor:
            embedded = embedded.clone()
            embedded[:, places] = vectors.to(embedded)
            return embedded

        hook = self.text_encoder.get_input_embeddings().register_forward_hook(put)
        try:
            yield
        finally:
            hook.remove()

    def _layer(self, ids: Tensor, clip_skip: int) -> Tensor:
        """What a layer of the text encoder makes of the ids, behind the last layer's norm."""
        if clip_skip == 1:
            last: Tensor = self.text_encoder(ids)[0]
            return last
        layers = self.text_encoder.config.num_hidden_layers
        if clip_skip > layers:
            raise too_deep(clip_skip, layers)
        states = self.text_encoder(ids, output_hidden_states=True).hidden_states
        text_model = getattr(self.text_encoder, "text_model", self.text_encoder)  # transformers 5 has one level less
        layer: Tensor = text_model.final_layer_norm(states[-clip_skip])
        return layer


def weighted(embedding: Tensor, weights: Tensor) -> Tensor:
    """Emphasis: each token's embedding times its weight, then all of them scaled so that their mean is as before.

    embedding: (1, tokens, width). weights: (tokens). Without emphasis the very same tensor. Where a mean is zero
    but for rounding (a text encoder whose last norm was never trained), there is none to bring back.
    Source: Automatic1111, modules/sd_emphasis.py, its default mode "Original".
    """
    if bool((weights == 1).all()):
        return embedding
    plain = embedding.float()
    scaled = plain * weights.to(plain.device)[None, :, None]
    before, after = plain.mean(), scaled.mean()
    if min(before.abs() / plain.abs().mean(), after.abs() / scaled.abs().mean()) > _NOTHING:
        scaled = scaled * (before / after)
    return scaled.to(embedding.dtype)


def too_deep(clip_skip: int, layers: int) -> BadRequest:
    return BadRequest(f"A clip skip of {clip_skip} passes over the whole text encoder, which has {layers} layers: "
                      f"choose from 1 to {layers}.", "clip_skip")
