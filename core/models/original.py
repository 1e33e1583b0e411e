"""A single file in the original layout -> the same networks that a diffusers folder gives. Nothing asks a hub.

Names are converted by diffusers' own functions, but for OpenCLIP's; the configurations come from the file's shapes.
Every weight is copied out of the file, so that nothing hangs on it once the model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from diffusers.loaders import single_file_utils as names
from safetensors import safe_open
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from core.models import header, kinds, shapes
from core.models.kinds import UNET, Kind

Weights = dict[str, Tensor]


def unet(path: Path, kind: Kind, dtype: torch.dtype) -> Any:
    config = shapes.unet_config(header.read(path), kind)
    converted = names.convert_ldm_unet_checkpoint(_weights(path, UNET, keep=True), config)
    return _fill(lambda: UNet2DConditionModel.from_config(config), converted, dtype, "U-Net")


def vae(path: Path, dtype: torch.dtype, scaling: float, force_upcast: bool = True) -> Any:
    """The autoencoder of a checkpoint, or that of a file of its own, in the original or in diffusers' layout."""
    read = header.read(path)
    prefix = kinds.vae_prefix(read)
    config = shapes.vae_config(read, prefix or "") | {"scaling_factor": scaling, "force_upcast": force_upcast}
    weights = _weights(path, prefix or "")
    if "encoder.down.0.block.0.conv1.weight" in weights:
        weights = names.convert_ldm_vae_checkpoint(weights, config)
    return _fill(lambda: AutoencoderKL.from_config(config), weights, dtype, "VAE")


def text_encoder(path: Path, kind: Kind, number: int, dtype: torch.dtype) -> Any:
    """The text encoder `number` of a checkpoint: 0, and for SDXL 1, which gives a summary of the prompt too, as the
    refiner's only one does."""
    prefix = kind.texts[number]
    config = shapes.text_config(header.read(path), prefix)
    if kind is kinds.KINDS["sd2"]:
        config["num_hidden_layers"] -= 1  # it was trained on the last layer but one's words, after the final norm
        config["projection_dim"] = config["hidden_size"]
    weights = _weights(path, prefix)
    model_type = CLIPTextModelWithProjection if number or kind.family == "refiner" else CLIPTextModel
    if prefix.endswith("transformer."):
        weights = {name.removeprefix("text_model."): value for name, value in weights.items()}
    else:
        weights = _from_open_clip(weights, config["hidden_size"])
    if model_type is CLIPTextModelWithProjection:
        weights = {name if name.startswith("text_projection") else f"text_model.{name}": value
                   for name, value in weights.items()}
    return _fill(lambda: model_type(CLIPTextConfig(**config)), weights, dtype, "text encoder")


def tiny(path: Path, dtype: torch.dtype) -> Any:
    """TAESD's decoder, as its authors publish it (taesd_decoder.safetensors), behind an AutoencoderTiny's face."""
    weights = _weights(path, "")
    if "1.weight" in weights:  # theirs begins with a clamp, which diffusers does outside of the list
        weights = {f"decoder.layers.{int(number) - 1}.{rest}": value for number, _, rest in
                   (name.partition(".") for name in weights) for value in [weights[f"{number}.{rest}"]]}
    model = _fill(AutoencoderTiny, {name: value for name, value in weights.items() if name.startswith("decoder.")},
                  dtype, "small decoder", without="encoder.")
    model.encoder = None
    return model


def _weights(path: Path, prefix: str, keep: bool = False) -> Weights:
    """The tensors whose names begin so, mapped. keep: with that beginning, else without it."""
    with safe_open(path, "pt", device="cpu") as file:
        return {name if keep else name.removeprefix(prefix): file.get_tensor(name) for name in file.keys()
                if name.startswith(prefix)}


def _from_open_clip(weights: Mapping[str, Tensor], width: int) -> Weights:
    """OpenCLIP's names -> transformers'. Its queries, keys and values are one matrix; its projection is transposed."""
    found: Weights = {}
    for name, value in weights.items():
        if name in _OPEN_CLIP:
            found[_OPEN_CLIP[name]] = value
        elif name == "text_projection":
            found["text_projection.weight"] = value.T.contiguous()
        elif name.startswith("transformer.resblocks."):
            number, _, rest = name.removeprefix("transformer.resblocks.").partition(".")
            layer = f"encoder.layers.{number}."
            if rest.startswith("attn.in_proj_"):
                for which, part in zip("qkv", value.split(width), strict=True):
                    found[f"{layer}self_attn.{which}_proj.{rest.removeprefix('attn.in_proj_')}"] = part
                continue
            for theirs, ours in _OPEN_CLIP_LAYER.items():
                rest = rest.replace(theirs, ours)
            found[layer + rest] = value
    return found


_OPEN_CLIP = {"positional_embedding": "embeddings.position_embedding.weight",
              "token_embedding.weight": "embeddings.token_embedding.weight", "ln_final.weight":
              "final_layer_norm.weight", "ln_final.bias": "final_layer_norm.bias"}
_OPEN_CLIP_LAYER = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
                    "attn.": "self_attn."}


def _fill(make: Callable[[], Any], weights: Mapping[str, Tensor], dtype: torch.dtype, what: str,
          without: str | None = None) -> Any:
    """A network with all of its weights, made without filling it with random numbers first.

    Raises ValueError for weights that are missing or of another shape. without: names that may be missing.
    """
    with init_empty_weights(include_buffers=False):
        model = make()
    wanted = model.state_dict()
    missing = sorted(name for name in wanted.keys() - weights.keys() if not (without and name.startswith(without)))
    if missing:
        raise ValueError(f"its {what} lacks {len(missing)} of its weights, {missing[0]} for one")
    for name in wanted.keys() & weights.keys():
        if weights[name].shape != wanted[name].shape:
            raise ValueError(f"its {what} has {name} of another shape, {list(weights[name].shape)}")
    model.load_state_dict({name: value.to(dtype, copy=True) for name, value in weights.items() if name in wanted},
                          strict=without is None, assign=True)
    return model


