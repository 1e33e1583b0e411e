"""The queue: one worker thread per device takes Requests to pictures; anybody may watch, one button stops.

A job outlives the tab that started it, and one that is `lasting` the studio too. Its frames lie on disk as JPEG files,
its results as PNG files, so that the page needs nothing but addresses.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from core import job_previews, saving, trajectory
from core.errors import BadRequest, LoomError
from core.files import writable
from core.forever import Forever, Forevers
from core.job import Job, Runner, State
from core.journal import Journal
from core.lasting import Lasting
from core.looking import Looking, closing
from core.making import Hooks, Maker
from core.owners import home
from core.paces import Forecast, Paces
from core.queue import Queue
from core.request import Preview, Request, draw_seed
from core.trajectory import Past, Trajectory

log = logging.getLogger(__name__)

MAX_WAITING = 200  # of everybody, paused ones too
MAX_OWN = 50  # of one owner

Where = Literal["up", "down", "top"]


class Jobs(Looking):
    """runner: makes the engine, called once, in the worker thread (so that heavy imports wait there).

    outputs: results land in outputs/YYYY-MM-DD/, and beside them the runs' trajectories. frames: a folder for previews,
    emptied by `close`. check: raises BadRequest for what cannot be done, before it is queued. trajectories: bytes that
    all of them may take on disk, beyond which the oldest go. 0: none are kept.

    Lasting jobs that an earlier studio left in the outputs folder are queued again.
    """

    def __init__(self, runner: Callable[[], Runner], outputs: Path, frames: Path,
                 check: Callable[[Request], object] = lambda request: None, trajectories: int = 2 * 2**30):
        super().__init__()
        self.outputs, self.frames = Path(outputs).resolve(), Path(frames)
        self._check, self._make_runner, self._keep = check, runner, trajectories
        self.runner: Runner | None = None  # once it is made
        self._warm: str | None = None
        self._queue: Queue[Job] = Queue()
        self._running: Job | None = None
        self._forevers = Forevers()
        self._paces = Paces()
        self._maker = Maker(self.outputs, trajectories > 0, self._paces,
                            Hooks(self.tell, self._end, self._between, self._make_room, self.events.step))
        self._journal = Journal(self.outputs)
        self._lasting = Lasting(self._journal, self._forevers, self._queue, self._paces)
        if self._journal.folder.is_dir() and self._journal.open():
            self._restore()
        self._worker = threading.Thread(target=self._work, name="device", daemon=True)
        self._worker.start()

    # -- into the queue

    def submit(self, request: Request, preview: Preview | None = None, owner: str = "", lasting: bool = False) -> Job:
        """Queue a request. owner: who takes turns with others; "" without logins. lasting: it goes on after the
        studio's end, for runs that nobody holds the line for.

        Raises BadRequest (cannot be done, queue full) and OutputError (nowhere to write).
        """
        return self._submit(request, preview, owner, lasting)

    def submit_resume(self, run: Path | Trajectory, preview: Preview | None = None, owner: str = "",
                      lasting: bool = False) -> Job:
        """Queue what is missing of a run that was stopped or killed; its file is gone on with. Raises as `submit`, and
        TrajectoryError."""
        run = _open(run)
        if run.path in self._in_use(writing=True):
            raise BadRequest(f"{run.path.name} is still being made: wait for it, or stop it first.")
        return self._submit(run.request, preview, owner, lasting, Past.resume(run), saving.free_word(run))

    def submit_fork(self, run: Path | Trajectory, at: int, changes: Mapping[str, Any], preview: Preview | None = None,
                    owner: str = "", lasting: bool = False) -> Job:
        """Queue a run that goes on from step `at` of another with some of the request's fields changed. The other may
        be running still. Raises as `submit`, and TrajectoryError."""
        past = Past.fork(_open(run), at, changes)
        return self._submit(past.request, preview, owner, lasting, past)

    def unfinished(self) -> list[Trajectory]:
        """The runs in the outputs folder that were stopped or killed and can be resumed, newest first."""
        busy = self._in_use(writing=True)
        return [run for run in trajectory.unfinished(self.outputs) if run.path not in busy]

    def _submit(self, request: Request, preview: Preview | None, owner: str, lasting: bool, past: Past | None = None,
                word: str = "") -> Job:
        self._check(request)
        writable(self.outputs)
        with self.lock:
            if self._closing:
                raise closing()
            waiting = [job for job in self._jobs.values() if job.state in ("waiting", "paused")]
            if len(waiting) >= MAX_WAITING:
                raise BadRequest(f"{MAX_WAITING} pictures are waiting already: try again when some are done.")
            if len([job for job in waiting if job.owner == owner]) >= MAX_OWN:
                raise BadRequest(f"{MAX_OWN} of your pictures are waiting already: try again when some are done, or "
                                 "take some out of the queue.")
            identity = secrets.token_urlsafe(12)
            job = Job(identity, request, preview or Preview(), home(self.frames, owner) / identity, owner, past=past,
                      word=word)
            if lasting:
                self._note(job)
            self.add(job)
            self._queue.add(job, owner)
            self.lock.notify_all()
        return job

    # -- the queue as it stands

    def position(self, job: Job) -> int:
        """How many runs come before this one; 0: running, paused, or over."""
        return self.forecast(job).ahead

    def forecast(self, job: Job) -> Forecast:
        """When a job will be done, by the steps that were measured on this machine."""
        with self.lock:
            line = [one for one in self.line() if one.state != "paused"]
            if job not in line:
                return Forecast(0, None)
            return self._paces.forecast(job, line[:line.index(job)])

    @property
    def alive(self) -> bool:
        """Whether the device's thread is there to take the next job."""
        return self._worker.is_alive()

    def queue_length(self) -> int:
        return len(self._queue) + (self._running is not None)

    def line(self) -> list[Job]:
        """Everybody's jobs that are not over: what runs, what waits in its order, what is paused."""
        with self.lock:
            waiting = self._queue.order()
            paused = [job for job in self._jobs.values() if job.state == "paused"]
            return [*([self._running] if self._running and not self._running.over else []), *waiting, *paused]

    # -- what people do with a job; each harmless when it is over, or nobody knows it

    def stop(self, identity: str) -> None:
        """Stop a job and keep what there is; obeyed before the next network call. It ends "forever" too."""
        with self.lock:
            if job := self._open_job(identity):
                if job.lasting:
                    self.end_forever(job.owner)
                self._stop(job)

    def pause(self, identity: str) -> None:
        """Let others go first until `resume`. A run pauses after the step at hand, and keeps what it has reached."""
        with self.lock:
            if (job := self._open_job(identity)) and job.state != "paused":
                if self._queue.remove(job):
                    self.change(job, state="paused")
                    self._arrange()
                else:
                    self.change(job, resting=True)

    def resume(self, identity: str) -> None:
        """Put a paused job before its owner's other ones."""
        with self.lock:
            if job := self._open_job(identity):
                if job.state == "paused":
                    self._queue.add(job, job.owner, first=True)
                self.change(job, resting=False, state="waiting" if job.state == "paused" else job.state)
                self._arrange()

    def discard(self, identity: str) -> None:
        """Stop a job and throw away what it has made."""
        with self.lock:
            if job := self._open_job(identity):
                job.unwanted = True
                self._stop(job)

    def move(self, identity: str, where: Where) -> None:
        """Change the place of a job that waits among its owner's others: no one else's turn changes."""
        with self.lock:
            job = self._open_job(identity)
            if job is not None and job in (own := self._queue.of(job.owner)):
                self._queue.move(job, {"up": own.index(job) - 1, "down": own.index(job) + 1, "top": 0}[where])
                self._arrange()
                for other in own:
                    self.change(other)

    def go_on_forever(self, owner: str, scope: str, job: Job | None = None) -> None:
        """Whenever the owner's last job is done, make another one like `job` (None: like the last) with a new seed."""
        with self.lock:
            self._forevers.begin(owner, scope, job)
            self._lasting.forever()

    def end_forever(self, owner: str) -> None:
        with self.lock:
            self._forevers.end(owner)
            self._lasting.forever()

    def forever(self, owner: str) -> Forever | None:
        return self._forevers.of(owner)

    def _open_job(self, identity: str) -> Job | None:
        """One that can still be changed: neither over nor being stopped."""
        job = self.get(identity)
        return None if job is None or job.over or job.cancel.is_set() else job

    def _stop(self, job: Job) -> None:
        job.cancel.set()
        if job.lasting and not job.over:
            self._journal.stop(job.id, job.unwanted)
        self.change(job, resting=False)
        if job is self._running:
            return
        self._queue.remove(job)
        if job.unwanted:
            self._maker.throw_away(job)
            self._end(job, "discarded")
        elif job.rested and not self._closing and self._maker.kept_steps(job):
            self._favours.add(job.request, lambda runner: self._guard(
                job, lambda: self._maker.keep_reached(job, runner)))
            self.lock.notify_all()
        else:
            self._end(job, "stopped")

    # -- the studio's beginning and end

    def warm(self, model: str) -> None:
        """Make the engine and load a model when nothing waits, so that the first run starts at once."""
        with self.lock:
            self._warm = model
            self.lock.notify_all()

    @property
    def warming(self) -> bool:
        return self._warm is not None

    def close(self) -> None:
        """Let the run at hand finish its step, wait for the worker to let go, delete the previews. Lasting jobs stay in
        the journal; others are stopped, and keep what they have reached."""
        with self.lock:
            self._closing = True
            self._forevers.clear()
            for job in [job for job in self.line() if not job.lasting]:
                self._stop(job)
            self.lock.notify_all()
        self._favours.refuse(closing())
        self._worker.join(timeout=30 if self._running else 3)  # a model on its way may be left alone
        job_previews.drop(self._jobs.values())
        shutil.rmtree(self.frames, ignore_errors=True)
        self._journal.close()

    def _restore(self) -> None:
        """What an earlier studio left: each job goes on from its kept steps; one whose pictures are there is done."""
        self._lasting.recall()
        left = self._journal.read(self.frames)
        for job, paused in sorted(left, key=lambda one: not self._maker.kept_steps(one[0])):  # what ran is first again
            self.add(job)
            if job.over or self._maker.finished(job):
                self._journal.remove(job.id)
            elif paused or self._journal.stopped(job.id)[0]:
                job.state = "paused"
            else:
                self._queue.add(job, job.owner)
        with self.lock:
            for job in [job for job, _ in left if not job.over]:
                stopped, job.unwanted = self._journal.stopped(job.id)
                if stopped:
                    self._stop(job)
            for owner in self._forevers.owners():
                self._once_more(owner)

    def _note(self, job: Job) -> None:
        """Into the journal. Without one the job runs all the same."""
        try:
            if self._journal.usable or self._journal.open():
                self._journal.add(job)
                job.lasting = True
        except LoomError as error:
            log.warning("job %s will not survive the studio: %s", job.id, error)

    def _arrange(self) -> None:
        if self._journal.usable:
            self._journal.arrange(self._queue.order(), [job for job in self.line() if job.state == "paused"])

    # -- the worker

    def _work(self) -> None:
        while True:
            with self.lock:
                self.lock.wait_for(lambda: self._queue or self._closing or self._warm or self._favours)
                if self._closing:
                    return
                job = self._running = self._queue.take()
                if job:
                    self.change(job, state="running", loading=True)
            if job is None:
                if self._warm:
                    self._warm_up()
            else:
                self._run(job)
            self._favours.do(self._get_runner)

    def _run(self, job: Job) -> None:
        if job.lasting:
            self._journal.begin(job.id, self._maker.kept_steps(job))
        self._guard(job, lambda: self._maker.make(job, self._get_runner()))
        self._lasting.paces()
        if job.over or job.resting:  # else the turn is not over: what ran is first again
            self._lasting.turns()
        with self.lock:
            self._running = None
            if job.over:
                return
            self._journal.let_go(job.id)
            if job.cancel.is_set():
                self._stop(job)
            elif job.resting:
                self.change(job, state="paused", loading=False)
            else:  # the studio closes, or resume came at once
                self._queue.add(job, job.owner, first=True)
                self.change(job, state="waiting", loading=False)
            self._arrange()

    def _guard(self, job: Job, work: Callable[[], None]) -> None:
        """Whatever goes wrong is the job's error; the worker lives on."""
        try:
            work()
        except LoomError as error:
            self._end(job, "failed", error)
        except Exception as error:  # our own mistake
            log.exception("job %s failed", job.id)
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            self._end(job, "failed", LoomError(f"Something broke inside the studio ({why}). "
                                               "The server's log has the details."))

    def _get_runner(self) -> Runner:
        self.runner = self.runner or self._make_runner()
        return self.runner

    def _warm_up(self) -> None:
        try:
            self._get_runner().load(self._warm or "")
        except Exception as error:  # whoever asks for a picture gets it as that run's error
            log.warning("the model could not be loaded ahead: %s", error)
        self._warm = None

    def _between(self, job: Job) -> bool:
        """After a step: do what small things were asked for. Whether the run is to let go of the device now."""
        self._favours.do(self._get_runner, job.request)
        return not job.cancel.is_set() and (job.resting or self._closing)

    def _in_use(self, writing: bool = False) -> set[Path]:
        """Trajectories that runs need: those they write, and unless `writing`, those they go on from."""
        jobs = [job for job in self.known() if not job.over]
        return {self._maker.trajectory_path(job) for job in jobs} | \
            {job.past.run.path for job in jobs if job.past and not writing}

    def _make_room(self) -> None:
        trajectory.make_room(self.outputs, self._keep, self._in_use())

    def _end(self, job: Job, state: State, error: LoomError | None = None) -> None:
        with self.lock:
            if job.over:
                return
            self.change(job, error=error, loading=False, state=state)  # state last: it is what readers wait for
            if job.lasting:
                self._journal.remove(job.id)
            if not self._closing and not self._busy(job.owner):
                if self.forever(job.owner):
                    self._forevers.after(job)
                    self._lasting.forever()
                self._once_more(job.owner)

    def _busy(self, owner: str) -> bool:
        return any(one.owner == owner and not one.over for one in self.known())

    def _once_more(self, owner: str) -> None:
        """The next one of "forever", if it is its time."""
        if not self._busy(owner) and (forever := self._forevers.of(owner)) and forever.request:
            try:
                forever.job = self.submit(forever.request.replace(seed=draw_seed()), forever.preview, owner, True)
            except LoomError as refused:
                log.warning("forever ends: %s", refused)
                self.end_forever(owner)


def _open(run: Path | Trajectory) -> Trajectory:
    """As it is now: it may have come further since it was opened."""
    return Trajectory(Path(run.path if isinstance(run, Trajectory) else run).resolve())
