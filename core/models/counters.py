"""The token counter of a model, whatever it is kept in, with the textual inversions it knows. No torch."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from core.models import clip
from core.models.catalogue import ModelInfo
from core.models.extras import Extras
from core.prompts.counting import Counter, counter_of, cutting


def counter_for(info: ModelInfo, extras: Extras) -> Counter | None:
    """None when the tokenizer cannot be read: then nothing is counted before a run."""
    counter = counter_of(Path(info.path).parent if info.is_file else info.path, info.tokens)
    if counter is None and info.is_file:
        counter = _clips(info.tokens - 2)
    return counter.knowing(extras.learned(info)) if counter else None


@lru_cache(maxsize=2)
def _clips(room: int) -> Counter:
    """CLIP's own, of single files without a tokenizer beside them."""
    from tokenizers import models

    vocabulary, merges = clip.vocabulary()
    return Counter(cutting(models.BPE(vocabulary, merges, end_of_word_suffix="</w>", unk_token="<|endoftext|>")), room)
