"""A model's networks, read from a diffusers folder or from a single file: the same parts by either door."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from core.errors import ModelError, OutOfMemory
from core.models import clip, header, needs, original, shapes, tune
from core.models.catalogue import TEXTS, ModelInfo, _json, weights_of
from core.models.device import DTYPES, free_memory, memory_errors
from core.models.kinds import KINDS
from core.models.thrift import Thrift
from core.samplers import SAMPLERS
from core.samplers.build import build
from core.tuning import OFFLOADS, Tuning

log = logging.getLogger(__name__)
for _logging in (diffusers.utils.logging, transformers.utils.logging):  # their remarks are not for those who paint
    _logging.set_verbosity_error()
    _logging.disable_progress_bar()


_TEXT_MODELS = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}


class Parts(NamedTuple):
    """What a family is made of, on its device."""

    unet: Any
    vae: Any  # None for a refiner, which borrows that of its model
    tiny: Any | None
    texts: list[Any]  # text encoders
    tokenizers: list[Any]  # one for each
    training: dict[str, Any]  # scheduler_config.json: what a sampler must know of the training
    zeros: bool  # an empty prompt is no embedding of "" but zeros, as the model was trained

    def thrift(self, device: torch.device, tuning: Tuning, offload: str) -> Thrift:
        return Thrift(device, self.unet, [*self.texts, self.vae], offload, tuning.vae_tiling, further(tuning, device))


def load(info: ModelInfo, device: torch.device, precision: str, tuning: Tuning, offload: str) -> Parts:
    """offload: see `verify`; unless it is "none", networks stay in the machine's memory, for `Thrift` to place.

    Raises ModelError for what is missing or broken, OutOfMemory.
    """
    try:
        with memory_errors(f"loading {info.name}"):
            parts = (_from_file if info.is_file else _from_folder)(info, device, precision)
            build(SAMPLERS["DDIM"], "Uniform", 1, parts.training, seed=0)  # fails on training nobody could sample from
    except (ModelError, OutOfMemory):
        raise
    except Exception as error:  # a broken model may break any line of four libraries
        log.info("loading %s", info.path, exc_info=True)
        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise ModelError(f"{info.name} could not be loaded ({why}): copy the model anew, or choose another.") from error
    with memory_errors(f"loading {info.name}"):
        for part in filter(None, (parts.unet, parts.vae, parts.tiny, *parts.texts)):
            part.requires_grad_(False).eval()
        for part in filter(None, (parts.unet, parts.vae, parts.tiny)):
            part.to(memory_format=torch.channels_last)
        tune.prepare(parts.unet, tuning, DTYPES[precision])
        for part in filter(None, (parts.tiny, *((parts.unet, parts.vae, *parts.texts) if offload == "none" else ()))):
            part.to(device)
        tune.finish(parts.unet, tuning, device, DTYPES[precision])
    return parts


def _dtypes(info: ModelInfo, device: torch.device, precision: str, upcast: bool) -> tuple[torch.dtype, ...]:
    """Of network, VAE and text encoders. upcast: the VAE of SDXL gives black pictures in fp16, and says so."""
    dtype = DTYPES[precision]
    # On a CPU the text encoder stays in float32: it runs once per prompt, and everything hangs on it.
    return (dtype, torch.float32 if upcast and dtype == torch.float16 else dtype,
            torch.float32 if device.type == "cpu" else dtype)


def training_of(info: ModelInfo) -> dict[str, Any]:
    """A folder's scheduler_config.json, or what it would be for a file."""
    if not info.is_file:
        return _json(Path(info.path), "scheduler/scheduler_config.json")
    return shapes.TRAINING | {"prediction_type": info.prediction, "rescale_betas_zero_snr": info.zero_terminal}


def _from_folder(info: ModelInfo, device: torch.device, precision: str) -> Parts:
    folder = Path(info.path)
    upcast = info.family == "sdxl" and _json(folder, "vae/config.json").get("force_upcast", True)
    dtype, vae_dtype, text_dtype = _dtypes(info, device, precision, bool(upcast))
    unet = _network(UNet2DConditionModel, folder / "unet", dtype)
    vae = None if info.is_refiner else \
        _other_vae(info, dtype) if info.vae else _network(AutoencoderKL, folder / "vae", vae_dtype)
    tiny = _network(AutoencoderTiny, folder / "preview", dtype) if info.tiny else None
    texts = [_TEXT_MODELS[name].from_pretrained(folder / name, dtype=text_dtype, use_safetensors=True,
                                                local_files_only=True, variant=_variant(folder / name))
             for name in TEXTS[info.family]]
    tokenizers = [CLIPTokenizer.from_pretrained(folder / name.replace("text_encoder", "tokenizer"),
                                                local_files_only=True) for name in TEXTS[info.family]]
    zeros = _json(folder, "model_index.json").get("force_zeros_for_empty_prompt", info.family == "sdxl")
    return Parts(unet, vae, tiny, texts, tokenizers, training_of(info), zeros is True)


def _from_file(info: ModelInfo, device: torch.device, precision: str) -> Parts:
    path = Path(info.path)
    kind = next(kind for kind in KINDS.values() if kind.words == info.kind)
    dtype, vae_dtype, text_dtype = _dtypes(info, device, precision, info.family == "sdxl")
    texts, tokenizers = [], []
    for number in range(len(kind.texts)):
        words = shapes.text_config(header.read(path), kind.texts[number])["vocab_size"]
        # OpenCLIP fills up with token 0, "!", CLIP with its end mark
        pad = "<|endoftext|>" if kind.texts[number].endswith("transformer.") else "!"
        tokenizers.append(clip.tokenizer(words, pad, path, "tokenizer_2" if number or info.is_refiner else "tokenizer"))
        texts.append(original.text_encoder(path, kind, number, text_dtype))
    vae = None if info.is_refiner else _other_vae(info, dtype) if info.vae else \
        original.vae(path, vae_dtype, shapes.SCALING[info.family], info.family == "sdxl")
    small = Path(info.small_decoder) if info.tiny else None
    tiny = None if small is None else \
        _network(AutoencoderTiny, small, dtype) if small.is_dir() else original.tiny(small, dtype)
    return Parts(original.unet(path, kind, dtype), vae, tiny, texts, tokenizers, training_of(info),
                 info.family == "sdxl")


def _other_vae(info: ModelInfo, dtype: torch.dtype) -> Any:
    """The VAE somebody chose. Whether it bears fp16 only its pictures tell: see core.models.vae."""
    path = Path(info.vae)
    if path.is_file():
        return original.vae(path, dtype, shapes.SCALING[info.family], force_upcast=False)
    upcast = _json(path, "config.json").get("force_upcast", True) and info.family == "sdxl"
    return _network(AutoencoderKL, path, torch.float32 if upcast and dtype == torch.float16 else dtype)


def _network(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A network with all of its weights: diffusers fills those that are missing with random numbers."""
    network, found = kind.from_pretrained(folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True,
                                          variant=_variant(folder), output_loading_info=True)
    if missing := found["missing_keys"]:
        raise ValueError(f"{folder.name} lacks {len(missing)} of its weights, {sorted(missing)[0]} for one")
    return network


def _variant(folder: Path) -> str | None:
    """How the weights' files are marked: "fp16" where there are no others."""
    return "fp16" if any(".fp16" in path.name for path in weights_of(folder)) else None


# -- before anything is loaded


def verify(info: ModelInfo, device: torch.device, precision: str, tuning: Tuning, freed: int = 0,
           beside: Callable[[], bool] = lambda: False) -> str:
    """What can be said against loading a model without opening more than its headers; how far it must be offloaded:
    none, model or sequential. freed: bytes that the model in memory will give back. beside: makes a model that stays
    there give way; whether it could.

    Raises ModelError for a broken file, OutOfMemory.
    """
    weights = needs.weights(info, precision, tuning.storage, device.type == "cuda")
    run = needs.network(info, info.width, info.height, 2, precision)
    needed = {"none": sum(weights), "model": weights.largest, "sequential": 0}
    if tuning.offload != "auto":
        ways = [tuning.offload]
    else:
        ways = ["none", *further(tuning, device)]
        needed |= {way: needed[way] + run for way in ways[:-1]}  # where there is a next best, without a squeeze
    while True:
        free = freed + free_memory(device)
        fits = next((way for way in ways if needed[way] <= free), None)
        if fits == ways[0] or not beside():
            break
    if fits is None:
        raise OutOfMemory(f"{info.name} needs about {needed[ways[-1]] / 2**30:.1f} GiB of memory in {precision} and "
                          f"{free / 2**30:.1f} are free: choose a smaller model or another precision, or close other "
                          "programs.")
    return fits


def further(tuning: Tuning, device: torch.device) -> list[str]:
    """How a model may be offloaded by itself when the memory does not suffice."""
    if tuning.offload != "auto" or device.type != "cuda":
        return []
    return [way for way in OFFLOADS[2:] if way != "sequential" or tuning.storage != "int8"]


def weight(parts: list[Any], device: torch.device) -> int:
    """Bytes that networks hold there."""
    return sum(_bytes(tensor) for part in parts if part is not None for tensor in (*part.parameters(), *part.buffers())
               if tensor.device.type == device.type)


def _bytes(tensor: torch.Tensor) -> int:
    if hasattr(tensor, "__tensor_flatten__"):  # weights in 8 bits and their scales, which look like the whole ones
        return sum(_bytes(inner) for name in tensor.__tensor_flatten__()[0]
                   if (inner := getattr(tensor, name)) is not None)
    return tensor.numel() * tensor.element_size()
