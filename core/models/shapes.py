"""The configurations that diffusers and transformers need, read off the shapes in a checkpoint's original layout.

What shapes do not tell (heads, activations, scaling) is the family's, as its authors published it. No torch.
"""

from __future__ import annotations

import re
from typing import Any

from core.errors import ModelError
from core.models.header import BITS, Header, shown
from core.models.kinds import KINDS, UNET, VAE, Kind

# Sources: configs/stable-diffusion/v1-inference.yaml of CompVis/stable-diffusion, v2-inference.yaml of
# Stability-AI/stablediffusion, configs/inference/sd_xl_base.yaml and sd_xl_refiner.yaml of
# Stability-AI/generative-models.
TRAINING = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCALING = {"sd": 0.18215, "sdxl": 0.13025, "refiner": 0.13025}  # of the VAE's latents
_HEAD = 64  # channels a head, but for SD 1's U-Net, which has 8 heads at every level
# SDXL: height and width of the original, top and left of the crop, height and width wanted; the refiner in the place of
# the last two: a score
_SIZE_NUMBERS = {"sdxl": 6, "refiner": 5}


def unet_config(header: Header, kind: Kind) -> dict[str, Any]:
    """For UNet2DConditionModel. Raises ModelError for a U-Net of another build."""
    levels: list[list[tuple[int, int, int]]] = [[]]  # of each residual block: channels, transformer layers, context
    for i in range(1, _count(header, UNET + r"input_blocks\.(\d+)\.")):
        block = f"{UNET}input_blocks.{i}."
        if header.shape(block + "0.op.weight"):
            levels.append([])
            continue
        channels = header.shape(block + "0.in_layers.2.weight")
        if len(channels) != 4:
            raise _unknown(header, "U-Net")
        context = header.shape(block + "1.transformer_blocks.0.attn2.to_k.weight")
        depth = _count(header, re.escape(block) + r"1\.transformer_blocks\.(\d+)\.")
        levels[-1].append((channels[0], depth, context[1] if len(context) == 2 else 0))
    contexts = {context for level in levels for _, depth, context in level if depth}
    if not all(levels) or len({len(level) for level in levels}) > 1 or len(contexts) != 1 or \
            any(len(set(level)) > 1 for level in levels):
        raise _unknown(header, "U-Net")
    channels_out, depths = [level[0][0] for level in levels], [level[0][1] for level in levels]
    projection = header.shape(next((f"{UNET}input_blocks.{i}.1.proj_in.weight" for i in range(20)
                                    if header.shape(f"{UNET}input_blocks.{i}.1.proj_in.weight")), ""))
    middle = _count(header, re.escape(UNET) + r"middle_block\.1\.transformer_blocks\.(\d+)\.")
    config: dict[str, Any] = {
        "sample_size": kind.side // 8, "in_channels": 4, "out_channels": 4, "block_out_channels": channels_out,
        "layers_per_block": len(levels[0]), "cross_attention_dim": contexts.pop(),
        "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
        "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)],
        # diffusers gives the middle as many layers as the last level, which may have none by itself
        "transformer_layers_per_block": [*(max(depth, 1) for depth in depths[:-1]), depths[-1] or max(middle, 1)],
        "use_linear_projection": len(projection) == 2,
        "attention_head_dim": 8 if kind is KINDS["sd1"] else [max(1, size // _HEAD) for size in channels_out],
    }
    if numbers_told := _SIZE_NUMBERS.get(kind.family):
        taken, pooled = header.shape(UNET + "label_emb.0.0.weight"), header.shape(kind.texts[-1] + "text_projection")
        if len(taken) != 2 or len(pooled) != 2 or (taken[1] - pooled[1]) % (2 * numbers_told):
            raise _unknown(header, "U-Net")
        config |= {"addition_embed_type": "text_time", "projection_class_embeddings_input_dim": taken[1],
                   "addition_time_embed_dim": (taken[1] - pooled[1]) // numbers_told}
    return config


def vae_config(header: Header, prefix: str = VAE) -> dict[str, Any]:
    """For AutoencoderKL, from the original layout or diffusers' own; without its scaling."""
    own = bool(header.shape(prefix + "encoder.down_blocks.0.resnets.0.conv1.weight"))
    first = "encoder.down_blocks.{}.resnets.{}.conv1.weight" if own else "encoder.down.{}.block.{}.conv1.weight"
    levels = _count(header, re.escape(prefix) + r"encoder\.down(?:_blocks)?\.(\d+)\.")
    channels = [header.shape(prefix + first.format(level, 0)) for level in range(levels)]
    latent = header.shape(prefix + "decoder.conv_in.weight")
    if not channels or not all(len(shape) == 4 for shape in (*channels, latent)):
        raise _unknown(header, "VAE")
    layers = _count(header, re.escape(prefix) + r"encoder\.down(?:_blocks)?\.0\.(?:block|resnets)\.(\d+)\.")
    return {"block_out_channels": [shape[0] for shape in channels], "layers_per_block": layers,
            "down_block_types": ["DownEncoderBlock2D"] * levels, "up_block_types": ["UpDecoderBlock2D"] * levels,
            "latent_channels": latent[1],
            "use_quant_conv": prefix + "quant_conv.weight" in header.tensors,
            "use_post_quant_conv": prefix + "post_quant_conv.weight" in header.tensors}


def text_config(header: Header, prefix: str) -> dict[str, Any]:
    """For CLIPTextConfig, of the text encoder whose names begin so."""
    if prefix.endswith("transformer."):  # OpenAI's CLIP, as transformers names its parts
        inner = prefix + "text_model."
        if not header.shape(inner + "embeddings.token_embedding.weight"):
            inner = prefix  # as some merging tools write it
        words, places = (header.shape(inner + f"embeddings.{name}_embedding.weight") for name in ("token", "position"))
        layers = _count(header, re.escape(inner) + r"encoder\.layers\.(\d+)\.")
        wide, act = header.shape(inner + "encoder.layers.0.mlp.fc1.weight"), "quick_gelu"
    else:  # OpenCLIP
        words, places = header.shape(prefix + "token_embedding.weight"), header.shape(prefix + "positional_embedding")
        layers = _count(header, re.escape(prefix) + r"transformer\.resblocks\.(\d+)\.")
        wide, act = header.shape(prefix + "transformer.resblocks.0.mlp.c_fc.weight"), "gelu"
    if not all(len(shape) == 2 for shape in (words, places, wide)) or layers < 2:
        raise _unknown(header, "text encoder")
    config = {"vocab_size": words[0], "hidden_size": words[1], "intermediate_size": wide[0],
              "num_hidden_layers": layers, "num_attention_heads": max(1, words[1] // _HEAD), "hidden_act": act,
              "max_position_embeddings": places[0], "bos_token_id": words[0] - 2, "eos_token_id": words[0] - 1,
              "pad_token_id": 1}
    if projection := header.shape(prefix + "text_projection"):
        config["projection_dim"] = projection[-1]
    return config


def numbers(header: Header, words: str = "") -> int:
    """How many numbers of a file are loaded: of a checkpoint of that kind, not its training's averages."""
    kind = next((kind for kind in KINDS.values() if kind.words == words), None)
    wanted = (UNET, VAE, *kind.texts) if kind and header.shape(UNET + "input_blocks.0.0.weight") else ("",)
    return sum((entry.end - entry.start) * 8 // BITS[entry.dtype] for name, entry in header.tensors.items()
               if name.startswith(wanted))


def _count(header: Header, pattern: str) -> int:
    """1 + the largest number that stands in the names at the pattern's group; 0 where none does."""
    found = re.compile(pattern)
    return max((int(match[1]) + 1 for name in header.tensors if (match := found.match(name)) and len(match[1]) < 4),
               default=0)


def _unknown(header: Header, part: str) -> ModelError:
    return ModelError(f"{shown(header.path)} has a {part} of a build that is not known here (pruned, or merged with "
                      "another family?): take another version of the model.")
