"""The queue: one worker thread per device takes Requests to pictures; anybody may watch, one button stops.

A job outlives the tab that started it. Its frames lie on disk as JPEG files, its results as PNG files,
so that the page needs nothing but addresses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from core import metadata
from core.errors import BadRequest, LoomError
from core.files import disk_errors, save_jpeg, writable
from core.request import Done, Preview, Request, Step, StepInfo

log = logging.getLogger(__name__)

State = Literal["waiting", "running", "done", "stopped", "failed"]
KEPT_JOBS = 60  # with their frames; older ones are forgotten, their results stay
KEPT_ESTIMATES = 8  # runs whose regions' own estimates stay in memory
MAX_WAITING = 200


class Runner(Protocol):
    """What Jobs needs of an engine."""

    @property
    def device(self) -> object: ...

    @property
    def precision(self) -> str: ...  # what "auto" is on this device, or that of the model in memory

    def load(self, name: str) -> object: ...

    def generate(self, request: Request, preview: Preview, cancel: threading.Event) -> Iterator[Step | Done]: ...

    def decode(self, latents: np.ndarray, request: Request, decoder: str) -> tuple[np.ndarray, ...]: ...


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
    error: LoomError | None = None
    seconds: float = 0.0  # of the whole run, when it is over
    loading: bool = False  # running, and the model is on its way
    version: int = 0  # grows with every change
    own_x0: list[Mapping[int, np.ndarray]] = field(default_factory=list)  # of each step: region -> (B, C, h, w)
    cancel: threading.Event = field(default_factory=threading.Event)

    @property
    def over(self) -> bool:
        return self.state in ("done", "stopped", "failed")

    @property
    def total(self) -> int:
        return self.request.steps

    @property
    def seconds_left(self) -> float | None:
        """Of the denoising, from the pace so far; None before the second step."""
        if self.over or len(self.steps) < 2:
            return None
        first, last = self.steps[0], self.steps[-1]
        pace = (last.seconds - first.seconds) / (last.index - first.index)
        return pace * (self.total - 1 - last.index)

    def frame(self, index: int, picture: int = 0) -> Path:
        """The preview of step `index` as a JPEG file; it exists once the step is in `steps` (and previews are on)."""
        return self.frames_dir / f"{index:03d}-{picture}.jpg"

    def region_frame(self, index: int, region: int, picture: int = 0) -> Path:
        """What region number `region` (0: the background) alone believed at step `index`; see `Jobs.show_region`."""
        return self.frames_dir / f"region{region}-{index:03d}-{picture}.jpg"


class Jobs:
    """runner: makes the engine, called once, in the worker thread (so that heavy imports wait there).

    outputs: results land in outputs/YYYY-MM-DD/. frames: a folder for previews, emptied by `close`.
    check: raises BadRequest for what cannot be done, before it is queued.
    """

    def __init__(self, runner: Callable[[], Runner], outputs: Path, frames: Path,
                 check: Callable[[Request], object] = lambda request: None):
        self.outputs, self.frames = Path(outputs), Path(frames)
        self._check, self._make_runner = check, runner
        self.runner: Runner | None = None  # once it is made
        self._warm: str | None = None
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._favours: deque[Callable[[Runner], None]] = deque()  # small work for the device, done between steps
        self._lock = threading.Condition()
        self._listeners: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}
        self._closing = False
        self._worker = threading.Thread(target=self._work, name="device", daemon=True)
        self._worker.start()

    # -- for everybody

    def submit(self, request: Request, preview: Preview | None = None, owner: str = "") -> Job:
        """Queue a request. Raises BadRequest (cannot be done, queue full) and OutputError (nowhere to write)."""
        self._check(request)
        writable(self.outputs)
        with self._lock:
            if self._closing:
                raise BadRequest("The studio is closing: start it again to go on.")
            if len(self._waiting) >= MAX_WAITING:
                raise BadRequest(f"{MAX_WAITING} pictures are waiting already: try again when some are done.")
            identity = secrets.token_urlsafe(12)
            job = Job(identity, request, preview or Preview(), self.frames / identity, owner)
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._forget_old()
            self._lock.notify_all()
        return job

    def warm(self, model: str) -> None:
        """Make the engine and load a model when nothing waits, so that the first run starts at once."""
        with self._lock:
            self._warm = model
            self._lock.notify_all()

    @property
    def warming(self) -> bool:
        return self._warm is not None

    def get(self, identity: str) -> Job | None:
        return self._jobs.get(identity)

    def stop(self, identity: str) -> None:
        """Stop a job and keep what there is; obeyed before the next network call. Harmless when it is over."""
        with self._lock:
            job = self._jobs.get(identity)
            if job is None or job.over:
                return
            job.cancel.set()
            if job in self._waiting:
                self._waiting.remove(job)
                self._change(job, state="stopped")

    def position(self, job: Job) -> int:
        """How many runs come before this one; 0: running or over."""
        with self._lock:
            if job not in self._waiting:
                return 0
            return self._waiting.index(job) + (self._running is not None)

    def queue_length(self) -> int:
        return len(self._waiting) + (self._running is not None)

    def pace(self, request: Request, worth: Callable[[Request], float] = lambda request: 1.0) -> float | None:
        """Seconds per whole pass of the last run with this model, size and windows; None before there was one.

        worth: of an evaluation of a run on average, in whole passes; less than 1 where regions were cropped.
        """
        kind = (request.model, request.width, request.height, request.panorama)
        for job in reversed(list(self._jobs.values())):
            asked = job.request
            if (asked.model, asked.width, asked.height, asked.panorama) == kind and job.over and job.steps:
                return job.steps[-1].seconds / (max(job.steps[-1].evaluations, 1) * worth(asked))
        return None

    async def watch(self, job: Job) -> AsyncIterator[Job]:
        """The job now, and again after every change until it is over; fast changes arrive as one."""
        event = asyncio.Event()
        listener = (asyncio.get_running_loop(), event)
        self._listeners.setdefault(job.id, set()).add(listener)
        try:
            while True:
                event.clear()
                over = job.over
                yield job
                if over:
                    return
                await event.wait()
        finally:
            self._listeners.get(job.id, set()).discard(listener)

    async def show_region(self, job: Job, index: int, region: int, picture: int = 0) -> Path:
        """The JPEG of a region's own x0 at a step, decoded when first asked for, in mid-run between two steps.

        Raises BadRequest for a step or region that has none (not there yet, hidden, forgotten), OutputError.
        """
        path = job.region_frame(index, region, picture)
        if path.exists():
            return path
        if not (0 <= index < len(job.own_x0) and region in job.own_x0[index]
                and 0 <= picture < len(job.own_x0[index][region])):
            raise BadRequest(f"Region {region} has no estimate of its own at step {index + 1}: it is hidden, or the "
                             "step has not been taken.", "regions")
        latents = job.own_x0[index][region][picture:picture + 1]
        answer: Future[Path] = Future()

        def decode(runner: Runner) -> None:
            try:
                decoder = "vae" if job.preview.decoder == "none" else job.preview.decoder
                shown = runner.decode(latents, job.request, decoder)[0]
                with disk_errors("previews", job.frames_dir):
                    save_jpeg(shown, path)
                answer.set_result(path)
            except BaseException as error:
                answer.set_exception(error)

        with self._lock:
            if self._closing:
                raise BadRequest("The studio is closing: start it again to go on.")
            self._favours.append(decode)
            self._lock.notify_all()
        return await asyncio.wrap_future(answer)

    def wait(self, job: Job, timeout: float | None = None) -> Job:
        """Block until the job is over (or the time is)."""
        with self._lock:
            self._lock.wait_for(lambda: job.over, timeout)
        return job

    def close(self) -> None:
        """Stop everything, wait for the worker to let go, delete the previews."""
        with self._lock:
            self._closing = True
            for job in [*self._waiting, *([self._running] if self._running else [])]:
                job.cancel.set()
            while self._waiting:
                self._change(self._waiting.popleft(), state="stopped")
            self._lock.notify_all()
        self._worker.join(timeout=30 if self._running else 3)  # a model on its way may be left alone
        shutil.rmtree(self.frames, ignore_errors=True)

    # -- the worker

    def _work(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._waiting or self._closing or self._warm or self._favours)
                if self._closing:
                    return
                job = self._running = self._waiting.popleft() if self._waiting else None
                if job:
                    self._change(job, state="running", loading=True)
            if job is None:
                if self._warm:
                    self._warm_up()
                self._do_favours()
                continue
            try:
                self.runner = self.runner or self._make_runner()
                self._run(job, self.runner)
            except LoomError as error:
                self._end(job, "failed", error)
            except Exception as error:  # our own mistake: the job fails with it, the worker lives on
                log.exception("job %s failed", job.id)
                why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                self._end(job, "failed", LoomError(f"Something broke inside the studio ({why}). "
                                                   "The server's log has the details."))
            finally:
                with self._lock:
                    self._running = None

    def _do_favours(self) -> None:
        while self._favours and self.runner:
            self._favours.popleft()(self.runner)

    def _warm_up(self) -> None:
        try:
            self.runner = self.runner or self._make_runner()
            self.runner.load(self._warm or "")
        except Exception as error:  # whoever asks for a picture gets it as that run's error
            log.warning("the model could not be loaded ahead: %s", error)
        self._warm = None

    def _run(self, job: Job, runner: Runner) -> None:
        with disk_errors("previews", job.frames_dir):
            job.frames_dir.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(runner.generate(job.request, job.preview, job.cancel)) as events:  # type: ignore[type-var]
            for event in events:
                if isinstance(event, Step):
                    with disk_errors("previews", job.frames_dir):
                        for k, picture in enumerate(event.pictures):
                            save_jpeg(picture, job.frame(event.index, k))
                    with self._lock:
                        if event.regions_x0:
                            job.own_x0.append(event.regions_x0)
                        job.steps.append(StepInfo.of(event))
                        self._change(job, loading=False)
                    self._do_favours()
                else:
                    job.seconds = event.seconds
                    job.results = self._save(job, event)
                    self._end(job, "stopped" if event.stopped else "done")
        assert job.over, "a run ends with Done"

    def _save(self, job: Job, done: Done) -> list[Path]:
        """Each picture as PNG with its own seed in the metadata. Raises OutputError."""
        folder = self.outputs / time.strftime("%Y-%m-%d", time.localtime(job.created))
        paths = []
        with disk_errors("pictures", folder):
            folder.mkdir(parents=True, exist_ok=True)
            for k, picture in enumerate(done.pictures):
                request = job.request.single(k).replace(precision=done.precision)
                stem = f"{time.strftime('%H%M%S', time.localtime(job.created))}-{job.id[:6]}-{request.seed}"
                path = folder / f"{stem}.png"
                metadata.save_png(picture, path, request, stopped_after=done.steps if done.stopped else None)
                paths.append(path)
        return paths

    def _end(self, job: Job, state: State, error: LoomError | None = None) -> None:
        with self._lock:
            self._change(job, error=error, loading=False, state=state)  # state last: it is what readers wait for

    def _change(self, job: Job, **values: object) -> None:
        for name, value in values.items():
            setattr(job, name, value)
        job.version += 1
        self._lock.notify_all()
        for loop, event in list(self._listeners.get(job.id, ())):
            with contextlib.suppress(RuntimeError):  # the watcher's loop is gone
                loop.call_soon_threadsafe(event.set)

    def _forget_old(self) -> None:
        for job in [j for j in self._jobs.values() if j.over and j.own_x0][:-KEPT_ESTIMATES]:
            job.own_x0 = []  # a few MB each at 1024x1024
        for old in [j for j in self._jobs.values() if j.over][: max(0, len(self._jobs) - KEPT_JOBS)]:
            del self._jobs[old.id]
            self._listeners.pop(old.id, None)
            shutil.rmtree(old.frames_dir, ignore_errors=True)
