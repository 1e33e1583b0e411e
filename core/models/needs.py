"""How much memory a model and a run need, before anything is loaded: from headers and known shapes. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from core.models import header, shapes
from core.models.catalogue import TEXTS, ModelInfo, weights_of
from core.models.header import BITS, Header
from core.models.kinds import KINDS, UNET, VAE

ITEM = {"fp32": 4, "bf16": 2, "fp16": 2}  # bytes of a number
CELLS_AT_ONCE = 8 * 64 * 64  # latent cells in one pass of the network, which is what the memory hangs on
# Most numbers that are alive at once in a pass, for each latent cell and channel of the first level. Measured by adding
# up the tensors of the published networks' passes (tests/test_needs.py); the rest is room for the kernels' work.
_PASS = {"sd": 1.25 * 26.1, "sdxl": 1.25 * 15.9, "refiner": 1.25 * 15.9}
# The same of the VAE's decoder, for each pixel and channel of its widest level: 6.0 counted in the same way. On a CPU
# convolutions need as much again: measured 6,110 bytes a pixel at 256x256, 4,310 at 512x512, with 128 channels in fp32.
_DECODE = 12
TILES = (64, 32)  # sides of the tiles that a picture is decoded in, in latent cells
_WIDTH = 320  # channels of the first level, where a header does not say
# Under fp8 norms stay in full precision, and the layers whose names begin so: the first, the last, the embeddings of
# time and size; as diffusers names them, and all of them as in the original layout.
FULL = ("conv_in", "conv_out", "time_embed", "add_embed")
_FULL = re.compile(rf"({'|'.join(FULL)}|input_blocks\.0\.|out\.|label_emb)|.*(norm|\.(in|out)_layers\.0\.)")


class Weights(NamedTuple):
    """Bytes of a model's networks, in memory."""

    unet: int
    vae: int  # with the small decoder of previews; 0 for a refiner, which borrows that of its model
    texts: int

    @property
    def largest(self) -> int:
        """What a GPU must hold when networks that wait lie elsewhere."""
        return max(self)


def weights(info: ModelInfo, precision: str, storage: str = "full", on_gpu: bool = False) -> Weights:
    """What loading takes. precision: fp32, bf16 or fp16. Raises ModelError for a broken file."""
    size = ITEM[precision]
    vae_size = 4 if info.family == "sdxl" and precision == "fp16" else size  # the rule of core.models.parts
    text_size = size if on_gpu else 4
    unet, vae, texts = 0, 0, 0
    for part, numbers, kept in _parts(info, storage):
        if part == "unet":
            unet += kept * size + (numbers - kept) * (1 if storage != "full" else size)
        elif part == "vae":
            vae += numbers * vae_size
        else:
            texts += numbers * text_size
    return Weights(unet, vae, texts)


def words(info: ModelInfo, precision: str = "", storage: str = "full", on_gpu: bool = False) -> str:
    """For people: what a model takes, and a run at its own size beside it; without a precision in two of them.

    Raises ModelError for a broken file.
    """
    def said(one: str) -> str:
        run = max(network(info, info.width, info.height, 2, one), decode(info, info.width, info.height, one))
        return f"{_size(sum(weights(info, one, storage, on_gpu)))} and {_size(run)} more to paint"

    size = f"{info.width}x{info.height}"
    if precision:
        return f"about {said(precision)} {size} in {precision}"
    return f"about {said('bf16')} {size} in bf16 ({said('fp32')} in fp32)"


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _parts(info: ModelInfo, storage: str) -> list[tuple[str, int, int]]:
    """(unet, vae or texts; numbers in it; those that 8 bits leave alone), once for each file and part."""
    path, found = Path(info.path), []
    if info.is_file:
        read = header.read(path)
        kind = next((kind for kind in KINDS.values() if kind.words == info.kind), None)
        own = () if info.vae or info.is_refiner else (VAE,)
        for part, names in (("unet", (UNET,)), ("vae", own), ("texts", kind.texts if kind else ())):
            found += [(part, *_count(read, name, storage)) for name in names]
    else:
        vae = () if info.is_refiner else ("preview",) if info.vae else ("vae", "preview")
        for part, folders in (("unet", ("unet",)), ("vae", vae), ("texts", TEXTS[info.family])):
            found += [(part, *_count(header.read(file), "", storage)) for folder in folders
                      for file in weights_of(path / folder)]
    for other in filter(None, (info.vae, info.small_decoder)):
        files = [Path(other)] if Path(other).is_file() else weights_of(Path(other))
        found += [("vae", shapes.numbers(header.read(file)), 0) for file in files]
    return found


def _count(read: Header, prefix: str, storage: str) -> tuple[int, int]:
    """Numbers, and those of them that 8 bits leave alone: under int8 all but matrices."""
    total = kept = 0
    for name, entry in read.tensors.items():
        if name.startswith(prefix):
            numbers = (entry.end - entry.start) * 8 // BITS[entry.dtype]
            total += numbers
            if len(entry.shape) != 2 if storage == "int8" else _FULL.match(name.removeprefix(prefix)):
                kept += numbers
    return total, kept


def loras(files: Iterable[Path], precision: str) -> int:
    """Bytes of LoRAs in memory, beside the weights of their model. Raises ModelError for a broken file."""
    return sum(shapes.numbers(header.read(file)) * ITEM[precision] for file in files)


def network(info: ModelInfo, width: int, height: int, passes: int, precision: str) -> int:
    """Bytes of a step beside the weights, with so many passes to make. width, height: pixels of one of them."""
    cells = (width // info.multiple) * (height // info.multiple)
    together = cells * max(1, min(passes, CELLS_AT_ONCE // max(cells, 1)))
    return int(together * _width(info) * _PASS[info.family] * ITEM[precision])


def _width(info: ModelInfo) -> int:
    """Channels of the U-Net's first level."""
    path = Path(info.path)
    for file in [path] if info.is_file else weights_of(path / "unet"):
        read = header.read(file)
        if shape := read.shape(UNET + "input_blocks.0.0.weight") or read.shape("conv_in.weight"):
            return shape[0]
    return _WIDTH


def decode(info: ModelInfo, width: int, height: int, precision: str = "fp32", tile: int | None = None) -> int:
    """Bytes of decoding one picture of so many pixels, beside the weights. tile: side of the tiles, in latent cells."""
    at_once = width * height if tile is None else min(width, tile * info.multiple) * min(height, tile * info.multiple)
    size = 4 if info.family == "sdxl" and precision == "fp16" else ITEM[precision]
    whole = 2 * 4 * 3 * width * height  # the picture in float32, and once more while it is put together
    return at_once * info.decoder_channels * _DECODE * size + whole
