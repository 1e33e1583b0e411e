"""Tokens of a prompt -> chunks of what a text encoder reads at once, 75 tokens for CLIP. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from core.errors import BadRequest
from core.prompts.emphasis import stretches

BACKTRACK = 20  # tokens; Automatic1111's comma_padding_backtrack
MOST_CHUNKS = 64  # every one makes each pass of the noise predictor slower

Tokenize = Callable[[str], Sequence[int]]  # text -> ids, without marks for begin and end


class Token(NamedTuple):
    id: int  # 0 where it is a vector of a textual inversion
    weight: float
    word: str = ""  # the textual inversion
    vector: int = 0  # which of its vectors


class Learned(NamedTuple):
    """A textual inversion: where its name stands in a prompt, the text encoder reads its vectors instead."""

    name: str
    vectors: int
    problem: str = ""  # why it cannot be read, one line: a prompt with its name is refused
    file: str = ""
    changed: int = 0  # when, in ns


class Words:
    """The textual inversions of a model, found in a prompt by the tokens of their names, the longest first.

    Source: Automatic1111, modules/textual_inversion/textual_inversion.py, find_embedding_at_position.
    """

    def __init__(self, learned: Sequence[Learned], tokenize: Tokenize):
        self.learned = tuple(learned)
        self._known: dict[int, list[tuple[tuple[int, ...], Learned]]] = {}
        for word in self.learned:
            if ids := tuple(tokenize(word.name)):
                self._known.setdefault(ids[0], []).append((ids, word))
        for found in self._known.values():
            found.sort(key=lambda entry: -len(entry[0]))

    def units(self, ids: Sequence[int], weight: float) -> Iterator[list[Token]]:
        """Tokens one by one, the vectors of a word together. Raises BadRequest for a word that cannot be read."""
        place = 0
        while place < len(ids):
            for name, word in self._known.get(ids[place], ()):
                if tuple(ids[place:place + len(name)]) == name:
                    if word.problem:
                        raise BadRequest(word.problem)
                    yield [Token(0, weight, word.name, k) for k in range(word.vectors)]
                    place += len(name)
                    break
            else:
                yield [Token(ids[place], weight)]
                place += 1


def chunks_of(text: str, tokenize: Tokenize, comma: int | None, room: int,
              words: Words | None = None) -> list[list[Token]]:
    """A text's tokens in chunks of at most `room`, at least one chunk.

    comma: the id of a comma that ends a word, if there is one.
    Where a chunk is full, what stands behind its last comma moves into the next one if that is 20 tokens or less; BREAK
    ends a chunk early, and so does a textual inversion that has no room left.
    Raises BadRequest for too many chunks, for a weight that is no number, and as `Words.units`.
    Source: Automatic1111, modules/sd_hijack_clip.py, tokenize_line.
    """
    chunks: list[list[Token]] = [[]]
    last_comma = None  # its place in the chunk that is being filled
    words = words or Words((), tokenize)
    for part, weight in stretches(text):
        if part is None:
            chunks.append([])
            last_comma = None
            continue
        for unit in words.units(tokenize(part), weight):
            full, first = chunks[-1], unit[0]
            is_comma = first.id == comma and not first.word
            if is_comma and len(full) < room:
                last_comma = len(full)
            elif len(full) == room:
                near = not is_comma and last_comma is not None and room - last_comma <= BACKTRACK
                kept = last_comma + 1 if near and last_comma is not None else room
                chunks[-1] = full[:kept]
                chunks.append(full[kept:])
                last_comma = None
            if len(chunks[-1]) + len(unit) > room:
                if len(unit) > room:
                    raise BadRequest(f"The textual inversion {first.word!r} has {len(unit)} vectors; at most {room} "
                                     "are read at once: take another.")
                chunks.append([])
                last_comma = None
            chunks[-1] += unit
    if not chunks[-1] and len(chunks) > 1:  # a BREAK at the end
        chunks.pop()
    if len(chunks) > MOST_CHUNKS:
        raise BadRequest(f"The prompt takes {len(chunks)} chunks of {room} tokens; at most {MOST_CHUNKS} are read: "
                         "shorten it" + (", or take out some BREAK." if "BREAK" in text else "."))
    return chunks
