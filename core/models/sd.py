"""Stable Diffusion 1 and 2, and every model of their layout: Storybook is one.

The three parts of a latent diffusion model (Rombach et al. 2022, arXiv:2112.10752), each a field:
text encoder -> noise predictor in latent space -> decoder.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from core.errors import ModelError, OutOfMemory
from core.models.catalogue import ModelInfo, _json
from core.models.device import DTYPES, memory_errors
from core.prompts import PromptEncoder
from core.samplers import SAMPLERS
from core.samplers.build import build

log = logging.getLogger(__name__)
for _logging in (diffusers.utils.logging, transformers.utils.logging):  # their remarks are not for those who paint
    _logging.set_verbosity_error()
    _logging.disable_progress_bar()


@dataclass(eq=False)
class StableDiffusion:
    """A loaded model. Latents are scaled as samplers see them: unit variance, `scaling_factor` applied."""

    info: ModelInfo
    device: torch.device
    precision: str  # fp32, bf16 or fp16
    encode_prompt: PromptEncoder  # part 1: text -> (1, tokens, width)
    unet: Any  # part 2: noise predictor
    vae: Any  # part 3: decoder
    tiny: Any | None  # a small decoder on the same latents, for previews
    training: dict[str, Any]  # scheduler_config.json: what a sampler must know of the training
    _colours: Tensor | None = None

    @property
    def prediction(self) -> str:
        return str(self.training.get("prediction_type", "epsilon"))

    @property
    def latent_channels(self) -> int:
        return int(self.unet.config.in_channels)

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        """(1, C, h, w) for a picture of that many pixels."""
        return (1, self.latent_channels, height // self.info.multiple, width // self.info.multiple)

    def predict(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """One pass of the noise predictor: (n, C, h, w), scalar, (n, tokens, width) -> (n, C, h, w) float32.

        Raises OutOfMemory, upon which a smaller batch may do.
        """
        dtype, (height, width) = DTYPES[self.precision], latents.shape[-2:]
        with memory_errors(f"{width * self.info.multiple}x{height * self.info.multiple} pixels"):
            latents = latents.to(self.device, dtype, memory_format=torch.channels_last)
            return self.unet(latents, timestep, encoder_hidden_states=text.to(dtype), return_dict=False)[0].float()

    def encode(self, pictures: Tensor) -> Tensor:
        """The decoder's counterpart: (n, 3, H, W) in [-1, 1] -> (n, C, h, w) float32, the mean of what it believes."""
        with memory_errors("encoding a picture"):
            found = self.vae.encode(pictures.to(self.device, self.vae.dtype)).latent_dist.mean
            return found.float() * self.vae.config.scaling_factor

    def colour_latents(self) -> Tensor:
        """(20, C): latents of random constant colours, for bootstrapping; the same in every run."""
        if self._colours is None:
            side = 8 * self.info.multiple  # the middle cell is far enough from the border
            colours = torch.rand(20, 3, 1, 1, generator=torch.Generator("cpu").manual_seed(0)) * 2 - 1
            self._colours = self.encode(colours.expand(20, 3, side, side))[:, :, 4, 4]
        return self._colours

    def decode(self, latents: Tensor) -> Tensor:
        """The decoder: (n, C, h, w) -> (n, 3, H, W) float32 in [-1, 1]."""
        with memory_errors("decoding the picture"):
            scaled = (latents / self.vae.config.scaling_factor).to(self.device, self.vae.dtype)
            return self.vae.decode(scaled, return_dict=False)[0].float().clamp(-1, 1)


def load(info: ModelInfo, device: torch.device, precision: str) -> StableDiffusion:
    """Reads a diffusers folder. Raises ModelError for what is missing or broken, OutOfMemory."""
    folder, dtype = Path(info.path), DTYPES[precision]
    training = _json(folder, "scheduler/scheduler_config.json")
    try:
        with memory_errors(f"loading {info.name}"):
            build(SAMPLERS["DDIM"], "Uniform", 1, training, seed=0)  # fails on training nobody could sample from
            unet = _part(UNet2DConditionModel, folder / "unet", dtype)
            vae = _part(AutoencoderKL, folder / "vae", dtype)
            tiny = _part(AutoencoderTiny, folder / "preview", dtype) if info.tiny else None
            # On a CPU the text encoder stays in float32: it runs once per prompt, and everything hangs on it.
            text_dtype = torch.float32 if device.type == "cpu" else dtype
            text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=text_dtype,
                                                         use_safetensors=True, local_files_only=True)
            tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except OutOfMemory:
        raise
    except Exception as error:  # a broken folder may break any line of four libraries
        log.info("loading %s", folder, exc_info=True)
        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise ModelError(f"{info.name} could not be loaded ({why}): copy the model anew, or choose another.") from error
    for part in filter(None, (unet, vae, tiny, text_encoder)):
        part.requires_grad_(False).eval().to(device)
    for part in filter(None, (unet, vae, tiny)):
        part.to(memory_format=torch.channels_last)
    return StableDiffusion(info, device, precision, PromptEncoder(tokenizer, text_encoder), unet, vae, tiny,
                           training)


def _part(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A network with all of its weights: diffusers fills those that are missing with random numbers."""
    network, found = kind.from_pretrained(folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True,
                                          low_cpu_mem_usage=False, output_loading_info=True)
    if missing := found["missing_keys"]:
        raise ValueError(f"{folder.name} lacks {len(missing)} of its weights, {sorted(missing)[0]} for one")
    return network
