"""Writes a run's steps into a trajectory file as they are taken. See `core.trajectoryfile` for the format."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import numpy as np

from core.files import disk_errors
from core.record import Record
from core.request import Step
from core.trajectory import Trajectory
from core.trajectoryfile import REGIONS, UNGUIDED, Slot, header, step_checksum, step_rows

_LARGEST = float(np.finfo(np.float16).max)


class Recorder:
    """One file for one run. It comes to be with the first step, in its full size; the disk gives room as steps fill it.

    A file that is there is replaced. go_on: unless it holds the beginning of this very run, which is then gone on with.
    """

    def __init__(self, path: Path, go_on: bool = False):
        self.path, self._go_on = Path(path), go_on
        self.taken = 0
        self._file: int | None = None
        self._slots: dict[str, Slot] = {}
        self._calls: list[int] = []

    def add(self, step: Step) -> None:
        """Write a step, after it was taken. One that the file holds already stays. Raises OutputError."""
        assert step.record is not None, "only steps that can be kept"
        with disk_errors("steps of the run", self.path.parent):
            if self._file is None:
                self._open(step)
            if step.index >= self.taken:
                self._write(step, step.record())

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def drop(self) -> None:
        """Away with it: a trajectory that could not be written to its end helps nobody."""
        self.close()
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            pass  # it counts only whole steps, so what stays is sound

    @property
    def bytes_per_step(self) -> int:
        """The largest step's."""
        return sum(slot.row * (max(self._calls) if slot.shape[0] == sum(self._calls) else 1)
                   for name, slot in self._slots.items() if name != "taken")

    def _open(self, step: Step) -> None:
        assert step.record is not None
        outline = step.record().outline
        batch, channels, height, width = step.x_t.shape
        head, self._slots, size = header(outline, (batch, channels, height, width))
        self._calls = outline.calls
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not (self._go_on and self._goes_on(head)):
            draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
            try:
                with draft.open("wb") as file:
                    file.write(head)
                    file.truncate(size)
                os.replace(draft, self.path)
            finally:
                draft.unlink(missing_ok=True)
        self._file = os.open(self.path, os.O_RDWR | getattr(os, "O_BINARY", 0))

    def _goes_on(self, head: bytes) -> bool:
        """Whether the file there is of this very run; its whole steps then count as taken."""
        try:
            with self.path.open("rb") as file:
                if file.read(len(head)) != head:
                    return False
        except FileNotFoundError:
            return False
        self.taken = Trajectory(self.path).taken
        return True

    def _write(self, step: Step, record: Record) -> None:
        k, first, calls = step.index, sum(self._calls[:step.index]), self._calls[step.index]
        assert k == self.taken and len(record.samples) == calls, (k, self.taken, calls)
        has = 0
        rows: dict[str, np.ndarray] = {
            "timestep": np.asarray(record.timesteps), "sigma": np.asarray(record.sigmas), "sample": record.samples,
            "output": record.outputs, "seconds": np.asarray(step.seconds), "evaluations": np.asarray(step.evaluations)}
        if record.unguided is not None:
            rows["unguided"], has = record.unguided, has | UNGUIDED
        names = record.outline.regions
        if names and all(name in step.regions_x0 for name in names):
            own = np.stack([step.regions_x0[name] for name in names])
            rows["regions"], has = np.clip(own, -_LARGEST, _LARGEST), has | REGIONS
        rows["has"] = np.asarray(has)
        parts = {name: (row, np.ascontiguousarray(rows[name], self._slots[name].dtype).tobytes())
                 for name, row, _ in step_rows(k, first, calls, has)}
        for name, (row, data) in parts.items():
            self._put(name, row, data)
        self._put("checksum", k, step_checksum(data for _, data in parts.values()).to_bytes(4, "little"))
        self._put("taken", 0, (k + 1).to_bytes(8, "little"))  # last: until now the step was not there
        self.taken = k + 1

    def _put(self, name: str, row: int, data: bytes) -> None:
        assert self._file is not None
        slot, view = self._slots[name], memoryview(data)
        os.lseek(self._file, slot.begin + row * slot.row, os.SEEK_SET)
        while view:  # a disk that fills up may take a part
            view = view[os.write(self._file, view):]
