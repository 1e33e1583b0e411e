"""Storybook's tokenizer: CLIP's byte-level BPE, its merges learnt on the vocabulary so that each word is one token."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from core.storybook.networks import TEXT_LENGTH
from core.storybook.vocabulary import KNOWN_WORDS

BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def make_tokenizer() -> CLIPTokenizer:
    """A CLIPTokenizer in which every known word is one token; other words fall into pieces or letters."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=100_000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    bpe.train_from_iterator(sorted(KNOWN_WORDS), trainer)
    merges = _merges(bpe)
    pieces = alphabet + [f"{letter}</w>" for letter in alphabet] + ["".join(pair) for pair in merges]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    vocabulary[BOS] = len(vocabulary)
    vocabulary[EOS] = len(vocabulary)
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,  # type: ignore[arg-type]
        model_max_length=TEXT_LENGTH,
    )


def _merges(bpe: Tokenizer) -> list[tuple[str, str]]:
    import json

    return [
        tuple(pair) if isinstance(pair, list) else tuple(pair.split(" "))
        for pair in json.loads(bpe.to_str())["model"]["merges"]
    ]


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Writes the tokenizer with the files of CLIP's slow layout as well (vocab.json, merges.txt)."""
    tokenizer.save_pretrained(folder)
    tokenizer.backend_tokenizer.model.save(str(folder))


def encode(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """(N, TEXT_LENGTH) int64 ids, padded and cut as StableDiffusionPipeline does."""
    return tokenizer(
        texts, padding="max_length", max_length=TEXT_LENGTH, truncation=True, return_tensors="pt"
    ).input_ids
