"""The header of a safetensors file, read and checked before anything of the file is mapped. No torch.

Layout: 8 bytes, the header's length, little-endian; the header, JSON; then the tensors' bytes without holes.
Source: github.com/huggingface/safetensors, README, "Format".
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core.errors import BadRequest, ModelError

LONGEST = 32 * 2**20  # bytes; SDXL's header has 0.3 MB, some with their training's notes have a few
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
        "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64}
PICKLED = (".ckpt", ".pt", ".pth", ".bin")
# what is found under the name of a checkpoint: how it begins, what it is, and the way out
_IMPOSTORS = (
    (b"PK\x03\x04", "is a pickled checkpoint under another name, which could run any code when it is opened: turn it "
                    "into one that cannot with `python -m core convert FILE`, or download the safetensors version"),
    (b"\x80", "is a pickled checkpoint under another name, which could run any code when it is opened: turn it into "
              "one that cannot with `python -m core convert FILE`, or download the safetensors version"),
    (b"version ht", "is a pointer of Git LFS, not the file itself: run `git lfs pull`, or download the file"),
    (b"<", "is a web page, not a model: log in where it comes from and download it anew"),
)


class Entry(NamedTuple):
    """One tensor of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int  # bytes from the beginning of the file
    end: int


@dataclass(frozen=True, eq=False)
class Header:
    """What a safetensors file says of its tensors."""

    path: Path
    tensors: Mapping[str, Entry]
    metadata: Mapping[str, str]

    def shape(self, name: str) -> tuple[int, ...]:
        """() for a tensor that is not there."""
        return self.tensors[name].shape if name in self.tensors else ()

    def numbers(self, name: str) -> np.ndarray:
        """One small tensor of floats, read by itself, as float32."""
        entry = self.tensors[name]
        with self.path.open("rb") as file:
            file.seek(entry.start)
            raw = file.read(entry.end - entry.start)
        if entry.dtype == "BF16":
            wide: np.ndarray = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
            return wide.view(np.float32).reshape(entry.shape)
        kind = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[entry.dtype]
        return np.frombuffer(raw, kind).astype(np.float32).reshape(entry.shape)


def read(path: Path) -> Header:
    """The checked header of a file. Raises ModelError, one line, for whatever is wrong with it."""
    try:
        stat = path.stat()
    except OSError as error:
        raise ModelError(f"{shown(path)} cannot be read ({error.strerror}): copy the file anew.") from None
    return _read(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _read(path: Path, size: int, changed: int) -> Header:
    try:
        with path.open("rb") as file:
            first = file.read(10)
            if size == 0:
                raise _broken(path, "is empty")
            for begin, what in _IMPOSTORS:
                if first.startswith(begin) and not _plausible(first, size):
                    raise ModelError(f"{shown(path)} {what.replace('FILE', shown(path))}.")
            length = int.from_bytes(first[:8], "little")
            if size < 10 or length > size - 8:
                raise _broken(path, "is cut off or no safetensors file: its header would be longer than the file")
            if length > LONGEST:
                raise _broken(path, f"has a header of {length / 2**20:,.0f} MiB, more than any model needs")
            file.seek(8)
            text = file.read(length)
    except OSError as error:
        raise ModelError(f"{shown(path)} cannot be read ({error.strerror}): copy the file anew.") from None
    try:
        values = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise _broken(path, "has a header that is no JSON") from None
    if not isinstance(values, dict):
        raise _broken(path, "has a header that lists no tensors")
    metadata = values.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _broken(path, "has notes in its header that are no text")
    start = 8 + length
    tensors = {name: _entry(path, name, value, start) for name, value in values.items()}
    _check_places(path, tensors, start, size)
    return Header(path, tensors, metadata)


def _plausible(first: bytes, size: int) -> bool:
    """Whether the first bytes could be a header's length, then `{`: a length may begin with any byte."""
    return first[8:9] in (b"{", b" ") and int.from_bytes(first[:8], "little") <= size - 8


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name stands there twice")
    return values


def _entry(path: Path, name: str, value: Any, start: int) -> Entry:
    try:
        dtype, shape, (begin, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
        numbers = (*shape, begin, end)
        if len(shape) > 8 or not all(type(number) is int and 0 <= number < 2**63 for number in numbers) or begin > end:
            raise ValueError
        bits = BITS.get(dtype)
    except (KeyError, TypeError, ValueError):
        raise _broken(path, f"describes {_name(name)} in a way that means nothing") from None
    if bits is None:
        raise ModelError(f"{shown(path)} holds numbers of the kind {str(dtype)[:20]!r}, which is not known here: take "
                         "a version in fp16, bf16 or fp32.")
    if math.prod(shape) * bits // 8 != end - begin:
        raise _broken(path, f"gives {_name(name)} another size than its shape has")
    return Entry(dtype, shape, start + begin, start + end)


def _check_places(path: Path, tensors: Mapping[str, Entry], start: int, size: int) -> None:
    """No overlap, no hole, nothing beyond the end of the file."""
    reached = start
    for name, entry in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if entry.start < reached:
            raise _broken(path, f"has tensors that overlap ({_name(name)})")
        if entry.start > reached:
            raise _broken(path, f"has a hole before {_name(name)}")
        reached = entry.end
        if reached > size:
            raise _broken(path, f"is cut off: {size / 2**20:,.1f} MiB of at least {reached / 2**20:,.1f}")
    if reached != size:
        raise _broken(path, "goes on behind its last tensor")


def _broken(path: Path, why: str) -> ModelError:
    return ModelError(f"{shown(path)} {why}: copy or download it anew.")


def shown(path: Path | str) -> str:
    """A path as a message can bear it: printable, its end if it is long."""
    text = str(path) if str(path).isprintable() else repr(str(path))
    return text if len(text) <= 160 else "..." + text[-150:]


def _name(tensor: str) -> str:
    text = tensor if tensor.isprintable() else ascii(tensor)
    return repr(text if len(text) <= 60 else text[:28] + "..." + text[-28:])


def refusal(path: Path) -> str:
    """Why a pickled checkpoint is not loaded, and what to do."""
    return (f"{shown(Path(path.name))} is a pickled checkpoint, which could run any code when it is opened: turn it "
            f"into one that cannot with `python -m core convert {shown(path)}`, or download the safetensors version.")


def leads_out(path: Path, folders: Iterable[Path]) -> bool:
    """Whether a path leads out of all these folders, by links or otherwise."""
    real = Path(os.path.realpath(path))
    return not any(real.is_relative_to(os.path.realpath(folder)) for folder in folders)


def hub_blobs(folder: Path) -> Path | None:
    """Where the files of a snapshot in Hugging Face's cache lie, models--OWNER--NAME/blobs; None for other folders."""
    real = Path(os.path.realpath(folder))
    place = next((one for one in (real, *real.parents) if one.name == "snapshots"), None)
    return place.parent / "blobs" if place and place.parent.name.startswith("models--") else None


def refuse_links(folder: Path, roots: Sequence[Path]) -> None:
    """Raises ModelError for a diffusers folder that leads out of these folders, or holds a file or a part that does.

    The snapshots of Hugging Face's cache are links to the blobs beside them: where a snapshot may lie, so may they.
    """
    if leads_out(folder, roots):
        there = Path(os.path.realpath(folder)).parent
        raise ModelError(f"{shown(folder)} is a link that leads out of the models folder: start with --also-models "
                         f"{shown(there)} for what lies there.")
    allowed = [*roots, *filter(None, [hub_blobs(folder)])]
    for path in (*folder.glob("*"), *folder.glob("*/*")):
        if leads_out(path, allowed):
            raise ModelError(f"{shown(path)} is a link that leads out of the models folder: put the file itself there, "
                             "or start with --also-models and the folder where it lies.")


def read_named(path: Path) -> Header:
    """`read`, of a file that a prompt names. Raises BadRequest, one line, which does not tell where the file lies."""
    if path.suffix.lower() in PICKLED:
        raise BadRequest(refusal(path).replace("pickled checkpoint", "pickled file"))
    try:
        return read(path)
    except ModelError as error:
        raise BadRequest(str(error).replace(shown(path), shown(path.name))) from None


def noted(text: str) -> dict[str, Any]:
    """The JSON object in a header's note; empty when the text is none."""
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
