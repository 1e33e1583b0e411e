"""How a loaded model makes do with the memory: tiles for the decoder, networks that wait elsewhere, and what was done
about a want of it, in words for people.
"""

from __future__ import annotations

import contextlib
import copy
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import cpu_offload, cpu_offload_with_hook
from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module
from torch import Tensor

from core.models.device import free
from core.models.needs import TILES

_OVERLAP = 0.25  # of a tile's side, shared with its neighbour
_NEXT = {"none": "model", "model": "sequential"}
_SAYS = {"model": "The memory of the device did not suffice: networks that wait now lie in the machine's memory, which "
                  "is slower.",
         "sequential": "The memory of the device did not suffice: every layer now lies in the machine's memory until "
                       "its turn comes, which is much slower."}


class Thrift:
    """One for each loaded model.

    offload: none, model or sequential. tiling: auto, on or off. further: whether it may be offloaded further when the
    memory ends. notes: what was done about that, until somebody takes them.
    """

    def __init__(self, device: torch.device, unet: Any, others: Sequence[Any], offload: str = "none",
                 tiling: str = "auto", further: Sequence[str] = ()):
        self.device, self.unet, self.others = device, unet, list(others)  # others: text encoders, then the VAE or None
        self.offload, self.tiling, self.further = offload, tiling, further
        self._owner = threading.get_ident()
        self.turn = threading.RLock()  # held while networks are used that may be moved, and while they are
        self._at_once: int | None = None  # latent cells that can be decoded at once, as far as is known
        self._notes: dict[str, None] = {}
        if offload != "none":
            self._place()

    @property
    def moving(self) -> contextlib.AbstractContextManager[Any]:
        """For a network's pass: the turn, if networks are moved; else nothing, so that previews go on beside it."""
        return self.turn if self.offload != "none" else contextlib.nullcontext()

    def note(self, text: str) -> None:
        self._notes[text] = None

    def take_notes(self) -> list[str]:
        """Each once."""
        notes, self._notes = list(self._notes), {}
        return notes

    # -- the decoder's tiles

    def tile(self, rows: int, columns: int) -> int | None:
        """Side of the tiles, in latent cells, in which latents of that size are decoded; None: at once."""
        if self.tiling == "on" and max(rows, columns) > TILES[0] and self._at_once is None:
            return TILES[0]
        if self._at_once is None or rows * columns <= self._at_once:
            return None
        return next((side for side in TILES if side * side <= self._at_once), TILES[-1])

    def shrink(self, rows: int, columns: int) -> bool:
        """Smaller tiles from now on for latents of that size; False when they are at their smallest, or unwanted."""
        now = self.tile(rows, columns)
        cells = now * now if now else rows * columns
        if self.tiling == "off" or cells <= TILES[-1] ** 2:
            return False
        self._at_once = cells - 1
        self.note("The memory did not suffice to decode the picture at once: it was decoded in tiles.")
        return True

    # -- where networks lie

    def retreat(self) -> bool:
        """Offload further, in mid-run; False when there is nothing left to try, or for another thread than the model's
        own, which may be in the middle of a pass."""
        then = _NEXT.get(self.offload, "")
        if then not in self.further or threading.get_ident() != self._owner:
            return False
        with self.turn:
            self.offload = then
            self.note(_SAYS[then])
            self._place()
        free()
        return True

    def upcast(self, vae: Any) -> Any:
        """The VAE in float32, in the same place."""
        with self.turn:
            remove_hook_from_module(vae, recurse=True)
            self.others[-1] = copy.deepcopy(vae).float()
            if self.offload != "none":
                self._place()
            return self.others[-1]

    def _place(self) -> None:
        """Hooks that bring each network, or each layer, to the device when it is asked."""
        for network in filter(None, (*self.others, self.unet)):
            remove_hook_from_module(network, recurse=True)
        *texts, vae = self.others
        before, hooks = None, []
        for network in texts:
            _, before = cpu_offload_with_hook(network, self.device, before)
            hooks.append(before)
        if self.offload == "model":
            _, before = cpu_offload_with_hook(self.unet, self.device, before)
            if vae is not None:
                cpu_offload_with_hook(vae, self.device, before)
            return
        for block in self.unet.modules():
            block._compiled_call_impl = None  # what was compiled knows its weights at their place
        for network in filter(None, (self.unet, vae)):
            cpu_offload(network.to("cpu"), self.device)
            add_hook_to_module(network, _After(hooks), append=True)


class _After(ModelHook):
    """Sends other networks away before this one's turn."""

    def __init__(self, hooks: Sequence[Any]):
        self.hooks = hooks

    def pre_forward(self, module: Any, *args: Any, **options: Any) -> tuple[Any, Any]:
        for hook in self.hooks:
            hook.offload()
        return args, options


def in_tiles(decode: Callable[[Tensor], Tensor], latents: Tensor, tile: int | None) -> Tensor:
    """A decoder's picture, made of tiles that overlap and fade into one another. tile: side in cells; None: at once.

    (n, C, h, w) -> (n, 3, f h, f w). Each tile is normalised by itself, so that it differs a little from the picture
    decoded at once: by how much, tests/test_thrift.py says. The last tile ends where the picture does.
    """
    if tile is None or max(latents.shape[-2:]) <= tile:
        return decode(latents)
    total = weight = torch.empty(0)
    places = [_starts(side, tile) for side in latents.shape[-2:]]
    for row in places[0]:
        for column in places[1]:
            part = decode(latents[..., row:row + tile, column:column + tile])
            factor = part.shape[-1] // min(tile, latents.shape[-1])
            if not len(total):
                shape = (*part.shape[:-2], *(side * factor for side in latents.shape[-2:]))
                total, weight = part.new_zeros(shape), part.new_zeros(1, 1, *shape[-2:])
            share = _fade(part.shape[-2], factor, tile, part)[:, None] * _fade(part.shape[-1], factor, tile, part)
            where = (..., slice(factor * row, factor * row + part.shape[-2]),
                     slice(factor * column, factor * column + part.shape[-1]))
            total[where] += share * part
            weight[where] += share
    return total / weight


def _starts(side: int, tile: int) -> list[int]:
    """Where the tiles begin: evenly, with at least the overlap between neighbours."""
    if side <= tile:
        return [0]
    count = -(-(side - tile) // int(tile * (1 - _OVERLAP))) + 1
    return [round(k * (side - tile) / (count - 1)) for k in range(count)]


def _fade(pixels: int, factor: int, tile: int, like: Tensor) -> Tensor:
    """(pixels): a tile's share, rising over the overlap and falling in the same way; never quite 0."""
    ramp = torch.arange(1, pixels + 1, device=like.device, dtype=like.dtype) / (factor * tile * _OVERLAP)
    return torch.minimum(ramp, ramp.flip(0)).clamp(max=1)
