"""What a GPU is for: a network of Stable Diffusion 1.5's size, with random weights, made here and thrown away."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from core.bench.measure import Bench, Row
from core.bench.previews import through_the_queue
from core.engine import Engine
from core.models.catalogue import Catalogue

NAME = "full-size"


def full_size_previews(bench: Bench) -> Iterator[Row]:
    """Every step of a 512x512 run decoded by the full decoder / no preview. Nothing where there is no GPU: a processor
    takes minutes for one such run."""
    if bench.engine.device.type == "cuda":
        yield from on_full_size(bench)


def on_full_size(bench: Bench, **smaller: Any) -> Iterator[Row]:
    """smaller: sizes as in `write_checkpoint`, for a test."""
    with tempfile.TemporaryDirectory() as folder:
        words = bench.engine.catalogue.get(bench.request.model).path
        write_checkpoint(Path(folder) / NAME, Path(words) / "tokenizer", **smaller)
        catalogue = Catalogue(folder)
        info = catalogue.get(NAME)
        engine = Engine(catalogue, bench.engine.device.type)
        request = bench.request.replace(model=NAME, width=info.width, height=info.height)
        yield from through_the_queue(Bench(engine, request, bench.rounds), {"linear": 1.01, "auto": 1.05, "vae": 1.10},
                                     f"{info.width}x{info.height}, Stable Diffusion 1.5's size: preview")


def write_checkpoint(folder: Path, tokenizer: Path, widths: Sequence[int] = (),
                     decoder: Sequence[int] = (128, 256, 512, 512), texts: Sequence[int] = (), side: int = 0,
                     family: str = "sd") -> None:
    """A diffusers folder of Stable Diffusion 1.5's or XL's layout in float16, any weights. side: latent cells.

    Source of the sizes: Rombach et al. 2022, arXiv:2112.10752, Podell et al. 2023, arXiv:2307.01952, and the
    configurations published with version 1.5 and XL.
    """
    words, large = CLIPTokenizer.from_pretrained(tokenizer), family == "sdxl"
    widths = tuple(widths or ((320, 640, 1280) if large else (320, 640, 1280, 1280)))
    texts, side = texts or ((768, 1280) if large else (768,)), side or (128 if large else 64)
    common: dict[str, Any] = {"vocab_size": len(words), "max_position_embeddings": words.model_max_length,
                              "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id,
                              "pad_token_id": words.pad_token_id}
    encoders = [CLIPTextConfig(**common, hidden_size=width, intermediate_size=4 * width, projection_dim=width,
                               num_hidden_layers=layers, num_attention_heads=max(1, width // 64))
                for width, layers in zip(texts, (12, 32), strict=False)]
    more: dict[str, Any] = {"attention_head_dim": 8}
    if large:
        more = {"attention_head_dim": [max(1, width // 64) for width in widths], "use_linear_projection": True,
                "transformer_layers_per_block": [1, 2, 10], "addition_embed_type": "text_time",
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": texts[-1] + 6 * 256}
    networks: dict[str, Any] = {"vae": AutoencoderKL, "unet": UNet2DConditionModel, "scheduler": DDIMScheduler}
    with torch.random.fork_rng(devices=[]):  # layers are initialised by the global generator, put back afterwards
        torch.random.default_generator.manual_seed(0)
        shared: dict[str, Any] = {
            "vae": networks["vae"](block_out_channels=tuple(decoder), layers_per_block=2, latent_channels=4,
                                   sample_size=8 * side, norm_num_groups=min(32, decoder[0]),
                                   scaling_factor=0.13025 if large else 0.18215,
                                   down_block_types=("DownEncoderBlock2D",) * 4,
                                   up_block_types=("UpDecoderBlock2D",) * 4),
            "text_encoder": CLIPTextModel(encoders[0]), "tokenizer": words,
            "unet": networks["unet"](block_out_channels=widths, cross_attention_dim=sum(texts), sample_size=side,
                                     norm_num_groups=min(32, widths[0]), **more),
            "scheduler": networks["scheduler"](beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                               clip_sample=False, set_alpha_to_one=False, steps_offset=1)}
        for network in ("vae", "text_encoder", "unet"):
            shared[network].to(torch.float16)
        pipe: Any = StableDiffusionXLPipeline(
            **shared, text_encoder_2=CLIPTextModelWithProjection(encoders[1]).half(), tokenizer_2=words,
            add_watermarker=False) if large else StableDiffusionPipeline(
            **shared, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.save_pretrained(folder)
