"""The shapes of Storybook's networks, and how they are made."""

from __future__ import annotations

import os
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextConfig, CLIPTextModel

from core.models.device import pick_precision

Network = Any  # diffusers and transformers leave too much untyped for a checker to follow

TEXT_WIDTH = 192
TEXT_LENGTH = 40  # tokens; the longest captions of the grammar have about 36 with their end marks
SCALE = 8  # pixels per latent cell
LATENT_NOISE = 0.1  # the autoencoder is trained to bear this much noise on unit-variance latents


def make_autoencoder() -> Network:
    """256x256x3 -> 32x32x4, about 0.6 M parameters; scaling_factor is set when the training ends."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=1,  # small groups would wipe flat colours: of a constant map little survives a norm
        sample_size=256,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def make_preview() -> Network:
    """A decoder (and encoder) on the same scaled latents, many times cheaper: it stops at half the pictures' side."""
    return AutoencoderTiny(
        encoder_block_out_channels=(16, 16, 16, 16),
        decoder_block_out_channels=(16, 16, 16),
        num_encoder_blocks=(0, 1, 1, 2),
        num_decoder_blocks=(4, 0, 0),
        latent_channels=4,
        scaling_factor=1.0,
    )


def make_unet() -> Network:
    """The denoiser. Attention at 8x8 cells, and once at 16x16 on the way down: on a CPU its backward costs the most."""
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 96, 192),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=(1, 3, 6),  # the number of heads, 32 channels each (diffusers' old name for it)
        norm_num_groups=4,
    )


def ready_to_learn(unet: Network, device: torch.device) -> Network:
    """The denoiser on its device, with the attention whose backward is the cheapest there."""
    if device.type == "cpu":
        unet.set_attn_processor(AttnProcessor())  # plain matmul
    return unet.to(device, memory_format=torch.channels_last)


def make_text_encoder(vocabulary_size: int, bos: int, eos: int) -> Network:
    """The text tower: 2 layers."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary_size,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=6,
            max_position_embeddings=TEXT_LENGTH,
            projection_dim=TEXT_WIDTH,
            bos_token_id=bos,
            eos_token_id=eos,
            pad_token_id=eos,
        )
    )


def make_scheduler() -> Network:
    """Stable Diffusion's noise schedule, v prediction (Salimans and Ho, arXiv:2202.00512)."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def pick_device(name: str) -> torch.device:
    """'auto' is the GPU if there is one."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device) -> torch.autocast:
    """bf16 where the processor computes in it. Without the cache of cast weights, which threads would share."""
    return torch.autocast(device.type, torch.bfloat16, pick_precision("auto", device) == "bf16", cache_enabled=False)


def workers(device: torch.device) -> int:
    """Threads that share a training batch: one on a GPU; on a CPU one per core, or STORYBOOK_THREADS.

    (OMP_NUM_THREADS is 1 on a CPU.) A thread more than cores keeps them busy when other programs want them too.
    """
    if device.type != "cpu":
        return 1
    return int(os.environ.get("STORYBOOK_THREADS", 0)) or os.cpu_count() or 1


def to_unit(pictures: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float in -1..1, channels last."""
    return pictures.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)
