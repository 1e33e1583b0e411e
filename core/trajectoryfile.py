"""The format of a trajectory: a safetensors file whose shapes are known before the run. For its reader and its writer.

Tensors, for N network calls, n steps, R regions:
    taken (1), checksum (n), has (n), timestep (N), sigma (N), seconds (n), evaluations (n),
    sample, output (N, B, C, h, w) float32; unguided (n, B, C, h, w) float32; regions (n, R, B, C, h, w) float16.
Its metadata are the run's `Outline`. Format of the container: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core.errors import LoomError, TrajectoryError
from core.models.catalogue import PREDICTIONS
from core.record import Leg, Outline, Parent
from core.request import Request

FORMAT, VERSION = "latent-loom trajectory", "1"
UNGUIDED, REGIONS = 1, 2  # bits of `has`: what a step keeps beside its calls
MAX_HEADER = 64 * 2**20  # bytes; painted masks take most of it
DTYPES: dict[str, np.dtype[Any]] = {
    "I64": np.dtype("<i8"), "U32": np.dtype("<u4"), "U8": np.dtype("u1"), "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"), "F16": np.dtype("<f2")}


class Slot(NamedTuple):
    """Where a tensor lies in the file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int  # bytes from the file's beginning

    @property
    def row(self) -> int:
        """Bytes of one entry along the first axis."""
        return self.dtype.itemsize * math.prod(self.shape[1:])


def step_rows(k: int, first: int, calls: int, has: int) -> Iterator[tuple[str, int, int]]:
    """(tensor, row, rows) of everything that belongs to step k, in the order of its checksum."""
    for name in ("timestep", "sigma", "sample", "output"):
        yield name, first, calls
    if has & UNGUIDED:
        yield "unguided", k, 1
    if has & REGIONS:
        yield "regions", k, 1
    for name in ("has", "seconds", "evaluations"):
        yield name, k, 1


def step_checksum(parts: Iterator[bytes]) -> int:
    """CRC-32 over the parts, as in zip and PNG files."""
    total = 0
    for part in parts:
        total = zlib.crc32(part, total)
    return total


def plan(outline: Outline, shape: tuple[int, int, int, int]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (dtype, shape) of the file's tensors, in their order. shape: (B, C, h, w)."""
    steps, calls = len(outline.calls), sum(outline.calls)
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {
        "taken": ("I64", (1,)), "seconds": ("F64", (steps,)), "evaluations": ("I64", (steps,)),
        "timestep": ("F64", (calls,)), "sigma": ("F64", (calls,)),
        "sample": ("F32", (calls, *shape)), "output": ("F32", (calls, *shape))}
    if outline.guided:
        tensors["unguided"] = ("F32", (steps, *shape))
    if outline.regions:
        tensors["regions"] = ("F16", (steps, len(outline.regions), *shape))
    return tensors | {"checksum": ("U32", (steps,)), "has": ("U8", (steps,))}  # the odd sizes last: all is aligned


def header(outline: Outline, shape: tuple[int, int, int, int]) -> tuple[bytes, dict[str, Slot], int]:
    """(the file's first bytes, where each tensor lies, the file's size)."""
    values: dict[str, Any] = {
        "request": outline.request.to_dict(), "model": outline.model, "device": outline.device,
        "prediction": outline.prediction, "legs": outline.legs, "regions": outline.regions, "guided": outline.guided,
        "parent": asdict(outline.parent) if outline.parent else None}
    if outline.refiner:
        values["refiner"] = outline.refiner
    about = {name: json.dumps(value) for name, value in values.items()}
    about |= {"format": FORMAT, "version": VERSION, "checksum": str(_about_checksum(about))}
    entries: dict[str, Any] = {"__metadata__": about}
    slots, end = {}, 0
    for name, (dtype, size) in plan(outline, shape).items():
        slots[name] = Slot(DTYPES[dtype], size, end)
        begin, end = end, end + slots[name].row * size[0]
        entries[name] = {"dtype": dtype, "shape": size, "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    return (struct.pack("<Q", len(text)) + text,
            {name: slot._replace(begin=slot.begin + start) for name, slot in slots.items()}, start + end)


def _about_checksum(about: dict[str, str]) -> int:
    kept = {name: value for name, value in about.items() if name not in ("format", "version", "checksum")}
    return zlib.crc32(json.dumps(kept, sort_keys=True).encode())


def read_header(path: Path) -> tuple[dict[str, Slot], dict[str, str]]:
    """Where each tensor lies, and the metadata. Nothing the file says is believed unseen."""
    strange = TrajectoryError(f"{path.name} is not a trajectory: choose a file that --trajectory or the studio wrote.")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= MAX_HEADER:
                raise strange
            if 8 + length > size:
                raise truncated(path)
            entries = json.loads(file.read(length))
        about = entries.pop("__metadata__")
        if about["format"] != FORMAT:
            raise strange
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise strange from None
    if about.get("version") != VERSION:
        raise TrajectoryError(f"{path.name} is a trajectory of format {str(about.get('version'))[:20]!r}, this program "
                              f"reads {VERSION!r}: open it with the version that wrote it.")
    damaged = TrajectoryError(f"{path.name} is damaged (its header contradicts itself): make the picture anew.")
    slots, place = {}, 8 + length
    try:
        if about["checksum"] != str(_about_checksum(about)):
            raise damaged
        for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            slot = Slot(DTYPES[entry["dtype"]], tuple(entry["shape"]), begin)
            if begin != place or not all(type(side) is int and side > 0 for side in slot.shape) or \
                    end - begin != slot.row * slot.shape[0]:
                raise damaged
            slots[name], place = slot, end
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError):
        raise damaged from None
    if place != size:
        raise truncated(path) if place > size else damaged
    return slots, about


def read_outline(path: Path, about: dict[str, str]) -> Outline:
    """The metadata as what was written. Raises TrajectoryError."""
    try:
        values = {name: json.loads(about[name])
                  for name in ("request", "model", "device", "prediction", "legs", "regions", "guided", "parent")}
        outline = Outline(Request.parse(values["request"]), str(values["model"]), str(values["device"]),
                          values["prediction"], tuple(Leg.parse(leg) for leg in values["legs"]),
                          tuple(int(k) for k in values["regions"]), bool(values["guided"]),
                          Parent(**values["parent"]) if values["parent"] else None,
                          str(json.loads(about.get("refiner", '""'))))
        if outline.prediction not in PREDICTIONS or not outline.calls:
            raise ValueError
    except LoomError as error:
        raise TrajectoryError(f"{path.name} holds a run that cannot be made here: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise TrajectoryError(f"{path.name} is damaged (its description cannot be read): "
                              "make the picture anew.") from None
    return outline


def check_shapes(path: Path, slots: dict[str, Slot], outline: Outline) -> None:
    """The tensors must be those of the outline."""
    shape = slots["sample"].shape[1:] if "sample" in slots else ()
    wanted = plan(outline, shape) if len(shape) == 4 else {}
    if {name: (slot.dtype, slot.shape) for name, slot in slots.items()} != \
            {name: (DTYPES[dtype], size) for name, (dtype, size) in wanted.items()} or \
            not wanted or shape[0] != outline.request.batch:
        raise TrajectoryError(f"{path.name} is damaged (its tensors are not those of its run): make the picture anew.")


def truncated(path: Path) -> TrajectoryError:
    return TrajectoryError(f"{path.name} is cut off: copy it anew, or make the picture anew.")


def unreadable(path: Path, error: OSError) -> TrajectoryError:
    return TrajectoryError(f"{path.name} cannot be read ({error.strerror or type(error).__name__}): check the path, "
                           "or choose another run.")
