"""The kept steps of a run: one safetensors file that is whole at every moment, read without torch.

All shapes are known before the run, so the file has its full size from the first step on (`core.recorder` writes it);
steps are filled in as they are taken, and `taken` is counted up last. Who reads it in mid-run, or after the run was
killed, finds so many whole steps. Nothing is stored that can be computed from the rest, such as x0.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core.errors import BadRequest, LoomError, TrajectoryError
from core.estimates import as_epsilon, clean_estimate
from core.history.scan import TRASH
from core.owners import PEOPLE, whose
from core.record import Parent
from core.request import Request, StepInfo
from core.trajectoryfile import (
    REGIONS,
    UNGUIDED,
    check_shapes,
    read_header,
    read_outline,
    step_checksum,
    step_rows,
    truncated,
    unreadable,
)

SUFFIX = ".safetensors"
SOURCES = ("x0", "xt")


class Trajectory:
    """The kept steps of a run, finished or not. x_t, x0 and the like: (B, C, h, w) float32, computed when asked for.

    check: read all steps and compare their checksums; without it each is compared when it is first read.
    Raises TrajectoryError for a file that is damaged, or no trajectory.
    """

    def __init__(self, path: Path | str, check: bool = True):
        self.path = Path(path)
        self._slots, about = read_header(self.path)
        self.outline = read_outline(self.path, about)
        self.calls = self.outline.calls
        self._first = [sum(self.calls[:k]) for k in range(len(self.calls))]  # number of each step's first call
        self._sound: set[int] = set()  # steps whose checksum was compared
        check_shapes(self.path, self._slots, self.outline)
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

    def latents(self, k: int, source: str) -> np.ndarray:
        """x0 or x_t, by their names. Raises BadRequest for another one."""
        if source not in SOURCES:
            raise BadRequest(f"No source named {str(source)[:40]!r}: choose x0 (what the network believed) or xt "
                             "(what it saw).")
        return self.x0(k) if source == "x0" else self.x_t(k)

    def sigma(self, k: int) -> float:
        """sqrt(1 - a) / sqrt(a) of x_t at step k, in full precision."""
        self._call(k)
        return self._sigma(k)

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
            raise unreadable(self.path, error) from None
        if len(found) != rows * slot.row:
            raise truncated(self.path)
        return found


class Recorded(NamedTuple):
    """A step out of a file. samples, outputs: (calls, B, C, h, w) float32."""

    samples: np.ndarray
    outputs: np.ndarray
    unguided: np.ndarray | None
    regions_x0: dict[int, np.ndarray]
    seconds: float
    evaluations: int


@dataclass(frozen=True, eq=False)
class Past:
    """The first steps of a kept run, to go on from: to resume it, or to fork it with changes.

    From step `steps` on everything is as the changed request says. What a fork from step 0 has of its parent is the
    request alone.
    """

    run: Trajectory
    steps: int
    changes: Mapping[str, Any] | None = None  # None: resume; else fields of the request with their new values

    @classmethod
    def resume(cls, run: Trajectory) -> Past:
        return cls(run, run.taken)

    @classmethod
    def fork(cls, run: Trajectory, at: int, changes: Mapping[str, Any]) -> Past:
        """Raises BadRequest for a step that is not there, and for a change that cannot be made in mid-run."""
        last = min(run.taken, run.total - 1)
        if not 0 <= at <= last:
            raise BadRequest(f"{run.path.name} cannot be forked at step {at}: it holds {run.taken} of {run.total} "
                             f"steps, choose from 0 to {last}.")
        values = run.outline.changed(changes).to_dict()
        return cls(run, at, {name: values[name] for name in changes})

    @property
    def request(self) -> Request:
        return self.run.request if self.changes is None else self.run.outline.changed(self.changes)


def picture_path(run: Trajectory, k: int, word: str = "") -> Path:
    """Where picture k of a run lies beside its trajectory."""
    stem = run.path.stem.removesuffix(f"-{run.request.seed}")
    return run.path.with_name(f"{stem}-{run.request.single(k).seed}{word}.png")


def runs(outputs: Path) -> list[Trajectory]:
    """The kept runs below a folder, newest first; only their headers are read. Damaged files are passed over, and so
    are those of people whose folders lie below."""
    found, folder = [], Path(outputs)
    for path in sorted(folder.glob("**/*" + SUFFIX), key=lambda path: (_age(path), str(path)), reverse=True):
        if path.is_relative_to(folder / PEOPLE) or path.is_relative_to(folder / TRASH):
            continue
        with contextlib.suppress(LoomError, OSError):
            found.append(Trajectory(path, check=False))
    return found


def unfinished(outputs: Path) -> list[Trajectory]:
    """The kept runs that were stopped, killed, or are still going on, newest first."""
    return [run for run in runs(outputs) if not run.whole]


def make_room(outputs: Path, limit: int, in_use: Collection[Path] = ()) -> None:
    """Delete the oldest trajectories below a folder until all of them take no more than `limit` bytes on disk.

    Never those in use, and never a file that is not a trajectory, a picture least of all.
    """
    kept = sorted(Path(outputs).glob("**/*" + SUFFIX), key=lambda path: (_age(path), str(path)))
    total = sum(_on_disk(path) for path in kept)
    for path in kept:
        if total <= limit:
            return
        with contextlib.suppress(LoomError, OSError):
            if path not in in_use and Trajectory(path, check=False):
                size = _on_disk(path)
                path.unlink()
                total -= size


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _on_disk(path: Path) -> int:
    """Bytes. A run that was stopped takes less than the size of its file."""
    try:
        found = path.stat()
    except OSError:
        return 0
    blocks = getattr(found, "st_blocks", None)
    return found.st_size if blocks is None else min(found.st_size, 512 * blocks)


def inside(folder: Path, name: str) -> Path:
    """The trajectory of that name or path, which must lie in a folder. Raises BadRequest for any other."""
    folder = Path(folder).resolve()
    try:
        path = (folder / name).resolve()
        if path.is_relative_to(folder) and not whose(path, folder) and path.suffix == SUFFIX and path.is_file():
            return path
    except (OSError, ValueError, TypeError, RuntimeError):
        pass
    raise BadRequest(f"There is no trajectory {str(name)[:80]!r} in the outputs folder: choose one that is there.")


def other_weights(what: str, model: str) -> TrajectoryError:
    return TrajectoryError(f"{what} was made with other weights than those of {model[:80]} here: put the model it was "
                           "made with in its place.")
