"""Stable Diffusion 1 and 2, and every model of their layout: Storybook is one.

The three parts of a latent diffusion model (Rombach et al. 2022, arXiv:2112.10752), each a field:
text encoder -> noise predictor in latent space -> decoder.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from core.conditioning import Conditioning
from core.errors import OutOfMemory
from core.models import needs, parts
from core.models.adapters import Adapters
from core.models.catalogue import ModelInfo
from core.models.device import DTYPES, free, free_memory, memory_errors
from core.models.thrift import Thrift, in_tiles
from core.models.vae import finite
from core.models.vectors import readers
from core.prompts.chunks import Learned
from core.prompts.encoder import PromptEncoder
from core.prompts.networks import Loras
from core.tuning import Tuning


@dataclass(eq=False)
class StableDiffusion:
    """A loaded model. Latents are scaled as samplers see them: unit variance, `scaling_factor` applied."""

    info: ModelInfo
    device: torch.device
    precision: str  # fp32, bf16 or fp16
    encode_prompt: Any  # part 1, a PromptEncoder: text -> (1, tokens, width), and more for SDXL
    unet: Any  # part 2: noise predictor
    vae: Any  # part 3: decoder
    tiny: Any | None  # a small decoder on the same latents, for previews
    training: dict[str, Any]  # scheduler_config.json: what a sampler must know of the training
    thrift: Thrift  # how it makes do with the memory
    knows_negative: ClassVar[bool] = False  # reads a prompt otherwise where it is the negative one
    _colours: Tensor | None = None

    @property
    def prediction(self) -> str:
        return str(self.training.get("prediction_type", "epsilon"))

    @property
    def latent_channels(self) -> int:
        return int(self.unet.config.in_channels)

    @property
    def bytes(self) -> int:
        """What its networks hold of the device's memory, but for the text encoders."""
        return parts.weight([self.unet, self.vae, self.tiny], self.device)

    @cached_property
    def adapters(self) -> Adapters:
        """The LoRAs that it can compute with."""
        return Adapters([self.unet, *self.encode_prompt.encoders], self.device)

    def adapt(self, loras: Loras) -> None:
        """From now on it computes with these LoRAs, of those that `adapters` fetched, and no others."""
        if loras or "adapters" in vars(self):
            self.adapters.use(loras)

    def learn(self, learned: Sequence[Learned]) -> None:
        """The textual inversions that prompts may name from now on."""
        encode = self.encode_prompt
        encode.learn(learned, *readers(learned, len(encode.encoders)))

    def read(self, text: str, clip_skip: int, loras: Loras, negative: bool = False) -> Conditioning:
        """`encode_prompt`, by text encoders with these LoRAs. negative: matters where the model `knows_negative`."""
        self.adapt(loras)
        return self.encode_prompt(text, clip_skip, self.adapters.texts_with(loras) if loras else ())

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        """(1, C, h, w) for a picture of that many pixels."""
        return (1, self.latent_channels, height // self.info.multiple, width // self.info.multiple)

    def predict(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Tensor:
        """One pass of the noise predictor: (n, C, h, w), scalar, (n, tokens, width) -> (n, C, h, w) float32.

        Raises OutOfMemory, upon which a smaller batch may do.
        """
        dtype, (height, width) = DTYPES[self.precision], latents.shape[-2:]
        pixels = f"{width * self.info.multiple}x{height * self.info.multiple} pixels"
        with memory_errors(pixels), self.thrift.moving:
            latents = latents.to(self.device, dtype, memory_format=torch.channels_last)
            return self.unet(latents, timestep, **self.asked(text, latents), return_dict=False)[0].float()

    def asked(self, text: Conditioning, latents: Tensor) -> dict[str, Any]:
        """What the U-Net is told beside latents and timestep."""
        assert isinstance(text, Tensor)
        return {"encoder_hidden_states": text.to(DTYPES[self.precision])}

    def encode(self, pictures: Tensor) -> Tensor:
        """The decoder's counterpart: (n, 3, H, W) in [-1, 1] -> (n, C, h, w) float32, the mean of what it believes."""
        with memory_errors("encoding a picture"), self.thrift.turn:
            found = finite(self, lambda vae, x: vae.encode(x).latent_dist.mean, pictures, self.info.name)
            return found * self.vae.config.scaling_factor

    def colour_latents(self) -> Tensor:
        """(20, C): latents of random constant colours, for bootstrapping; the same in every run."""
        if self._colours is None:
            side = 8 * self.info.multiple  # the middle cell is far enough from the border
            colours = torch.rand(20, 3, 1, 1, generator=torch.Generator("cpu").manual_seed(0)) * 2 - 1
            self._colours = self.encode(colours.expand(20, 3, side, side))[:, :, 4, 4]
        return self._colours

    def decode(self, latents: Tensor) -> Tensor:
        """The decoder: (n, C, h, w) -> (n, 3, H, W) float32 in [-1, 1]."""
        size = latents.shape[-2], latents.shape[-1]
        if self.thrift.tiling == "auto" and self.thrift.tile(*size) is None:
            height, width = (side * self.info.multiple for side in size)
            if needs.decode(self.info, width, height, self.precision) > free_memory(self.device):
                self.thrift.shrink(*size)
        while True:
            try:
                with memory_errors("decoding the picture"), self.thrift.turn:
                    return in_tiles(self._decode, latents / self.vae.config.scaling_factor,
                                    self.thrift.tile(*size)).clamp(-1, 1)
            except OutOfMemory:
                if not (self.thrift.shrink(*size) or self.thrift.retreat()):
                    raise
            free()  # only now that nothing holds what the attempt had made

    def _decode(self, scaled: Tensor) -> Tensor:
        return finite(self, lambda vae, x: vae.decode(x, return_dict=False)[0], scaled, self.info.name)


@dataclass(eq=False)
class Consistency(StableDiffusion):
    """A latent consistency model (Luo et al. 2023, arXiv:2310.04378) that is told the guidance it shall imitate."""

    IMITATED = 8.0  # as the model card of SimianLuo/LCM_Dreamshaper_v7 asks for it; the form's guidance is left at 1

    def asked(self, text: Conditioning, latents: Tensor) -> dict[str, Any]:
        half = self.unet.config.time_cond_proj_dim // 2
        waves = 1000 * (self.IMITATED - 1) * torch.exp(torch.arange(half) * (-math.log(10_000) / (half - 1)))
        scale = torch.cat([waves.sin(), waves.cos()]).to(latents.device, latents.dtype)
        return super().asked(text, latents) | {"timestep_cond": scale.repeat(len(latents), 1)}


def load(info: ModelInfo, device: torch.device, precision: str, tuning: Tuning, offload: str) -> StableDiffusion:
    """Reads a diffusers folder or a single file. Raises ModelError for what is missing or broken, OutOfMemory."""
    found = parts.load(info, device, precision, tuning, offload)
    kind = Consistency if found.unet.config.time_cond_proj_dim else StableDiffusion
    return kind(info, device, precision, PromptEncoder(found.tokenizers[0], found.texts[0]), found.unet, found.vae,
                found.tiny, found.training, found.thrift(device, tuning, offload))
