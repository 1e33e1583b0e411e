"""One job on the device: from the engine's steps to files."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from core import job_previews, saving, trajectory
from core.errors import LoomError, OutputError
from core.files import disk_errors
from core.job import Job, Runner, State
from core.owners import home
from core.paces import Paces
from core.previewer import Previewer
from core.recorder import Recorder
from core.request import Done, Preview, Step, StepInfo
from core.trajectory import Past, Trajectory

log = logging.getLogger(__name__)


class Hooks(NamedTuple):
    """What making a picture asks of the queue."""

    tell: Callable[[Job, Callable[[], object]], None]  # make a change, and let the watchers know
    end: Callable[[Job, State], None]
    between: Callable[[Job], bool]  # called after every step; whether the run is to let go of the device here
    make_room: Callable[[], None]  # among the kept steps of other runs
    took: Callable[[Job], None]  # a step that was not taken before


class Maker:
    """Called in the device's thread only. outputs: as in Jobs. keep: whether the steps of runs are kept."""

    def __init__(self, outputs: Path, keep: bool, paces: Paces, hooks: Hooks):
        self.outputs, self._keep, self._paces, self._hooks = outputs, keep, paces, hooks
        self._costs = job_previews.CostTable()

    def make(self, job: Job, runner: Runner) -> None:
        """Carry a job to its end, or to where it lets go: then it is not over, and its kept steps are what it goes on
        from. Where they were not kept it begins anew, to the same picture. Raises LoomError."""
        with disk_errors("previews", job.frames_dir):
            job.frames_dir.mkdir(parents=True, exist_ok=True)
        began, load = time.perf_counter(), 0.0
        past = self._go_on_from(job)
        keep = self._keep or job.resumes
        recorder = Recorder(self.trajectory_path(job), job.resumes or job.rested) if keep else None
        with contextlib.ExitStack() as stack:
            previewer = job_previews.start(job, runner, self._costs, self._hooks.tell)
            if previewer:
                stack.callback(previewer.finish)
            request = past.request if past else job.request
            events = runner.generate(request, Preview("none"), job.cancel, *([past] if past else []))
            stack.enter_context(contextlib.closing(events))  # type: ignore[type-var]
            if recorder:
                stack.callback(self._hooks.make_room)
                stack.enter_context(contextlib.closing(recorder))
            for event in events:
                if isinstance(event, Step):
                    load = load or time.perf_counter() - began - event.seconds
                    recorder = self._record(job, recorder, event)
                    self._take(job, event, previewer)
                    if event.index >= (past.steps if past else 0):
                        self._hooks.took(job)
                    if self._hooks.between(job):
                        break
                else:
                    if event.stopped and not job.unwanted and event.steps < self.kept_steps(job):
                        # it was stopped while it caught up
                        event = self._reached(job, runner)
                    self._finish(job, event, runner, previewer)
        if past or job.state != "done":  # what lies before and behind the steps is another run's, or was not done
            self._paces.note(job)
        else:
            self._paces.note(job, time.perf_counter() - began - load - job.steps[-1].seconds, load)
        if job.state == "discarded":
            self.throw_away(job)
        elif not job.over:
            job.rested = True
            if previewer:
                previewer.wait()  # it may be gone on with at once

    def keep_reached(self, job: Job, runner: Runner) -> None:
        """End a job that rests with the picture it had reached. Raises LoomError."""
        self._finish(job, self._reached(job, runner), runner, None)

    def finished(self, job: Job) -> bool:
        """Whether all pictures of a job that an earlier studio began are there: that one ended before it could say so.
        The job is then as it would have been."""
        paths = saving.picture_paths(job, self._stem(job), self.outputs)
        if not all(path.is_file() for path in paths):
            return False
        job.results = paths
        with contextlib.suppress(LoomError):
            run = Trajectory(self.trajectory_path(job), check=False)
            job.trajectory, job.steps = run.path, list(run.steps)
            job.without_frame = set(range(run.taken))
        job.state = "stopped" if job.steps and len(job.steps) < job.total else "done"
        return True

    def kept_steps(self, job: Job) -> int:
        """Of a job that rests, on disk."""
        with contextlib.suppress(LoomError):
            return Trajectory(self.trajectory_path(job), check=False).taken
        return 0

    def throw_away(self, job: Job) -> None:
        """The steps of a job that nobody wants any more; those that it was given to go on with stay."""
        job.trajectory = None
        if not job.resumes:
            with contextlib.suppress(OSError):
                self.trajectory_path(job).unlink(missing_ok=True)

    def trajectory_path(self, job: Job) -> Path:
        """Beside the first picture, with its name; that of a run that is resumed is gone on with."""
        if job.resumes and job.past:
            return job.past.run.path
        return self._stem(job).with_name(f"{self._stem(job).name}-{job.request.seed}{trajectory.SUFFIX}")

    def _stem(self, job: Job) -> Path:
        day, hour = (time.strftime(form, time.localtime(job.created)) for form in ("%Y-%m-%d", "%H%M%S"))
        return home(self.outputs, job.owner) / day / f"{hour}-{job.id[:6]}"

    def _go_on_from(self, job: Job) -> Past | None:
        """The steps a job was given, or took before it rested; None: it begins at the beginning."""
        path = self.trajectory_path(job)
        if job.rested and path.is_file():
            try:
                run = Trajectory(path)
                if run.taken and run.request.replace(precision=job.request.precision) == job.request:
                    return Past.resume(run)
            except LoomError as error:
                log.warning("job %s begins anew: %s", job.id, error)
        job.steps, job.own_x0 = [], []
        return job.past

    def _take(self, job: Job, step: Step, previewer: Previewer | None) -> None:
        if step.index < len(job.steps):  # taken before it rested, and shown
            return

        def change() -> None:
            if step.regions_x0:
                job.own_x0.append(step.regions_x0)
            if job.preview.decoder != "none":
                job.without_frame.add(step.index)  # before the step is seen by those who hold no lock
            job.steps.append(StepInfo.of(step))
            job.loading = False

        self._hooks.tell(job, change)
        if previewer:
            previewer.put(step.index, step.x0)

    def _record(self, job: Job, recorder: Recorder | None, step: Step) -> Recorder | None:
        """Keep a step; when the disk says no, the run goes on without a trajectory."""
        if recorder is None or not step.record:
            return recorder
        try:
            recorder.add(step)
            job.trajectory = recorder.path
            return recorder
        except LoomError as error:
            log.warning("the steps of job %s are no longer kept: %s", job.id, error)
            job.note, job.trajectory = f"The run goes on, its steps are not kept. {error}", None
            recorder.close() if job.resumes else recorder.drop()  # what was there before stays
            return None

    def _reached(self, job: Job, runner: Runner) -> Done:
        """What a job would have given had it been stopped after its last kept step."""
        run = Trajectory(self.trajectory_path(job))
        last = run.steps[-1]
        x0 = run.x0(last.index)
        pictures = runner.decode(x0, run.request, "vae", run.outline.model)
        return Done(pictures, x0, last.seconds, last.evaluations, run.taken, True, run.request.precision)

    def _finish(self, job: Job, done: Done, runner: Runner, previewer: Previewer | None) -> None:
        if job.unwanted:
            self._hooks.end(job, "discarded")
            return
        job.seconds, job.latents = done.seconds, done.latents
        job.note = " ".join(filter(None, (job.note, done.note)))
        job.results = self._save(job, done)
        job.scores = runner.scores(done, job.request)
        if previewer and previewer.budget is None:  # every step is shown, then the picture
            previewer.finish()
            previewer.wait()
        self._hooks.end(job, "stopped" if done.stopped else "done")

    def _save(self, job: Job, done: Done) -> list[Path]:
        """Into the outputs folder; where that cannot be, among the previews, so that it can be taken away at least."""
        try:
            return saving.save_pictures(job, done, self._stem(job), self.outputs)
        except OutputError as error:
            try:
                paths = saving.save_pictures(job, done, job.frames_dir / self._stem(job).name, job.frames_dir)
            except OutputError:
                raise error from None
            job.unsaved, job.note = bool(paths), f"{error} The picture is kept only until the studio closes: " \
                                                 "download it."
            return paths
