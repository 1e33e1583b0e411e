"""Storybook's tokenizer: CLIP's byte-level BPE, its merges learnt on the vocabulary so that each word is one token."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from core.storybook.networks import TEXT_LENGTH
from core.storybook.vocabulary import KNOWN_WORDS

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
# The trainer breaks ties differently in each run, and the merges decide the ids: learnt once, kept with the code.
MERGES = Path(__file__).with_name("merges.txt")


def learn_merges() -> list[str]:
    """Merges that make each known word one token, as lines of merges.txt; needed when the vocabulary has grown."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=100_000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    bpe.train_from_iterator(sorted(KNOWN_WORDS), trainer)
    pairs = json.loads(bpe.to_str())["model"]["merges"]
    return [pair if isinstance(pair, str) else " ".join(pair) for pair in pairs]


def make_tokenizer() -> CLIPTokenizer:
    """A CLIPTokenizer in which every known word is one token; other words fall into pieces or letters."""
    lines = [line for line in MERGES.read_text().splitlines() if line and not line.startswith("#")]
    merges = [tuple(line.split(" ")) for line in lines]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = alphabet + [f"{letter}</w>" for letter in alphabet] + ["".join(pair) for pair in merges]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    vocabulary[BOS] = len(vocabulary)
    vocabulary[EOS] = len(vocabulary)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TEXT_LENGTH)  # type: ignore[arg-type]


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Writes the tokenizer with the files of CLIP's slow layout as well (vocab.json, merges.txt)."""
    tokenizer.save_pretrained(folder)
    tokenizer.backend_tokenizer.model.save(str(folder))


def encode(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """(N, TEXT_LENGTH) int64 ids, padded and cut as StableDiffusionPipeline does."""
    return tokenizer(
        texts, padding="max_length", max_length=TEXT_LENGTH, truncation=True, return_tensors="pt"
    ).input_ids
