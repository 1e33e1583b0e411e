"""One run in the queue, and what the queue needs of an engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from core.errors import LoomError
from core.previewer import Previewer, Show
from core.request import Done, Preview, Request, Step, StepInfo
from core.trajectory import Past

State = Literal["waiting", "running", "paused", "done", "stopped", "failed", "discarded"]


class Runner(Protocol):
    """What Jobs needs of an engine."""

    @property
    def device(self) -> object: ...

    @property
    def precision(self) -> str: ...  # what "auto" is on this device, or that of the model in memory

    @property
    def tuned(self) -> str: ...  # how memory and speed were chosen otherwise than by default, in words

    def load(self, name: str) -> object: ...

    def generate(self, request: Request, preview: Preview, cancel: threading.Event,
                 past: Past | None = None) -> Iterator[Step | Done]: ...

    def shows(self, request: Request, decoder: str) -> Mapping[str, Show]: ...

    def decode(self, latents: np.ndarray, request: Request, decoder: str,
               weights: str | None = None) -> tuple[np.ndarray, ...]: ...

    def scores(self, done: Done, request: Request) -> list[dict[int, float]]: ...


@dataclass(eq=False)
class Job:
    """One run, from waiting to its end. Only its worker writes to it; everybody may read."""

    id: str
    request: Request
    preview: Preview
    frames_dir: Path
    owner: str = ""
    created: float = field(default_factory=time.time)
    state: State = "waiting"
    steps: list[StepInfo] = field(default_factory=list)
    results: list[Path] = field(default_factory=list)  # PNG files, one per picture
    scores: list[dict[int, float]] = field(default_factory=list)  # of each picture: region -> 0..1; see Engine.scores
    error: LoomError | None = None
    seconds: float = 0.0  # of the whole run, when it is over
    loading: bool = False  # running, and the model is on its way
    version: int = 0  # grows with every change
    own_x0: list[Mapping[int, np.ndarray]] = field(default_factory=list)  # of each step: region -> (B, C, h, w)
    cancel: threading.Event = field(default_factory=threading.Event)
    past: Past | None = None  # what it resumes or forks
    trajectory: Path | None = None  # the file of its kept steps, from the first step on; it can be read while it runs
    previewer: Previewer | None = None  # from the start of the run, if previews are on
    previewing: bool = False  # previews may still come, for a while after the end too
    without_frame: set[int] = field(default_factory=set)  # steps that were taken and have no preview (yet)
    note: str = ""  # one line on what went wrong though the run went on
    latents: np.ndarray | None = None  # (B, C, h, w), the final ones, while the run is one of the newest, or held
    held: bool = False  # somebody still shows its frames: not to be forgotten
    lasting: bool = False  # in the journal: the studio's end is not its own
    word: str = ""  # in the names of its pictures, where others have the plain names already
    resting: bool = False  # asked to let go of the device after the step at hand
    rested: bool = False  # it let go of the device once, or the studio ended under it: to be gone on with
    unwanted: bool = False  # to be thrown away
    unsaved: bool = False  # its pictures lie among the previews, for the outputs folder refused them

    @property
    def over(self) -> bool:
        return self.state in ("done", "stopped", "failed", "discarded")

    @property
    def settled(self) -> bool:
        """Over, and nothing about it will change."""
        return self.over and not self.previewing

    @property
    def total(self) -> int:
        """Steps of the whole run; a fork that takes another sampler may have more or fewer than it was asked for."""
        return self.steps[-1].total if self.steps else self.past.run.total if self.past else self.request.steps

    @property
    def resumes(self) -> bool:
        return self.past is not None and self.past.changes is None

    @property
    def forked(self) -> tuple[str, int] | None:
        """(the parent's trajectory, the first step of its own) of a fork, also when it is one that was resumed."""
        if self.past is None:
            return None
        if self.past.changes is None:
            parent = self.past.run.parent
            return (parent.file, parent.step) if parent else None
        return self.past.run.path.name, self.past.steps

    @property
    def pace(self) -> float | None:
        """Seconds per step so far; None before the second step."""
        if len(self.steps) < 2:
            return None
        first, last = self.steps[0], self.steps[-1]
        return (last.seconds - first.seconds) / (last.index - first.index)

    @property
    def seconds_left(self) -> float | None:
        """Of the denoising, from the pace so far; None before the second step."""
        pace = self.pace
        return None if self.over or pace is None else pace * (self.total - 1 - self.steps[-1].index)

    def frame(self, index: int, picture: int = 0) -> Path:
        """The preview of step `index` as a JPEG file; it exists once the step is in `steps`, if previews are on and it
        is not among those `without_frame`."""
        return self.frames_dir / f"{index:03d}-{picture}.jpg"

    def region_frame(self, index: int, region: int, picture: int = 0) -> Path:
        """What region number `region` (0: the background) alone believed at step `index`; see `Jobs.show_region`."""
        return self.frames_dir / f"region{region}-{index:03d}-{picture}.jpg"
