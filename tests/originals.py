"""Small checkpoints as people have them: diffusers folders of SD 1, SD 2 and SDXL with CLIP's real vocabulary, and the
same weights as single files in the original layout. The names' table is that of the scripts that published models
were converted with (diffusers, scripts/convert_diffusers_to_original_*.py), written out for networks of any depth.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from core.engine import Engine
from core.models import clip
from core.request import Done, Preview, Request

Weights = dict[str, Tensor]
FAMILIES = {"sd1": "epsilon", "sd2": "v_prediction", "sdxl": "epsilon"}  # with what each predicts here
PROMPT = "a red boat on the sea, at dusk!"
SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def make_pipeline(kind: str, prediction: str = "epsilon", seed: int = 0) -> Any:
    """kind: sd1, sd2, sdxl or refiner. Three levels (sd: 32 to 128 channels, head sizes as in the real ones), 16x16
    latents."""
    torch.manual_seed(seed)
    vae = AutoencoderKL(block_out_channels=(32, 32, 64, 64), in_channels=3, out_channels=3, layers_per_block=1,
                        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                        latent_channels=4, sample_size=128,
                        scaling_factor=0.13025 if kind in ("sdxl", "refiner") else 0.18215)
    shared: dict[str, Any] = {"vae": vae.eval(),
                              "scheduler": EulerDiscreteScheduler(**SCHEDULER, prediction_type=prediction)}
    common: dict[str, Any] = {"sample_size": 16, "in_channels": 4, "out_channels": 4, "layers_per_block": 1}
    if kind == "sdxl":
        unet = UNet2DConditionModel(
            **common, block_out_channels=(64, 64, 128), cross_attention_dim=64 + 128, attention_head_dim=[1, 1, 2],
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), use_linear_projection=True,
            transformer_layers_per_block=[1, 1, 2], addition_embed_type="text_time", addition_time_embed_dim=32,
            projection_class_embeddings_input_dim=128 + 6 * 32)
        return StableDiffusionXLPipeline(
            **shared, unet=unet.eval(), text_encoder=_text(64, "quick_gelu"), text_encoder_2=_text(128, "gelu", True),
            tokenizer=_tokenizer("<|endoftext|>"), tokenizer_2=_tokenizer("!"), add_watermarker=False)
    if kind == "refiner":  # no attention in its last level, but in its middle
        unet = UNet2DConditionModel(
            **common, block_out_channels=(64, 64, 128), cross_attention_dim=128, attention_head_dim=[1, 1, 2],
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), use_linear_projection=True,
            transformer_layers_per_block=2, addition_embed_type="text_time", addition_time_embed_dim=32,
            projection_class_embeddings_input_dim=128 + 5 * 32)
        return StableDiffusionXLImg2ImgPipeline(
            **shared, unet=unet.eval(), text_encoder=None, text_encoder_2=_text(128, "gelu", True), tokenizer=None,
            tokenizer_2=_tokenizer("!"), add_watermarker=False, requires_aesthetics_score=True,
            force_zeros_for_empty_prompt=False)
    blocks: dict[str, Any] = {"down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                              "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")}
    if kind == "sd2":
        unet = UNet2DConditionModel(**common, **blocks, block_out_channels=(64, 64, 128), cross_attention_dim=128,
                                    attention_head_dim=[1, 1, 2], use_linear_projection=True)
        text, pad = _text(128, "gelu"), "!"
    else:
        unet = UNet2DConditionModel(**common, **blocks, block_out_channels=(32, 64, 64), cross_attention_dim=64)
        text, pad = _text(64, "quick_gelu"), "<|endoftext|>"
    return StableDiffusionPipeline(**shared, unet=unet.eval(), text_encoder=text, tokenizer=_tokenizer(pad),
                                   safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def _text(width: int, activation: str, projection: bool = False) -> Any:
    config = CLIPTextConfig(vocab_size=clip.SIZE, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=3,
                            num_attention_heads=width // 64, hidden_act=activation, projection_dim=width,
                            bos_token_id=49406, eos_token_id=49407, pad_token_id=1)
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def _tokenizer(pad: str) -> Any:
    return clip.tokenizer(clip.SIZE, pad, Path("nowhere/file.safetensors"))


def write_refined(folder: Path) -> Path:
    """A small SDXL and a refiner for it: sdxl.safetensors and refiner.safetensors."""
    for k, kind in enumerate(("sdxl", "refiner")):
        write_original(make_pipeline(kind, seed=k), folder / f"{kind}.safetensors")
    return folder


def write_original(pipe: Any, path: Path, dtype: torch.dtype = torch.float32, notes: dict[str, str] | None = None,
                   extra: Weights | None = None) -> Path:
    """The weights of a pipeline as one file in the original layout, with what such files carry along."""
    weights = {"model.diffusion_model." + name: value for name, value in unet_names(pipe.unet).items()}
    weights |= {"first_stage_model." + name: value for name, value in vae_names(pipe.vae.state_dict()).items()}
    places = torch.arange(77)[None]
    if hasattr(pipe, "text_encoder_2") and pipe.text_encoder is None:
        second = {name.removeprefix("text_model."): value for name, value in pipe.text_encoder_2.state_dict().items()}
        weights |= {"conditioner.embedders.0.model." + name: value for name, value in open_clip_names(second).items()}
    elif hasattr(pipe, "text_encoder_2"):
        first = "conditioner.embedders.0.transformer.text_model."
        weights |= {first + name: value for name, value in pipe.text_encoder.state_dict().items()}
        second = {name.removeprefix("text_model."): value for name, value in pipe.text_encoder_2.state_dict().items()}
        weights |= {"conditioner.embedders.1.model." + name: value for name, value in open_clip_names(second).items()}
    elif pipe.unet.config.use_linear_projection:
        text = pipe.text_encoder.state_dict()
        layers = pipe.text_encoder.config.num_hidden_layers
        unused = {name.replace(f"layers.{layers - 1}.", f"layers.{layers}."): torch.full_like(value, torch.nan)
                  for name, value in text.items() if f"layers.{layers - 1}." in name}  # trained, but never asked
        text |= unused | {"text_projection.weight": torch.eye(pipe.text_encoder.config.hidden_size)}
        weights |= {"cond_stage_model.model." + name: value for name, value in open_clip_names(text).items()}
    else:
        first = "cond_stage_model.transformer.text_model."
        weights |= {first + name: value for name, value in pipe.text_encoder.state_dict().items()}
        weights[first + "embeddings.position_ids"] = places
        weights["model_ema.decay"] = torch.tensor(0.9999)
    weights["alphas_cumprod"] = torch.ones(1000)
    weights = {name: (value.to(dtype) if value.is_floating_point() else value).contiguous().clone()
               for name, value in (weights | (extra or {})).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path, notes)
    return path


def unet_names(unet: Any) -> Weights:
    """diffusers' names of a U-Net -> CompVis'."""
    layers, levels = unet.config.layers_per_block, len(unet.config.block_out_channels)
    table: list[tuple[str, str]] = [
        ("time_embedding.linear_1.", "time_embed.0."), ("time_embedding.linear_2.", "time_embed.2."),
        ("add_embedding.linear_1.", "label_emb.0.0."), ("add_embedding.linear_2.", "label_emb.0.2."),
        ("conv_in.", "input_blocks.0.0."), ("conv_norm_out.", "out.0."), ("conv_out.", "out.2."),
        ("mid_block.attentions.0.", "middle_block.1."), ("mid_block.resnets.0.", "middle_block.0."),
        ("mid_block.resnets.1.", "middle_block.2.")]
    for level in range(levels):
        for j in range(layers):
            place = 1 + level * (layers + 1) + j
            table += [(f"down_blocks.{level}.resnets.{j}.", f"input_blocks.{place}.0."),
                      (f"down_blocks.{level}.attentions.{j}.", f"input_blocks.{place}.1.")]
        table.append((f"down_blocks.{level}.downsamplers.0.conv.", f"input_blocks.{(level + 1) * (layers + 1)}.0.op."))
        attends = unet.config.up_block_types[level].startswith("CrossAttn")
        for j in range(layers + 1):
            place = level * (layers + 1) + j
            table += [(f"up_blocks.{level}.resnets.{j}.", f"output_blocks.{place}.0."),
                      (f"up_blocks.{level}.attentions.{j}.", f"output_blocks.{place}.1.")]
        table.append((f"up_blocks.{level}.upsamplers.0.", f"output_blocks.{place}.{2 if attends else 1}."))
    inner = [("norm1.", "in_layers.0."), ("conv1.", "in_layers.2."), ("norm2.", "out_layers.0."),
             ("conv2.", "out_layers.3."), ("time_emb_proj.", "emb_layers.1."), ("conv_shortcut.", "skip_connection.")]
    found = {}
    for name, value in unet.state_dict().items():
        for ours, theirs in table:
            if name.startswith(ours):
                rest = name.removeprefix(ours)
                if ".resnets." in ours:
                    for a, b in inner:
                        rest = rest.replace(a, b) if rest.startswith(a) else rest
                found[theirs + rest] = value
                break
        else:
            raise AssertionError(name)
    return found


def vae_names(weights: Weights) -> Weights:
    """diffusers' names of an autoencoder -> CompVis': levels of the decoder backwards, attention as 1x1 convolution."""
    levels = 1 + max(int(m[1]) for name in weights if (m := re.match(r"decoder\.up_blocks\.(\d)", name)))
    found = {}
    for name, value in weights.items():
        new = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", name)
        new = re.sub(r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample.", new)
        new = re.sub(r"up_blocks\.(\d)\.resnets\.", lambda m: f"up.{levels - 1 - int(m[1])}.block.", new)
        new = re.sub(r"up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"up.{levels - 1 - int(m[1])}.upsample.", new)
        new = re.sub(r"mid_block\.resnets\.(\d)\.", lambda m: f"mid.block_{int(m[1]) + 1}.", new)
        new = new.replace("mid_block.attentions.0.", "mid.attn_1.").replace("conv_norm_out", "norm_out")
        new = new.replace("conv_shortcut", "nin_shortcut")
        if "attn_1" in new:
            for ours, theirs in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"),
                                 ("to_out.0", "proj_out")):
                new = new.replace(ours, theirs)
            if value.ndim == 2:
                value = value[:, :, None, None]
        found[new] = value
    return found


def open_clip_names(weights: Weights) -> Weights:
    """transformers' names of a text encoder -> OpenCLIP's: one matrix for query, key and value, a turned projection."""
    found: Weights = {}
    for name, value in weights.items():
        new = (name.replace("encoder.layers.", "transformer.resblocks.").replace("layer_norm1", "ln_1")
               .replace("layer_norm2", "ln_2").replace("mlp.fc1", "mlp.c_fc").replace("mlp.fc2", "mlp.c_proj")
               .replace("self_attn.", "attn.").replace("final_layer_norm", "ln_final")
               .replace("embeddings.token_embedding", "token_embedding")
               .replace("embeddings.position_embedding.weight", "positional_embedding"))
        if new == "text_projection.weight":
            new, value = "text_projection", value.T
        if match := re.search(r"(.*attn\.)([qkv])_proj\.(weight|bias)", new):
            if match[2] == "q":
                parts = [weights[name.replace("q_proj", f"{which}_proj")] for which in "qkv"]
                found[f"{match[1]}in_proj_{match[3]}"] = torch.cat(parts)
            continue
        found[new] = value
    return found


def tiny_decoder(path: Path, seed: int = 0) -> Path:
    """TAESD's decoder with random weights, in the layout its authors publish it in."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(seed)
    decoder = AutoencoderTiny().decoder.layers.state_dict()
    parts = {name: name.split(".", 1) for name in decoder}
    save_file({f"{int(number) + 1}.{rest}": decoder[name] for name, (number, rest) in parts.items()}, path)
    return path


def with_header(path: Path, header: Any, data: bytes = b"") -> Path:
    """A file with this header, whatever it says."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def ask(model: str, **changes: Any) -> Request:
    return Request(**{"prompt": PROMPT, "model": model, "width": 128, "height": 64, "steps": 4, "precision": "fp32",
                      "seed": 3, "sampler": "Euler", "guidance": 5.0, **changes})


def finish(engine: Engine, request: Request) -> Done:
    *_, done = engine.generate(request, Preview("none"))
    assert isinstance(done, Done)
    return done
