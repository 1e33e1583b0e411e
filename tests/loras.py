"""LoRAs and textual inversions as people share them, for the small checkpoints of tests/originals.py."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

Weights = dict[str, Tensor]
_ATTENTION = r"(attn[12]\.to_[qkv]|attn[12]\.to_out\.0|ff\.net\.0\.proj|ff\.net\.2|proj_in|proj_out)$"
_CONVOLUTIONS = r"(resnets\.\d\.conv[12])$"
_TEXT = re.compile(r"(self_attn\.([qkv]|out)_proj|mlp\.fc[12])$")


def layers(part: Any, pattern: re.Pattern[str]) -> dict[str, Any]:
    return {name: module for name, module in part.named_modules() if pattern.search(name)}


def matrices(module: Any, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Down and up, of a size that shows in the picture and does not drown it."""
    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    if isinstance(module, nn.Conv2d):
        inner, outer, kernel = module.in_channels, module.out_channels, module.kernel_size
        return random(rank, inner, *kernel) / inner**0.5, random(outer, rank, 1, 1) * 0.2
    return random(rank, module.in_features) / module.in_features**0.5, random(module.out_features, rank) * 0.2


def kohya(pipe: Any, path: Path, rank: int = 4, alpha: float | None = 2.0, seed: int = 0, text: bool = True,
          sgm: bool = False, convolutions: bool = False, notes: dict[str, str] | None = None) -> Path:
    """As kohya's scripts write them. alpha: None for the rank's; text: with weights for the text encoders; sgm: the
    U-Net's blocks by their original names, as for SDXL; convolutions: those of the residual blocks too (LoCon)."""
    generator = torch.Generator().manual_seed(seed)
    weights: Weights = {}

    def add(name: str, module: Any) -> None:
        weights[f"{name}.lora_down.weight"], weights[f"{name}.lora_up.weight"] = matrices(module, rank, generator)
        if alpha is not None:
            weights[f"{name}.alpha"] = torch.tensor(alpha)

    pattern = re.compile(f"{_ATTENTION}|{_CONVOLUTIONS}" if convolutions else _ATTENTION)
    for name, module in layers(pipe.unet, pattern).items():
        add("lora_unet_" + (original_block(name, pipe.unet) if sgm else name).replace(".", "_"), module)
    encoders = [getattr(pipe, part) for part in ("text_encoder", "text_encoder_2") if hasattr(pipe, part)]
    for number, encoder in enumerate(encoders if text else ()):
        begin = "lora_te_" if len(encoders) == 1 else f"lora_te{number + 1}_"
        for name, module in layers(encoder, _TEXT).items():
            name = name if name.startswith("text_model.") else f"text_model.{name}"
            add(begin + name.replace(".", "_"), module)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path, notes)
    return path


def original_block(name: str, unet: Any) -> str:
    """diffusers' name of a layer of the attention blocks -> CompVis'."""
    per = unet.config.layers_per_block + 1
    name = re.sub(r"^down_blocks\.(\d)\.attentions\.(\d)",
                  lambda m: f"input_blocks.{1 + int(m[1]) * per + int(m[2])}.1", name)
    name = re.sub(r"^up_blocks\.(\d)\.attentions\.(\d)",
                  lambda m: f"output_blocks.{int(m[1]) * per + int(m[2])}.1", name)
    return name.replace("mid_block.attentions.0", "middle_block.1")


def embedding(path: Path, widths: list[int], vectors: int = 2, layout: str = "emb_params", seed: int = 0) -> Path:
    """A textual inversion. layout: the tensor's name; SDXL's have two of their own."""
    generator = torch.Generator().manual_seed(seed)
    names = [layout] if len(widths) == 1 else ["clip_l", "clip_g"]
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: torch.randn(vectors, width, generator=generator) for name, width in
               zip(names, widths, strict=True)}, path)
    return path


def frequencies(**tags: int) -> dict[str, str]:
    """The note in which kohya's scripts keep how often the captions named each tag."""
    return {"ss_tag_frequency": json.dumps({"10_thing": {tag.replace("_", " "): count for tag, count in tags.items()}})}
