"""The LoRAs of a loaded model: beside its weights, never merged into them, so that a change of scale costs no reading
and without any the network computes what it always did. Names are converted, and layers put in, by diffusers and peft.
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import StableDiffusionPipeline
from diffusers.loaders.lora_base import set_adapters_for_text_encoder
from diffusers.utils.peft_utils import delete_adapter_layers, set_adapter_layers
from diffusers.utils.state_dict_utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from safetensors import safe_open
from torch import Tensor

from core.errors import BadRequest, LoomError
from core.models import header, lora
from core.models.device import memory_errors
from core.models.header import shown
from core.prompts.networks import Lora, Loras

log = logging.getLogger(__name__)

KEPT = 8  # LoRAs in memory, unless one prompt asks for more; of SD 1 one has 10 to 150 MB
PARTS = ("unet", "text_encoder", "text_encoder_2")  # as diffusers names them
_OLD = ("down_blocks.", "mid_block.", "up_blocks.")  # a U-Net's layers without a name for the U-Net before them
# name endings of the two matrices whose product is added: from the input (rank rows), to the output (rank columns)
_MATRICES = ((".lora_down.weight", ".lora_up.weight"), (".lora_A.weight", ".lora_B.weight"),
             (".lora.down.weight", ".lora.up.weight"), ("_lora.down.weight", "_lora.up.weight"),
             (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"))

Weights = dict[str, Tensor]


class _Held(NamedTuple):
    """A LoRA in memory."""

    adapter: str  # its name in peft's layers
    stamp: tuple[int, int]  # size and time of its file
    reaches: tuple[bool, ...]  # which of the parts it changes


class Adapters:
    """parts: the noise predictor, then the text encoders; device: where they compute, wherever they wait for that.
    Use it from the engine's thread.
    """

    def __init__(self, parts: Sequence[Any], device: torch.device):
        self.parts, self.device = tuple(parts), device
        self._held: OrderedDict[Path, _Held] = OrderedDict()  # least recently used first
        self._files: dict[str, Path] = {}  # those of the run, by their names in its prompts
        self._used: Loras | None = ()
        self._count = 0

    def fetch(self, files: Mapping[str, Path]) -> None:
        """Bring a run's LoRAs into memory, before its first step. files: by their names in its prompts.

        Raises BadRequest, upon which nothing has changed, and OutOfMemory.
        """
        for path in dict.fromkeys(files.values()):
            stat = path.stat()
            stamp = stat.st_size, stat.st_mtime_ns
            if path in self._held and self._held[path].stamp != stamp:
                self._drop(path)
            if path not in self._held:
                self._held[path] = self._load(path, stamp)
            self._held.move_to_end(path)
        for path in list(self._held)[:-max(KEPT, len(set(files.values())))]:
            self._drop(path)
        if self._files != files:
            self._files, self._used = dict(files), None  # a name may mean another file now

    def use(self, loras: Loras) -> None:
        """From now on the network computes with these, of those that were fetched, and no others."""
        if loras == self._used:
            return
        self._used = None
        for k, part in enumerate(self.parts):
            if not any(held.reaches[k] for held in self._held.values()):
                continue
            scales = {self._of(one).adapter: one.text if k else one.unet for one in loras if self._of(one).reaches[k]}
            scales = {adapter: scale for adapter, scale in scales.items() if scale}
            set_adapter_layers(part, enabled=bool(scales))
            if scales and k:
                set_adapters_for_text_encoder(list(scales), part, list(scales.values()))
            elif scales:
                part.set_adapters(list(scales), list(scales.values()))
        self._used = loras

    def texts_with(self, loras: Loras) -> tuple[tuple[str, float], ...]:
        """What tells prompts that are encoded with these from others: equal where the text encoders are."""
        return tuple((self._of(one).adapter, one.text) for one in loras if one.text and any(self._of(one).reaches[1:]))

    def _of(self, one: Lora) -> _Held:
        return self._held[self._files[one.name]]

    def _load(self, path: Path, stamp: tuple[int, int]) -> _Held:
        self._count += 1
        adapter = f"lora{self._count}"
        self._used = None  # a new layer is active at once
        try:
            with memory_errors(f"loading the LoRA {path.stem}"), torch.inference_mode(False):
                found = self._converted(path)
                for k, weights in enumerate(found):
                    self._put_in(k, weights, adapter)
        except Exception as error:
            self._remove(adapter)
            if isinstance(error, LoomError):
                raise
            log.info("loading %s", path, exc_info=True)
            why = " ".join(str(error).split())[:120] or type(error).__name__
            raise BadRequest(f"The LoRA {shown(path.name)} could not be loaded ({why}): copy or download it anew.",
                             "prompt") from error
        return _Held(adapter, stamp, tuple(bool(weights) for weights in found))

    def _put_in(self, k: int, weights: Weights, adapter: str) -> None:
        """New layers around those of part k that the matrices change."""
        named = {f"{PARTS[k]}.{name}": value for name, value in weights.items()}
        with _quiet():
            if k and named:
                StableDiffusionPipeline.load_lora_into_text_encoder(named, None, self.parts[k], prefix=PARTS[k],
                                                                    adapter_name=adapter, low_cpu_mem_usage=True)
            elif named:
                StableDiffusionPipeline.load_lora_into_unet(named, None, self.parts[k], adapter_name=adapter,
                                                            low_cpu_mem_usage=True)
        for name, value in weights.items():  # peft puts them where the layer's weights are, and into 8 bits as they
            layer, _, which = name.rpartition(".lora_")
            matrix = self.parts[k].get_submodule(f"{layer}.lora_{which[0]}.{adapter}")
            if (matrix.weight.dtype, matrix.weight.device) != (value.dtype, value.device):
                matrix.weight = torch.nn.Parameter(value, requires_grad=False)

    def _converted(self, path: Path) -> list[Weights]:
        """A file's matrices for each part, by peft's names. Raises BadRequest for those that do not fit this model."""
        lora.refuse(header.read(path))
        with safe_open(path, "pt", device="cpu") as file:
            weights = {name: file.get_tensor(name).clone() for name in file.keys()}
            notes = file.metadata() or {}
        weights = _scaled(weights, header.noted(notes.get("lora_adapter_metadata", "")))
        weights = {name.removeprefix("base_model.model."): value for name, value in weights.items()}
        if all(name.startswith(_OLD) for name in weights):
            weights = {f"unet.{name}": value for name, value in weights.items()}
        weights, _ = StableDiffusionPipeline.lora_state_dict(weights, unet_config=self.parts[0].config)
        found = []
        for name, part in zip(PARTS, (*self.parts, None, None), strict=False):
            own = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
            if own and part is None:
                raise _misfit(path, f"it changes a part that this model lacks, {name}")
            own = _text_names(own, part) if name != "unet" else convert_unet_state_dict_to_peft(own)
            # layers that wait elsewhere one by one have no place of their own: what is added to them stays in its own
            place = self.device if own and part.device.type == "meta" else part.device if own else None
            found.append(_fitted(own, part, path, place) if place else {})
        if sum(map(len, found)) != len(weights):
            raise _misfit(path, "it changes parts that this model lacks")
        return found[:len(self.parts)]

    def _drop(self, path: Path) -> None:
        self._remove(self._held.pop(path).adapter)

    def _remove(self, adapter: str) -> None:
        self._used = None
        for k, part in enumerate(self.parts):
            if adapter in getattr(part, "peft_config", {}):
                with _quiet():
                    delete_adapter_layers(part, adapter) if k else part.delete_adapters(adapter)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What peft says of several LoRAs at once, and of which is active when one goes: `use` says that anew each time. Of
    8 bits it says that nothing could be merged into them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`|Adapter lora|TorchaoLoraLinear was instant")
        yield


def _scaled(weights: Weights, notes: Mapping[str, Any]) -> Weights:
    """The matrices with alpha / rank multiplied in, which is what files that name no alpha mean by it.

    notes: those of peft's configurations, as diffusers writes them. peft would read one alpha for most layers and the
    others by patterns of their names.
    """
    found = {name: value for name, value in weights.items() if not name.endswith(".alpha")}
    for down, up in _MATRICES:
        for name in [name for name in found if name.endswith(up)]:
            base = name.removesuffix(up)
            if base + down not in found:
                raise ValueError(f"{base} has only one of its two matrices")
            rank = found[base + down].shape[0]
            alpha = weights.get(f"{base}.alpha")
            scale = float(alpha) / rank if alpha is not None else _noted(base, rank, notes)
            if scale != 1:
                found[name] = found[name].float() * scale
    return found


def _noted(base: str, rank: int, notes: Mapping[str, Any]) -> float:
    part, _, layer = base.partition(".")
    alpha = notes.get(f"{part}.lora_alpha")
    patterns = notes.get(f"{part}.alpha_pattern")
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        if layer == pattern or layer.endswith(f".{pattern}"):
            alpha = value
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)):
        return 1.0
    return alpha / math.sqrt(rank) if notes.get(f"{part}.use_rslora") is True else alpha / rank


def _text_names(weights: Weights, encoder: Any) -> Weights:
    """By peft's names, in the encoder's own layout: transformers has one level less for some."""
    if not weights:
        return {}
    found: Weights = convert_state_dict_to_peft(convert_state_dict_to_diffusers(weights))
    return found if hasattr(encoder, "text_model") else \
        {name.removeprefix("text_model."): value for name, value in found.items()}


def _fitted(weights: Weights, part: Any, path: Path, device: torch.device) -> Weights:
    """The matrices in the shape of the layers that they change, in the part's precision. All of them, or none."""
    found, dtype = {}, part.dtype
    for name, value in weights.items():
        layer_name, _, which = name.rpartition(".lora_")
        try:
            layer = part.get_submodule(layer_name)
        except AttributeError:
            raise _misfit(path, f"this model has no {layer_name[:80]}") from None
        layer = layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer
        if isinstance(layer, torch.nn.Conv2d):
            inner = -1, layer.in_channels, *layer.kernel_size
            shape = inner if which == "A.weight" else (layer.out_channels, -1, 1, 1)
        elif isinstance(layer, torch.nn.Linear):
            shape = (-1, layer.in_features) if which == "A.weight" else (layer.out_features, -1)
        else:
            raise _misfit(path, f"{layer_name[:80]} is no layer that a LoRA can change")
        own = tuple(value.shape[:2]) + (value.shape[2:] if math.prod(value.shape[2:]) > 1 else ())
        wanted = shape[:2] + (shape[2:] if math.prod(shape[2:]) > 1 else ())
        if len(own) != len(wanted) or any(theirs not in (-1, mine) for mine, theirs in zip(own, wanted, strict=True)):
            raise _misfit(path, f"{layer_name[:80]} has another size")
        found[name] = value.reshape(shape).to(device, dtype)
    for name, value in found.items():
        other = found.get(name.replace(".lora_A.", ".lora_B."))
        if ".lora_A." in name and (other is None or other.shape[1] != value.shape[0]):
            raise ValueError(f"{name.rpartition('.lora_')[0]} has two matrices that do not belong together")
    return found


def _misfit(path: Path, why: str) -> BadRequest:
    return BadRequest(f"The LoRA {shown(path.stem)} is made for another family of models ({why}): choose one that "
                      "fits, or another model.", "prompt")


