"""What a LoRA's file says of itself: read off its header alone. No torch.

Two layouts are known: kohya's (lora_unet_..., lora_te_..., as most are shared) and diffusers' (unet....,
text_encoder...., with peft's names or the older ones).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from core.errors import BadRequest
from core.models import header
from core.models.header import Header, shown
from core.models.widths import FAMILIES, Widths

_MOST_TRIGGERS, _LONGEST = 8, 60  # words that are listed, and their letters

# how the names of all its tensors end
KNOWN = re.compile(r"(\.lora_(down|up|A|B)\.weight|[._]lora\.(down|up)\.weight|\.lora_linear_layer\.(down|up)\.weight"
                   r"|\.alpha)$")
_DOWN = re.compile(r"(\.lora_(down|A)\.weight|[._]lora\.down\.weight|\.lora_linear_layer\.down\.weight)$")
# what some names hold -> what the file is; each would be read wrongly as a plain LoRA
_OTHERS = (
    (r"hada_", "a LoHa"), (r"lokr_", "a LoKr"), (r"dora_scale|lora_magnitude_vector", "a DoRA"),
    (r"lora_mid", "a LoCon with a core"), (r"oft_blocks|oft_diag|\.oft_", "an OFT"),
    (r"\.(diff|diff_b|w_norm|b_norm)$", "a LyCORIS with whole differences"),
    (r"on_input", "an (IA)^3"), (r"\.[ab][12]\.weight$", "a GLoRA"),
)
# what some names hold -> the family, where it is none that is known here
_STRANGERS = (
    (r"double_blocks|single_blocks|double_stream|single_transformer_blocks", "Flux, or one of its relatives"),
    (r"joint_blocks|attn_add_|add_[qkv]_proj|add.[qkv].proj", "Stable Diffusion 3"),
    (r"^(lora_)?(prior|controlnet)|^lora_controlnet", "another kind of network"),
    (r"^(transformer|diffusion_model|lora_transformer)[._]", "another kind of network"),
)
# beginnings of ss_base_model_version (kohya) and modelspec.architecture -> the family
_NOTES = (("sdxl", "Stable Diffusion XL"), ("stable-diffusion-xl", "Stable Diffusion XL"),
          ("sd_v1", "Stable Diffusion 1"), ("stable-diffusion-v1", "Stable Diffusion 1"),
          ("sd_v2", "Stable Diffusion 2"), ("stable-diffusion-v2", "Stable Diffusion 2"))
_TEXTS = (("lora_te_", "lora_te1_", "text_encoder."), ("lora_te2_", "text_encoder_2."))


@dataclass(frozen=True)
class LoraInfo:
    """widths: what it changes; 0 and () where it leaves that alone. family: as people call it, "" when nobody can tell.
    """

    name: str
    path: str
    family: str
    widths: Widths
    triggers: tuple[str, ...]
    alias: str  # what its maker called it, if otherwise than the file
    megabytes: float

    def misfit(self, model: Widths) -> bool:
        """Whether it is made for another family than a model of these widths."""
        mine, other = self.widths, model.context
        if mine.context and other and mine.context != other:
            return True
        pairs = zip(mine.texts, (*model.texts, -1, -1), strict=False)
        return any(own and own != theirs for own, theirs in pairs) if model.texts else False


@lru_cache(maxsize=4096)
def describe(name: str, path: Path, stamp: tuple[int, int]) -> LoraInfo:
    """Raises BadRequest, one line, for a file that cannot be used. stamp: size and time, for the memory's sake."""
    read = header.read_named(path)
    refuse(read)
    notes = read.metadata
    widths = _widths(read)
    family = FAMILIES.get(widths.context, "") or _noted(notes) or \
        ("Stable Diffusion XL" if len(widths.texts) > 1 else "")
    alias = _clean(notes.get("ss_output_name", "")) or _clean(notes.get("modelspec.title", ""))
    return LoraInfo(name, str(path), family, widths, triggers(notes), alias if alias != path.stem else "",
                    stamp[0] / 2**20)


def refuse(read: Header) -> None:
    """Raises BadRequest for a file that is no plain LoRA of a family that is known here."""
    who, names = shown(read.path.name), read.tensors
    for pattern, what in _STRANGERS:
        if any(re.search(pattern, name) for name in names):
            raise BadRequest(f"{who} is made for {what}, which is not known here: take one for Stable Diffusion 1, 2 "
                             "or XL.")
    for pattern, what in _OTHERS:
        if any(re.search(pattern, name) for name in names):
            raise BadRequest(f"{who} is {what}, which is not loaded here: take a plain LoRA.")
    if not any(_DOWN.search(name) for name in names):
        raise BadRequest(f"{who} is no LoRA: take it out of the folder.")
    if strange := next((name for name in names if not KNOWN.search(name)), None):
        raise BadRequest(f"{who} holds {shown(strange)[:60]!r}, which no plain LoRA does: take another version.")
    if broken := next((name for name, entry in names.items()
                       if len(entry.shape) not in ((0, 1) if name.endswith(".alpha") else (2, 4))
                       or entry.dtype not in ("F16", "BF16", "F32", "F64") and not name.endswith(".alpha")
                       or name.endswith(".alpha") and math.prod(entry.shape) != 1), None):
        raise BadRequest(f"{who} has a tensor that means nothing in a LoRA, {shown(broken)[:60]!r}: copy or download "
                         "it anew.")


def _widths(read: Header) -> Widths:
    context, texts = 0, [0, 0]
    for name, entry in read.tensors.items():
        if not _DOWN.search(name):
            continue
        if re.search(r"attn2[._](processor\.)?to_[kv]", name):
            context = entry.shape[1]
        for number, begins in enumerate(_TEXTS):
            if name.startswith(begins) and re.search(r"q_proj|to_q", name):
                texts[number] = entry.shape[1]
            elif name.startswith(begins) and not texts[number] and "fc1" in name:
                texts[number] = entry.shape[1]
    return Widths(context, tuple(texts) if texts[1] else tuple(texts[:1]) if texts[0] else ())


def _noted(notes: Mapping[str, str]) -> str:
    said = (notes.get("ss_base_model_version", ""), notes.get("modelspec.architecture", ""))
    return next((family for text in said for begin, family in _NOTES if text.lower().startswith(begin)), "")


def triggers(notes: Mapping[str, str]) -> tuple[str, ...]:
    """The words it was trained to answer to: what its maker says, then the captions' most frequent tags."""
    said = [_clean(word) for word in notes.get("modelspec.trigger_phrase", "").split(",")]
    counts: dict[str, int] = {}
    for tags in header.noted(notes.get("ss_tag_frequency", "")).values():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if type(count) is int:
                counts[_clean(tag)] = counts.get(_clean(tag), 0) + count
    often = sorted(counts, key=lambda tag: -counts[tag])
    return tuple(dict.fromkeys(word for word in (*said, *often) if word))[:_MOST_TRIGGERS]


def _clean(text: str) -> str:
    """Notes are others' text: printable, on one line, and nothing a prompt's grammar would read."""
    text = " ".join("".join(c for c in text if c.isprintable() and c not in "<>").split())
    return text if len(text) <= _LONGEST else ""
