"""Which models are here: Storybook, diffusers folders below the models folder, and one given by path or hub id.

Reads small JSON files only (no torch): the page lists models before any heavy import.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ModelError, closest

STORYBOOK = Path(__file__).parent.parent / "storybook" / "weights"
FAMILIES = {"StableDiffusionPipeline": "sd"}  # _class_name of model_index.json -> module in core.models
PREDICTIONS = ("epsilon", "v_prediction", "sample")  # what `core.denoise` turns into a clean picture


@dataclass(frozen=True)
class ModelInfo:
    """What can be said of a model without loading it."""

    name: str  # what a Request calls it
    path: str  # folder, or hub id
    family: str
    width: int  # pixels it was trained at
    height: int
    multiple: int  # width and height must be multiples of this many pixels
    tokens: int  # prompt tokens it reads, begin and end marks included
    tiny: bool  # has a tiny autoencoder for previews
    megabytes: float  # size of its weights on disk
    decoder_channels: int = 128  # of the decoder's last level, at full size: what its memory grows with

    @property
    def is_storybook(self) -> bool:
        return Path(self.path) == STORYBOOK


class Catalogue:
    """The models a person can choose. models_dir: a folder of diffusers folders; it may be missing.

    extra: a path or hub id given on the command line, offered beside the others.
    """

    def __init__(self, models_dir: Path | str = "models", extra: str | None = None):
        self.models_dir = Path(models_dir)
        self.extra = extra if extra and extra != "storybook" else None

    def names(self) -> list[str]:
        found = self._found()
        return ["storybook", *([self.extra] if self.extra and self.extra not in found else []), *found]

    def _found(self) -> list[str]:
        return sorted(p.parent.name for p in self.models_dir.glob("*/model_index.json"))

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per model, for lists; a broken one has an "error" instead of its figures."""
        rows: list[dict[str, Any]] = []
        for name in self.names():
            try:
                info = self.get(name)
            except ModelError as error:
                rows.append({"name": name, "error": str(error)})
                continue
            rows.append({"name": name, "family": info.family, "width": info.width, "height": info.height,
                         "multiple": info.multiple, "tokens": info.tokens, "tiny_preview": info.tiny,
                         "megabytes": round(info.megabytes, 1)})
        return rows

    def get(self, name: str) -> ModelInfo:
        """Raises ModelError when there is no such model, or it is broken or of an unknown family."""
        if name == "storybook":
            return describe("storybook", STORYBOOK)
        if name in self._found():
            return describe(name, self.models_dir / name)
        if name == self.extra:  # only what the person who started the program named: never a path from the page
            return describe(name, Path(name)) if os.path.exists(name) or not _is_hub_id(name) else _hub(name)
        raise ModelError(f"No model named {name[:80]!r}. {closest(name[:80], self.names())}")


def describe(name: str, folder: Path) -> ModelInfo:
    """Reads a diffusers folder's configuration. Raises ModelError for what is missing or broken."""
    if not os.path.isdir(folder):  # Path.is_dir raises for a name that is too long
        shown = str(folder)[:200] if str(folder).isprintable() else repr(str(folder)[:200])
        raise ModelError(f"There is no model folder {shown}: check the path, or put a diffusers folder there.")
    index = _json(folder, "model_index.json")
    kind = index.get("_class_name", "")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ModelError(f"{folder} holds a {str(kind or 'nameless pipeline')[:60]}, which is not known here yet. "
                         f"Known: {', '.join(FAMILIES)}.")
    unet, vae = _json(folder, "unet/config.json"), _json(folder, "vae/config.json")
    text = _json(folder, "text_encoder/config.json")
    prediction = _json(folder, "scheduler/scheduler_config.json").get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise ModelError(f"{folder} predicts {str(prediction)[:40]!r}, which is not known here yet. "
                         f"Known: {', '.join(PREDICTIONS)}.")
    try:
        factor = 2 ** (len(vae["block_out_channels"]) - 1)
        side = unet["sample_size"]
        rows, columns = (side, side) if isinstance(side, int) else side
        weights = [p for part in ("unet", "vae", "text_encoder") for p in (folder / part).glob("*.safetensors")]
        channels = int(vae["block_out_channels"][0])
        tokens = int(text.get("max_position_embeddings", 77))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError(f"{folder} has a broken configuration ({error!r}): copy the model anew.") from None
    for part in ("unet", "vae", "text_encoder"):
        if not any((folder / part).glob("*.safetensors")):
            raise ModelError(f"{folder / part} holds no .safetensors weights: the model is incomplete, copy it anew.")
    return ModelInfo(name=name, path=str(folder), family=FAMILIES[kind], width=columns * factor, height=rows * factor,
                     multiple=factor, tokens=tokens, decoder_channels=channels,
                     tiny=(folder / "preview" / "config.json").is_file(),
                     megabytes=sum(p.stat().st_size for p in weights) / 2**20)


def _is_hub_id(name: str) -> bool:
    owner, _, repo = name.partition("/")
    return bool(owner and repo) and "/" not in repo and not name.startswith((".", "/", "~"))


def _hub(name: str) -> ModelInfo:
    """A hub id, from its local cache when there is one, else by downloading (configuration only)."""
    from core.models.hub import fetch

    return describe(name, fetch(name))


def _json(folder: Path, part: str) -> dict[str, Any]:
    try:
        value = json.loads((folder / part).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} is not a diffusers folder: {part} is missing. Copy the model anew.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{folder / part} cannot be read ({str(error)[:80]}): copy the model anew.") from None
    if not isinstance(value, dict):
        raise ModelError(f"{folder / part} is not a configuration: copy the model anew.")
    return value
