"""How an engine keeps and runs a model's networks: memory and speed. Not part of a Request, as the device is not: the
picture is the same but for rounding, which `storage` makes coarse enough to see in details. No torch.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields

from core.errors import StartError

STORAGES = ("full", "fp8", "int8")
OFFLOADS = ("auto", "none", "model", "sequential")
ATTENTIONS = ("auto", "sdpa", "xformers")
TILINGS = ("auto", "on", "off")


@dataclass(frozen=True)
class Tuning:
    """Raises StartError for what does not go together; what the device cannot do, the engine says."""

    storage: str = "full"  # how the noise predictor's weights lie in memory: in the precision of the computation, or
    # in 8 bits: fp8 for all but norms and the first and last layers, int8 for linear layers
    offload: str = "auto"  # GPU: networks that wait lie in the machine's memory ("model"), or every layer does
    # ("sequential"). auto: none, until the memory does not suffice
    attention: str = "auto"  # torch's own (sdpa), or xformers; auto: the faster one, where xformers is installed
    vae_tiling: str = "auto"  # decode in overlapping tiles; auto: when the memory does not suffice for all at once
    compile: bool = False  # the network's repeated blocks, by torch.compile: slow at the first step, then faster
    fuse_qkv: bool = False  # queries, keys and values in one multiplication

    def __post_init__(self) -> None:
        if self.offload == "sequential" and self.storage == "int8":
            raise StartError("int8 weights cannot be moved layer by layer: take --storage fp8 or --offload model.")
        if self.offload == "sequential" and self.compile:
            raise StartError("Compiled blocks cannot be moved layer by layer: leave out --compile or take --offload "
                             "model.")

    @classmethod
    def of(cls, options: argparse.Namespace) -> Tuning:
        """What `core.options.add_engine_options` asked for."""
        return cls(**{field.name: getattr(options, field.name) for field in fields(cls)})

    @property
    def words(self) -> str:
        """What was chosen otherwise than by default, for people: "fp8 weights, compiled"; may be empty."""
        said = [f"{self.storage} weights" if self.storage != "full" else "",
                {"model": "model offload", "sequential": "sequential offload"}.get(self.offload, ""),
                "VAE in tiles" if self.vae_tiling == "on" else "", "compiled" if self.compile else "",
                "fused projections" if self.fuse_qkv else ""]
        return ", ".join(filter(None, said))
