"""The kept steps of a run: one safetensors file that is whole at every moment, read without torch.

All shapes are known before the run, so the file has its full size from the first step on (`core.recorder` writes it);
steps are filled in as they are taken, and `taken` is counted up last. Who reads it in mid-run, or after the power went,
finds so many whole steps. Nothing is stored that can be computed from the rest: x0 and the predicted noise are not.

Tensors, for N network calls, n steps, R regions:
    taken (1), checksum (n), has (n), timestep (N), sigma (N), seconds (n), evaluations (n),
    sample, output (N, B, C, h, w) float32; unguided (n, B, C, h, w) float32; regions (n, R, B, C, h, w) float16.
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

from core.errors import BadRequest, LoomError, TrajectoryError
from core.estimates import as_epsilon, clean_estimate
from core.models.catalogue import PREDICTIONS
from core.record import Leg, Outline, Parent
from core.request import Request, StepInfo

SUFFIX = ".safetensors"
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


class Trajectory:
    """The kept steps of a run, finished or not. x_t, x0 and the like: (B, C, h, w) float32, computed when asked for.

    check: read all steps and compare their checksums; without it each is compared when it is first read.
    Raises TrajectoryError for a file that is damaged, or no trajectory.
    """

    def __init__(self, path: Path | str, check: bool = True):
        self.path = Path(path)
        self._slots, about = _read_header(self.path)
        self.outline = _outline(self.path, about)
        self.calls = self.outline.calls
        self._first = [sum(self.calls[:k]) for k in range(len(self.calls))]  # number of each step's first call
        self._sound: set[int] = set()  # steps whose checksum was compared
        _check_shapes(self.path, self._slots, self.outline)
        self.refresh()
        if check:
            for k in range(self.taken):
                self._verify(k)

    @property
    def request(self) -> Request:
        """What the run, or the fork from its first own step on, was asked for; its precision resolved."""
        return self.outline.request

    @property
    def parent(self) -> Parent | None:
        return self.outline.parent

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return len(self.calls)

    @property
    def whole(self) -> bool:
        return self.taken == self.total

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, C, h, w)."""
        batch, channels, height, width = self._slots["sample"].shape[1:]
        return batch, channels, height, width

    def refresh(self) -> bool:
        """Look how far the run has come by now; whether it took steps since the last look."""
        before = getattr(self, "taken", 0)
        self.taken = int(self._column("taken")[0])
        if not 0 <= self.taken <= self.total:
            raise TrajectoryError(f"{self.path.name} is damaged (it counts {self.taken} steps of {self.total}): "
                                  "make the picture anew.")
        self._checksums, self._has = self._column("checksum"), self._column("has")
        timesteps, sigmas = self._column("timestep"), self._column("sigma")
        seconds, evaluations = self._column("seconds"), self._column("evaluations")
        self._sigmas = [float(s) for s in sigmas]
        self.steps = [StepInfo(k, self.total, round(float(timesteps[c]), 3), round(float(sigmas[c]), 5),
                               round(float(seconds[k]), 4), int(evaluations[k]))
                      for k, c in enumerate(self._first[:self.taken])]  # the taken ones
        return self.taken > before

    # -- a step's latents

    def x_t(self, k: int) -> np.ndarray:
        """What went into the network at step k, sqrt(a) x0 + sqrt(1 - a) noise. Raises BadRequest, TrajectoryError.

        A solver that asks twice a step shows its first question, here and below.
        """
        return self._row("sample", self._call(k))

    def output(self, k: int) -> np.ndarray:
        """The network's fused and guided answer at step k, in its own prediction type."""
        return self._row("output", self._call(k))

    def x0(self, k: int) -> np.ndarray:
        """What the network believed the clean latents to be at step k."""
        return self._clean(k, self.output(k))

    def noise(self, k: int) -> np.ndarray:
        """The noise the network saw in x_t at step k (its epsilon, whatever it predicts itself)."""
        if self.outline.prediction == "epsilon":
            return self.output(k)
        return as_epsilon(self.x_t(k), self.x0(k), self._sigma(k))

    def unguided_x0(self, k: int) -> np.ndarray | None:
        """x0 without the prompt: of the unconditional (or negative) pass alone. None at guidance 1."""
        self._call(k)
        if not self._has[k] & UNGUIDED:
            return None
        return self._clean(k, self._row("unguided", k))

    def regions_x0(self, k: int) -> dict[int, np.ndarray]:
        """What each visible region (0: the background) believed by itself; empty without regions. Kept as float16."""
        self._call(k)
        if not self._has[k] & REGIONS:
            return {}
        own = self._row("regions", k)
        return {name: own[i].astype(np.float32) for i, name in enumerate(self.outline.regions)}

    def recorded(self, k: int) -> Recorded:
        """All of step k as it was written, for going on from it."""
        first = self._call(k)
        calls = range(first, first + self.calls[k])
        return Recorded(np.stack([self._row("sample", c) for c in calls]),
                        np.stack([self._row("output", c) for c in calls]),
                        self._row("unguided", k) if self._has[k] & UNGUIDED else None, self.regions_x0(k),
                        float(self._column("seconds")[k]), self.steps[k].evaluations)

    def _clean(self, k: int, output: np.ndarray) -> np.ndarray:
        return clean_estimate(self.x_t(k), output, self._sigma(k), self.outline.prediction)

    def _sigma(self, k: int) -> float:
        return self._sigmas[self._first[k]]

    def _call(self, k: int) -> int:
        """The number of step k's first call, the step verified."""
        if not 0 <= k < self.taken:
            have = f"0 to {self.taken - 1}" if self.taken else "none yet"
            raise BadRequest(f"There is no step {k} in {self.path.name}: it holds {have}.")
        self._verify(k)
        return self._first[k]

    # -- the file

    def _verify(self, k: int) -> None:
        if k not in self._sound:
            rows = list(step_rows(k, self._first[k], self.calls[k], int(self._has[k])))
            if not all(name in self._slots for name, *_ in rows) or \
                    step_checksum(self._bytes(*where) for where in rows) != self._checksums[k]:
                raise TrajectoryError(f"{self.path.name} is damaged at step {k}: its checksum does not fit. "
                                      "Make the picture anew.")
            self._sound.add(k)

    def _row(self, name: str, index: int) -> np.ndarray:
        slot = self._slots[name]
        return np.frombuffer(self._bytes(name, index, 1), slot.dtype).reshape(slot.shape[1:]).copy()  # writable

    def _column(self, name: str) -> np.ndarray:
        slot = self._slots[name]
        return np.frombuffer(self._bytes(name, 0, slot.shape[0]), slot.dtype)

    def _bytes(self, name: str, row: int, rows: int) -> bytes:
        slot = self._slots[name]
        try:
            with self.path.open("rb") as file:
                file.seek(slot.begin + row * slot.row)
                found = file.read(rows * slot.row)
        except OSError as error:
            raise _unreadable(self.path, error) from None
        if len(found) != rows * slot.row:
            raise _truncated(self.path)
        return found


class Recorded(NamedTuple):
    """A step out of a file. samples, outputs: (calls, B, C, h, w) float32."""

    samples: np.ndarray
    outputs: np.ndarray
    unguided: np.ndarray | None
    regions_x0: dict[int, np.ndarray]
    seconds: float
    evaluations: int


def runs(outputs: Path) -> list[Trajectory]:
    """The kept runs below a folder, newest first; only their headers are read. Damaged files are passed over."""
    found = []
    for path in Path(outputs).glob("**/*" + SUFFIX):
        try:
            found.append((path.stat().st_mtime, str(path), Trajectory(path, check=False)))
        except (LoomError, OSError):
            continue
    return [run for *_, run in sorted(found, key=lambda entry: entry[:2], reverse=True)]


def unfinished(outputs: Path) -> list[Trajectory]:
    """The kept runs that were stopped, killed, or are still going on, newest first."""
    return [run for run in runs(outputs) if not run.whole]


# -- the format, for reader and writer


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


def _read_header(path: Path) -> tuple[dict[str, Slot], dict[str, str]]:
    """Where each tensor lies, and the metadata. Nothing the file says is believed unseen."""
    strange = TrajectoryError(f"{path.name} is not a trajectory: choose a file that --trajectory or the studio wrote.")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= length <= MAX_HEADER:
                raise strange
            if 8 + length > size:
                raise _truncated(path)
            entries = json.loads(file.read(length))
        about = entries.pop("__metadata__")
        if about["format"] != FORMAT:
            raise strange
    except OSError as error:
        raise _unreadable(path, error) from None
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
        raise _truncated(path) if place > size else damaged
    return slots, about


def _outline(path: Path, about: dict[str, str]) -> Outline:
    """The metadata as what was written. Raises TrajectoryError."""
    try:
        values = {name: json.loads(about[name])
                  for name in ("request", "model", "device", "prediction", "legs", "regions", "guided", "parent")}
        outline = Outline(Request.parse(values["request"]), str(values["model"]), str(values["device"]),
                          values["prediction"], tuple(Leg.parse(leg) for leg in values["legs"]),
                          tuple(int(k) for k in values["regions"]), bool(values["guided"]),
                          Parent(**values["parent"]) if values["parent"] else None)
        if outline.prediction not in PREDICTIONS or not outline.calls:
            raise ValueError
    except LoomError as error:
        raise TrajectoryError(f"{path.name} holds a run that cannot be made here: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise TrajectoryError(f"{path.name} is damaged (its description cannot be read): "
                              "make the picture anew.") from None
    return outline


def _check_shapes(path: Path, slots: dict[str, Slot], outline: Outline) -> None:
    """The tensors must be those of the outline."""
    shape = slots["sample"].shape[1:] if "sample" in slots else ()
    wanted = plan(outline, shape) if len(shape) == 4 else {}
    if {name: (slot.dtype, slot.shape) for name, slot in slots.items()} != \
            {name: (DTYPES[dtype], size) for name, (dtype, size) in wanted.items()} or \
            not wanted or shape[0] != outline.request.batch:
        raise TrajectoryError(f"{path.name} is damaged (its tensors are not those of its run): make the picture anew.")


def _truncated(path: Path) -> TrajectoryError:
    return TrajectoryError(f"{path.name} is cut off: copy it anew, or make the picture anew.")


def _unreadable(path: Path, error: OSError) -> TrajectoryError:
    return TrajectoryError(f"{path.name} cannot be read ({error.strerror or type(error).__name__}): check the path, "
                           "or choose another run.")
