"""CLIP's own vocabulary, which single files do not bring: the same for Stable Diffusion 1, 2 and XL."""

from __future__ import annotations

import gzip
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.errors import ModelError
from core.models.header import shown

SIZE = 49408  # tokens: 256 bytes, each also at a word's end, the merges, begin and end
_LENGTH = 77  # tokens read at once


def tokenizer(words: int, pad: str, beside: Path, name: str = "tokenizer") -> Any:
    """The tokenizer of a single file's text encoder. words: tokens its embedding knows; pad: what fills up a prompt.

    A folder `name` beside the file wins; without one, CLIP's own. Raises ModelError when neither fits.
    """
    from transformers import CLIPTokenizer

    folder = beside.parent / name
    if (folder / "tokenizer.json").is_file() or (folder / "vocab.json").is_file():
        try:
            found = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # whatever two libraries make of a broken folder
            raise ModelError(f"The tokenizer in {shown(folder)} cannot be read ({' '.join(str(error).split())[:80]}): "
                             "copy it anew, or take the folder away.") from None
        if len(found) <= words:
            return found
    if words != SIZE:
        raise ModelError(f"{shown(beside)} has a text encoder of {words:,} words, CLIP's own knows {SIZE:,}: put its "
                         f"tokenizer (vocab.json and merges.txt) into {shown(folder)}.")
    tokens, merges = vocabulary()
    return CLIPTokenizer(tokens, merges, pad_token=pad, model_max_length=_LENGTH)


@lru_cache(maxsize=1)
def vocabulary() -> tuple[dict[str, int], Any]:
    """Token -> id, in the order of OpenAI's clip/simple_tokenizer.py; the merges as pairs."""
    text = gzip.decompress((Path(__file__).parent / "merges.txt.gz").read_bytes()).decode()
    pairs = [tuple(line.split()) for line in text.splitlines()]
    letters = _letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in pairs),
              "<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}, [(a, b) for a, b in pairs]


def _letters() -> list[str]:
    """A visible letter for every byte: itself where it is one, else one from U+0100 on. The visible ones come first."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [byte for byte in range(256) if byte not in seen]
    return [*map(chr, seen), *(chr(256 + n) for n in range(len(rest)))]
