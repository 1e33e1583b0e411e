"""How many tokens a prompt has, by a model's tokenizer alone: the page asks while somebody types, so without torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from core.prompts.chunks import Learned, Token, Words, chunks_of
from core.prompts.reading import texts_of

_SPLIT = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # CLIP's own
_LAST = 4  # tokens that are shown of where a chunk ends


class Count(NamedTuple):
    tokens: int
    room: int  # of all its chunks
    ends: tuple[str, ...] = ()  # the last words of each chunk but the last


class Counter:
    """A model's tokenizer. room: tokens that its text encoder reads at once, without the marks for begin and end.

    learned: the textual inversions it knows.
    """

    def __init__(self, tokenizer: Any, room: int, learned: Sequence[Learned] = ()):
        self.tokenizer, self.room = tokenizer, room
        self.words = Words(learned, self._tokenize)

    def knowing(self, learned: Sequence[Learned]) -> Counter:
        """The same one with other textual inversions."""
        return self if self.words.learned == tuple(learned) else Counter(self.tokenizer, self.room, learned)

    def chunks(self, text: str) -> list[list[Token]]:
        """As core.prompts.encoder's, and with the same errors."""
        return chunks_of(text, self._tokenize, self.tokenizer.token_to_id(",</w>"), self.room, self.words)

    def _tokenize(self, part: str) -> Sequence[int]:
        ids: list[int] = self.tokenizer.encode(part, add_special_tokens=False).ids
        return ids

    def count(self, prompt: str, steps: int, joined: bool = True) -> Count:
        """Of the longest text that some step reads. joined: as in `compose`. Raises BadRequest as `chunks` does."""
        counts = []
        for text in texts_of(prompt, steps, joined):
            *full, last = self.chunks(text)
            counts.append(Count(self.room * len(full) + len(last), self.room * (len(full) + 1),
                                tuple(self._end(chunk) for chunk in full)))
        return max(counts, key=lambda count: count.tokens)

    def _end(self, chunk: Sequence[Token]) -> str:
        words = []
        for word, tokens in groupby(chunk[-_LAST:], lambda token: token.word):
            words.append(word or str(self.tokenizer.decode([token.id for token in tokens], skip_special_tokens=False)))
        return " ".join(" ".join(words).replace("</w>", " ").split()).replace(" ,", ",")


def counter_of(model: Path | str, tokens: int) -> Counter | None:
    """Of a model's diffusers folder; None when its tokenizer cannot be read: then nothing is counted before a run.

    tokens: those that its text encoder reads at once, with the marks for begin and end.
    """
    folder = Path(model) / "tokenizer"
    try:
        stamp = max(path.stat().st_mtime_ns for path in folder.iterdir())
        return _counter(folder, stamp, tokens - 2)
    except Exception:  # tokenizers raises Exception itself; whatever is broken there, loading the model will tell
        return None


@lru_cache(maxsize=8)
def _counter(folder: Path, stamp: int, room: int) -> Counter:
    from tokenizers import Tokenizer

    if (folder / "tokenizer.json").is_file():
        return Counter(Tokenizer.from_file(str(folder / "tokenizer.json")), room)
    return Counter(_from_words(folder), room)


def _from_words(folder: Path) -> Any:
    """The layout of older checkpoints: vocab.json and merges.txt."""
    from tokenizers import models

    return cutting(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"),
                                        end_of_word_suffix="</w>", unk_token="<|endoftext|>"))


def cutting(model: Any) -> Any:
    """The tokenizer of a vocabulary and its merges (tokenizers.models.BPE), with CLIP's way of cutting words."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_SPLIT), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in ("<|startoftext|>", "<|endoftext|>")])
    return tokenizer

