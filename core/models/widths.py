"""How wide a model's text is: what decides whether a LoRA or a textual inversion fits it. No torch."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from core.errors import ModelError
from core.models import header, kinds, shapes
from core.models.catalogue import TEXTS, ModelInfo, _json

# width of the text that the network reads -> the family, as people call it
FAMILIES = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL",
            1280: "the refiner of Stable Diffusion XL"}


class Widths(NamedTuple):
    """Numbers of one token: as the network reads it, and inside of each text encoder. 0 and (): nobody knows."""

    context: int = 0
    texts: tuple[int, ...] = ()


def widths_of(info: ModelInfo) -> Widths:
    """Of a model that is there; (0, ()) for one whose configuration does not say: loading it will tell."""
    path = Path(info.path)
    try:
        changed = (path if info.is_file else path / "unet" / "config.json").stat().st_mtime_ns
        return _widths(path, info.family, info.is_file, changed)
    except (OSError, ModelError, KeyError, TypeError, ValueError, StopIteration):
        return Widths()


@lru_cache(maxsize=64)
def _widths(path: Path, family: str, is_file: bool, changed: int) -> Widths:
    if is_file:
        read = header.read(path)
        kind = kinds.recognise(read)
        return Widths(int(shapes.unet_config(read, kind)["cross_attention_dim"]),
                      tuple(int(shapes.text_config(read, text)["hidden_size"]) for text in kind.texts))
    context = _json(path, "unet/config.json").get("cross_attention_dim", 0)
    return Widths(context if type(context) is int else 0,
                  tuple(int(_json(path, f"{part}/config.json")["hidden_size"]) for part in TEXTS[family]))
