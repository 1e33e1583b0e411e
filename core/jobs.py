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
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from core import job_previews, metadata, saving, trajectory
from core.errors import BadRequest, LoomError
from core.favours import Favours
from core.files import disk_errors, save_jpeg, writable
from core.job import Job, Runner, State
from core.recorder import Recorder
from core.request import Preview, Request, Step, StepInfo
from core.trajectory import Past, Trajectory

log = logging.getLogger(__name__)

KEPT_JOBS = 60  # with their frames; older ones are forgotten, their results stay
KEPT_ESTIMATES = 8  # runs whose regions' own estimates stay in memory
MAX_WAITING = 200

T = TypeVar("T")


class Jobs:
    """runner: makes the engine, called once, in the worker thread (so that heavy imports wait there).

    outputs: results land in outputs/YYYY-MM-DD/, and beside them the runs' trajectories. frames: a folder for previews,
    emptied by `close`. check: raises BadRequest for what cannot be done, before it is queued. trajectories: bytes that
    all of them may take on disk, beyond which the oldest go. 0: none are kept.
    """

    def __init__(self, runner: Callable[[], Runner], outputs: Path, frames: Path,
                 check: Callable[[Request], object] = lambda request: None, trajectories: int = 2 * 2**30):
        self.outputs, self.frames = Path(outputs).resolve(), Path(frames)
        self._keep = trajectories
        self._check, self._make_runner = check, runner
        self.runner: Runner | None = None  # once it is made
        self._warm: str | None = None
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._favours = Favours()
        self._costs = job_previews.CostTable()
        self._lock = threading.Condition()
        self._listeners: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}
        self._closing = False
        self._worker = threading.Thread(target=self._work, name="device", daemon=True)
        self._worker.start()

    # -- for everybody

    def submit(self, request: Request, preview: Preview | None = None, owner: str = "") -> Job:
        """Queue a request. Raises BadRequest (cannot be done, queue full) and OutputError (nowhere to write)."""
        return self._submit(request, preview, owner)

    def submit_resume(self, run: Path | Trajectory, preview: Preview | None = None, owner: str = "") -> Job:
        """Queue what is missing of a run that was stopped or killed; its file is gone on with. Raises as `submit`, and
        TrajectoryError."""
        run = _open(run)
        if run.path in self._in_use(writing=True):
            raise BadRequest(f"{run.path.name} is still being made: wait for it, or stop it first.")
        return self._submit(run.request, preview, owner, Past.resume(run))

    def submit_fork(self, run: Path | Trajectory, at: int, changes: Mapping[str, Any], preview: Preview | None = None,
                    owner: str = "") -> Job:
        """Queue a run that goes on from step `at` of another with some of the request's fields changed. The other may
        be running still. Raises as `submit`, and TrajectoryError."""
        past = Past.fork(_open(run), at, changes)
        return self._submit(past.request, preview, owner, past)

    def unfinished(self) -> list[Trajectory]:
        """The runs in the outputs folder that were stopped or killed and can be resumed, newest first."""
        busy = self._in_use(writing=True)
        return [run for run in trajectory.unfinished(self.outputs) if run.path not in busy]

    def _submit(self, request: Request, preview: Preview | None, owner: str, past: Past | None = None) -> Job:
        self._check(request)
        writable(self.outputs)
        with self._lock:
            if self._closing:
                raise _closing()
            if len(self._waiting) >= MAX_WAITING:
                raise BadRequest(f"{MAX_WAITING} pictures are waiting already: try again when some are done.")
            identity = secrets.token_urlsafe(12)
            job = Job(identity, request, preview or Preview(), self.frames / identity, owner, past=past)
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

    def known(self) -> list[Job]:
        """The jobs that are not forgotten yet, oldest first."""
        with self._lock:
            return list(self._jobs.values())

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
        """The job now, and again after every change until it has settled; fast changes arrive as one."""
        event = asyncio.Event()
        listener = (asyncio.get_running_loop(), event)
        self._listeners.setdefault(job.id, set()).add(listener)
        try:
            while True:
                event.clear()
                settled = job.settled
                yield job
                if settled:
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

        def decode(runner: Runner) -> Path:
            decoder = "vae" if job.preview.decoder == "none" else job.preview.decoder
            shown = runner.decode(latents, job.request, decoder)[0]
            with disk_errors("previews", job.frames_dir):
                save_jpeg(shown, path)
            return path

        return await self._ask(job.request, decode)

    async def decode(self, latents: np.ndarray, request: Request, decoder: str = "vae",
                     weights: str | None = None) -> tuple[np.ndarray, ...]:
        """(n, C, h, w) latents of a request's model -> n pictures (H, W, 3) uint8, between two steps of what runs.

        weights: as in `Engine.decode`; of a kept run its `outline.model`. Raises LoomError.
        """
        return await self._ask(request, lambda runner: runner.decode(latents, request, decoder, weights))

    async def keep_step(self, run: Job | Path | Trajectory, index: int) -> list[Path]:
        """What the run would have given had it been stopped after step `index`: x0 as PNG files beside its trajectory.

        Raises BadRequest for a step or a trajectory that is not there, TrajectoryError, OutputError.
        """
        if isinstance(run, Job):
            if run.trajectory is None:
                raise BadRequest("The steps of this run were not kept: make the picture anew, and stop it there.")
            run = run.trajectory
        kept = run if isinstance(run, Trajectory) else Trajectory(run, check=False)
        pictures = await self.decode(kept.x0(index), kept.request, "vae", kept.outline.model)
        parent, paths = kept.parent, []
        with disk_errors("pictures", kept.path.parent):
            for k, picture in enumerate(pictures):
                paths.append(trajectory.picture_path(kept, k, f"-step{index + 1}"))
                metadata.save_png(picture, paths[-1], kept.request.single(k), stopped_after=index + 1,
                                  forked=(parent.file, parent.step) if parent else None)
        return paths

    async def _ask(self, request: Request, work: Callable[[Runner], T]) -> T:
        with self._lock:
            if self._closing:
                raise _closing()
            answer = self._favours.add(request, work)
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
        self._favours.refuse(_closing())
        self._worker.join(timeout=30 if self._running else 3)  # a model on its way may be left alone
        job_previews.drop(self._jobs.values())
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
                self._favours.do(self._get_runner)
                continue
            try:
                self._run(job, self._get_runner())
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
            self._favours.do(self._get_runner)

    def _get_runner(self) -> Runner:
        self.runner = self.runner or self._make_runner()
        return self.runner

    def _warm_up(self) -> None:
        try:
            self._get_runner().load(self._warm or "")
        except Exception as error:  # whoever asks for a picture gets it as that run's error
            log.warning("the model could not be loaded ahead: %s", error)
        self._warm = None

    def _run(self, job: Job, runner: Runner) -> None:
        with disk_errors("previews", job.frames_dir):
            job.frames_dir.mkdir(parents=True, exist_ok=True)
        past = [job.past] if job.past else []
        recorder = Recorder(self._trajectory_path(job), job.resumes) if self._keep or job.resumes else None
        with contextlib.ExitStack() as stack:
            previewer = job_previews.start(job, runner, self._costs, self._tell)
            if previewer:
                stack.callback(previewer.finish)
            events = runner.generate(job.request, Preview("none"), job.cancel, *past)
            stack.enter_context(contextlib.closing(events))  # type: ignore[type-var]
            if recorder:
                stack.callback(self._make_room)
                stack.enter_context(contextlib.closing(recorder))
            for event in events:
                if isinstance(event, Step):
                    if recorder and event.record and not job.note:
                        self._record(job, recorder, event)
                    with self._lock:
                        if event.regions_x0:
                            job.own_x0.append(event.regions_x0)
                        if job.preview.decoder != "none":
                            job.without_frame.add(event.index)  # before the step is seen by those who hold no lock
                        job.steps.append(StepInfo.of(event))
                        self._change(job, loading=False)
                    if previewer:
                        previewer.put(event.index, event.x0)
                    self._favours.do(self._get_runner, job.request)
                else:
                    job.seconds, job.latents = event.seconds, event.latents
                    job.results = saving.save_pictures(job, event, self._stem(job), self.outputs)
                    job.scores = runner.scores(event, job.request)
                    if previewer and previewer.budget is None:  # every step is shown, then the picture
                        previewer.finish()
                        previewer.wait()
                    self._end(job, "stopped" if event.stopped else "done")
        assert job.over, "a run ends with Done"

    def _record(self, job: Job, recorder: Recorder, step: Step) -> None:
        """Keep a step; when the disk says no, the run goes on without a trajectory."""
        try:
            recorder.add(step)
            job.trajectory = recorder.path
        except LoomError as error:
            log.warning("the steps of job %s are no longer kept: %s", job.id, error)
            job.note, job.trajectory = f"The run goes on, its steps are not kept. {error}", None
            recorder.close() if job.resumes else recorder.drop()  # what was there before stays

    def _trajectory_path(self, job: Job) -> Path:
        """Beside the first picture, with its name; that of a run that is resumed is gone on with."""
        if job.resumes and job.past:
            return job.past.run.path
        return self._stem(job).with_name(f"{self._stem(job).name}-{job.request.seed}{trajectory.SUFFIX}")

    def _stem(self, job: Job) -> Path:
        day, hour = (time.strftime(form, time.localtime(job.created)) for form in ("%Y-%m-%d", "%H%M%S"))
        return self.outputs / day / f"{hour}-{job.id[:6]}"

    def _in_use(self, writing: bool = False) -> set[Path]:
        """Trajectories that runs need: those they write, and unless `writing`, those they go on from."""
        with self._lock:
            jobs = [job for job in (*self._waiting, self._running) if job and not job.over]
            return {self._trajectory_path(job) for job in jobs} | \
                {job.past.run.path for job in jobs if job.past and not writing}

    def _make_room(self) -> None:
        trajectory.make_room(self.outputs, self._keep, self._in_use())

    def _end(self, job: Job, state: State, error: LoomError | None = None) -> None:
        with self._lock:
            self._change(job, error=error, loading=False, state=state)  # state last: it is what readers wait for

    def _tell(self, job: Job, change: Callable[[], None]) -> None:
        """A change to a job from another thread than the worker's."""
        with self._lock:
            change()
            self._change(job)

    def _change(self, job: Job, **values: object) -> None:
        for name, value in values.items():
            setattr(job, name, value)
        job.version += 1
        self._lock.notify_all()
        for loop, event in list(self._listeners.get(job.id, ())):
            with contextlib.suppress(RuntimeError):  # the watcher's loop is gone
                loop.call_soon_threadsafe(event.set)

    def _forget_old(self) -> None:
        free = [job for job in self._jobs.values() if not job.held]
        for job in [j for j in free if j.over][:-KEPT_ESTIMATES]:
            job.own_x0, job.latents = [], None  # a few MB each at 1024x1024
        for old in [j for j in free if j.over][: max(0, len(free) - KEPT_JOBS)]:
            del self._jobs[old.id]
            self._listeners.pop(old.id, None)
            shutil.rmtree(old.frames_dir, ignore_errors=True)


def _open(run: Path | Trajectory) -> Trajectory:
    """As it is now: it may have come further since it was opened."""
    return Trajectory(Path(run.path if isinstance(run, Trajectory) else run).resolve())


def _closing() -> BadRequest:
    return BadRequest("The studio is closing: start it again to go on.")
