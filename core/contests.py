"""Comparisons in the queue: every cell an ordinary job, a few at a time, so that other people's runs come between.

Cells first, then the reference runs, then the figures; tables and the labelled grid land beside the day's pictures.
A comparison that was stopped, lost cells to errors, or was cut short by the studio's end, goes on with what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
import shutil
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core import compare, comparing, contestfile, export, grid, gridfilm, metrics, planes
from core.compare import Comparison, reference_of
from core.comparing import Score, Weights
from core.contest import Contest, Film, result_of
from core.errors import BadRequest, LoomError
from core.files import disk_errors
from core.job import Job
from core.jobs import Jobs
from core.owners import home
from core.redraw import redraw
from core.request import Preview, Request
from core.trajectory import Trajectory

log = logging.getLogger(__name__)

AHEAD = 2  # cells in the queue at once: the device never waits, and others wait for two cells at most
KEPT = 4  # comparisons whose frames are kept
MAX_CELLS = 150
LOOK = 0.12  # seconds between looks at a comparison that is watched
Sets = Callable[[Comparison, Sequence[Sequence[Path]], Sequence[Sequence[Path]]], list[dict[str, Any]]]
LISTED = 12  # recent comparisons that are offered


class Contests:
    """The comparisons of a studio. score: prompt against picture, for the model of a comparison, or None; it is asked
    for in the comparison's own thread, where a heavy import holds nobody up. plan: a recorded specification -> cells.
    weights: the name of a model -> the fingerprint of its weights. sets: the figures of its sets of pictures, as
    `core.sets.figures`, from the files of every cell and of its reference.
    """

    def __init__(self, jobs: Jobs, score: Callable[[Comparison], Score | None] = lambda comparison: None,
                 plan: Callable[[dict[str, Any]], Comparison] = compare.plan, weights: Weights | None = None,
                 sets: Sets = lambda comparison, pictures, references: []):
        self.queue, self._score, self._plan, self._weights, self._sets = jobs, score, plan, weights, sets
        self._known: OrderedDict[str, Contest] = OrderedDict()
        self._lock, self._opening = threading.Lock(), threading.Lock()
        self._listed: dict[str, list[contestfile.Entry]] = {}  # by owner: of the disk, once it was looked at

    def start(self, comparison: Comparison, preview: Preview | None = None, owner: str = "",
              spec: Mapping[str, Any] | None = None) -> Contest:
        """Begin to make a comparison. spec: what it was planned from; with it, it is recorded and survives the studio.

        Raises BadRequest for more cells than can be shown at once, OutputError.
        """
        check_size(comparison)
        identity = secrets.token_urlsafe(12)
        day = home(self.queue.outputs, owner) / time.strftime("%Y-%m-%d")
        folder = day / f"comparison-{time.strftime('%H%M%S')}-{identity[:6]}"
        contest = Contest(identity, comparison, preview or Preview(), folder, owner, dict(spec or {}))
        if spec:
            before = self.recent(owner)
            contestfile.begin(contest)
            self._listed[owner] = [contestfile.Entry(identity, contest.created, contest.spec), *before][:LISTED]
        self._add(contest)
        self._begin(contest)
        return contest

    def resume(self, contest: Contest) -> None:
        """Make what is missing. Harmless while it runs."""
        with self._lock:
            if not contest.resumable or contest.forgotten:
                return
            contest.state, contest.error, contest.film, contest.planes = "running", "", None, []
            contest.cancel = threading.Event()
        self._begin(contest)

    def stop(self, contest: Contest) -> None:
        """Stop before the next network call; finished cells stay."""
        contest.cancel.set()
        for job in contest.runs():
            self.queue.stop(job.id)
        contest.changed += 1

    def animate(self, contest: Contest, kind: str) -> None:
        """Begin to make the animated grid, of `core.export.KINDS`. Harmless while one is made. Raises BadRequest."""
        if not export.KINDS[kind].moves:
            raise BadRequest("An animated grid is a film: choose WebP, MP4 or GIF.")
        with self._lock:
            if not contest.over:
                raise BadRequest("The cells are still being made: wait for them, or stop the comparison.")
            if contest.film and not contest.film.over:
                return
            film = contest.film = Film(kind)
        contest.changed += 1
        threading.Thread(target=self._animate, args=[contest, film], name="animated grid", daemon=True).start()

    def get(self, identity: str, owner: str = "") -> Contest | None:
        """One of somebody's comparisons by its id, if need be as it was left on disk. Raises LoomError for a record
        that is damaged."""
        with self._opening:
            if identity in self._known:
                return self.known(identity, owner)
            outputs = home(self.queue.outputs, owner)
            path = contestfile.find(identity, outputs)
            if path is None:
                return None
            contest = contestfile.read(path, self.queue.outputs, home(self.queue.frames, owner), self._plan, owner)
            contest.restoring = True
            if self._weights and _of_other_weights(contest, self._weights):
                contest.stale = True
                contest.error = "These cells were made with other weights than those that are here now: compare anew."
            self._add(contest)
        threading.Thread(target=self._restore, args=[contest], name="comparison, again", daemon=True).start()
        return contest

    def known(self, identity: str, owner: str = "") -> Contest | None:
        """One of somebody's comparisons that was made or opened in this studio lately."""
        contest = self._known.get(identity)
        return contest if contest and contest.owner == owner else None

    def recent(self, owner: str = "") -> list[contestfile.Entry]:
        """Somebody's last recorded comparisons, newest first."""
        if owner not in self._listed:
            self._listed[owner] = contestfile.listed(home(self.queue.outputs, owner))[:LISTED]
        return self._listed[owner]

    async def watch(self, contest: Contest) -> AsyncIterator[Contest]:
        """The comparison now and after every change until it has settled; fast changes arrive as one."""
        seen = -1
        while True:
            settled = contest.settled
            version = contest.version
            if settled or version != seen:
                seen = version
                yield contest
            if settled:
                return
            await asyncio.sleep(LOOK)

    def _add(self, contest: Contest) -> None:
        """Known from now on; the oldest that are over make room."""
        with self._lock:
            self._known[contest.id] = contest
            over = [old for old in self._known.values() if old.over and old is not contest]
            for old in over[: max(0, len(self._known) - KEPT)]:
                del self._known[old.id]
                old.forgotten = True
                for job in old.runs():
                    job.held = False
                    if self.queue.get(job.id) is None:  # of a comparison that was opened again: nobody else's
                        shutil.rmtree(job.frames_dir, ignore_errors=True)

    # -- in the comparison's own thread

    def _begin(self, contest: Contest) -> None:
        contest.changed += 1
        threading.Thread(target=self._work, args=[contest], name="comparison", daemon=True).start()

    def _work(self, contest: Contest) -> None:
        try:
            self._make(contest)
            self._measure(contest)
        except LoomError as error:
            contest.error = str(error)
        except Exception as error:  # our own mistake: the cells that there are stay
            log.exception("comparison %s failed", contest.id)
            contest.error = (f"Something broke inside the studio ({type(error).__name__}). The server's log has the "
                             "details; the finished cells are kept.")
        contest.changed += 1
        # state last: it is what watchers wait for
        contest.state = "stopped" if contest.error or contest.cancel.is_set() else "done"

    def _make(self, contest: Contest) -> None:
        contest.phase = "cells"
        pending: deque[int] = deque()
        for k in contest.missing():
            if len(pending) == AHEAD:
                self._end(contest, pending.popleft())
            if contest.cancel.is_set():
                break
            before = contest.jobs[k]
            contest.jobs[k] = job = self._submit(contest, contest.request(k), contest.preview, before)
            contest.changed += before.version + 1 if before else 1  # the new job counts from nothing
            self._note(contest, contestfile.cell_name(k), job)
            pending.append(k)
        for k in pending:
            self._end(contest, k)

    def _submit(self, contest: Contest, request: Request, preview: Preview, before: Job | None = None) -> Job:
        """A job for a cell; one that was stopped before goes on from its kept steps."""
        job = None
        if before and before.state == "stopped" and before.trajectory:
            with contextlib.suppress(LoomError):  # the file is gone, or of other weights: from the beginning then
                job = self.queue.submit_resume(before.trajectory, preview, contest.owner)
        job = job or self.queue.submit(request, preview, contest.owner)
        job.held = True
        if before:
            before.held = False
        if contest.cancel.is_set():  # set while the job was on its way: `stop` did not see it
            self.queue.stop(job.id)
        return job

    def _end(self, contest: Contest, k: int) -> None:
        job = contest.jobs[k]
        assert job is not None
        self.queue.wait(job)
        contest.changes[k] = _changes(job)
        contest.changed += 1
        self._note(contest, contestfile.cell_name(k), job)

    def _note(self, contest: Contest, name: str, job: Job, figures: Mapping[str, float] | None = None) -> None:
        """Into the record. A disk that refuses costs the way back after a restart, not the comparison."""
        try:
            contestfile.write(contest, name, job, self.queue.outputs, figures)
        except LoomError as error:
            log.warning("%s", error)

    def _measure(self, contest: Contest) -> None:
        """Reference runs, figures, paths, tables and grid, of the cells that there are."""
        steps, done = contest.comparison.reference_steps, contest.done()
        for k in done if steps else []:
            wanted = reference_of(contest.request(k), steps)
            before = contest.references.get(wanted)
            if contest.cancel.is_set() or (before and before.state in ("done", "failed")):
                continue
            contest.phase = "reference"
            contest.references[wanted] = job = self._submit(contest, wanted, Preview("none"), before)
            contest.changed += before.version + 1 if before else 1
            self.queue.wait(job)
            self._note(contest, f"reference-{list(contest.references).index(wanted) + 1}", job)
            if job.error:
                contest.error = f"The reference of {steps} steps could not be made: {job.error}"
        if not done:
            return
        contest.phase = "figures"
        contest.changed += 1
        contest.planes = planes_of(contest)
        contest.changed += 1
        score = self._score(contest.comparison)
        for k in done:
            contest.figures[k] = self._figures(contest, k, done, score)
            job_of = contest.jobs[k]
            assert job_of is not None
            self._note(contest, contestfile.cell_name(k), job_of, contest.figures[k])
        with disk_errors("tables", contest.folder):
            contest.folder.mkdir(parents=True, exist_ok=True)
            for kind in export.KINDS.values():  # films of fewer cells
                if kind.moves:
                    (contest.folder / f"grid{kind.suffix}").unlink(missing_ok=True)
        comparing.write_tables(contest.rows(), contest.folder)
        results = [contest.result(k) for k in range(len(contest.jobs))]
        grid.save(comparing.sheet(contest.comparison, results), contest.folder / "grid.png")
        contest.files = [contest.folder / name for name in ("grid.png", "results.csv", "results.json")]
        if rows := self._sets(contest.comparison, *files_of(contest)):
            comparing.write_tables(rows, contest.folder, "sets")
            contest.files.append(contest.folder / "sets.csv")

    def _figures(self, contest: Contest, k: int, done: list[int], score: Score | None) -> dict[str, float]:
        result, request, steps = contest.result(k), contest.request(k), contest.comparison.reference_steps
        if steps:
            job = contest.references.get(reference_of(request, steps))
            other = result_of(job, result.cell) if job and job.state == "done" else None
        else:
            other = contest.result(next(i for i in done if comparing.same_start(contest.request(i), request)))
        return comparing.figures(result, other, steps > 0, score)

    # -- in threads of their own, while the comparison's rests

    def _restore(self, contest: Contest) -> None:
        """What a comparison that was opened again has no file of: curves, paths, and the previews of its steps."""
        try:
            for k in contest.done():
                contest.changes[k] = _changes(contest.jobs[k])
            if contest.over:  # else they come with the figures
                contest.planes = planes_of(contest)
            contest.changed += 1
            for job in contest.runs() if contest.preview.decoder != "none" else []:
                redraw(self.queue, job, lambda: not contest.forgotten, functools.partial(_seen, job))
        except LoomError as error:
            log.warning("%s", error)
            contest.error = contest.error or f"The steps cannot be shown again. {error}"
        except Exception:  # our own mistake: pictures and figures are there
            log.exception("comparison %s could not be restored", contest.id)
        contest.restoring = False
        contest.changed += 1

    def _animate(self, contest: Contest, film: Film) -> None:
        def wanted() -> bool:
            return contest.film is film and not contest.forgotten

        def tell(made: int, total: int) -> None:
            film.made, film.total = made, total
            contest.changed += 1

        try:
            while wanted() and contest.restoring:  # its previews are on their way
                time.sleep(LOOK)
            for k in contest.done():
                if job := contest.jobs[k]:
                    redraw(self.queue, job, wanted)
            path = gridfilm.make(contest, film.kind, wanted, tell)
            if path and not wanted():
                path.unlink(missing_ok=True)
            elif path:
                film.path = path
                contest.files = [*(old for old in contest.files if old != path), path]
        except LoomError as error:
            film.error = str(error)
        except Exception as error:  # our own mistake
            log.exception("the animated grid of comparison %s failed", contest.id)
            film.error = (f"Something broke inside the studio ({type(error).__name__}). The server's log has the "
                          "details.")
        film.over = True
        contest.changed += 1


def check_size(comparison: Comparison) -> None:
    """Raises BadRequest for more cells than can be shown at once."""
    if len(comparison.cells) > MAX_CELLS:
        raise BadRequest(f"{len(comparison.cells)} cells are more than the page can show: take {MAX_CELLS} at "
                         "most, or make them with python -m core compare.")


def files_of(contest: Contest) -> tuple[list[Sequence[Path]], list[Sequence[Path]]]:
    """(pictures, those of the reference) of every cell; none where it is not finished."""
    pictures: list[Sequence[Path]] = [job.results if job and job.state == "done" else () for job in contest.jobs]
    steps, exact = contest.comparison.reference_steps, contest.references
    runs = [exact.get(reference_of(contest.request(k), steps)) if own and steps else None
            for k, own in enumerate(pictures)]
    return pictures, [run.results if run and run.state == "done" else () for run in runs]


def changes_of(run: Trajectory) -> list[float]:
    """How much x0 changed at each step but the first, over the size of what it was before."""
    estimates = [run.x0(k).astype(np.float64) for k in range(run.taken)]
    return [round(metrics.latent_distance(new, old), 5) for old, new in zip(estimates, estimates[1:], strict=False)]


def planes_of(contest: Contest) -> list[planes.Plane]:
    """The paths of the finished cells, and of the references, in a plane for each prompt, seed and size."""
    groups: list[tuple[Request, list[tuple[int, Trajectory]]]] = []
    finished = [(k, job) for k in contest.done() if (job := contest.jobs[k])]
    for k, job in [*finished, *((-1, job) for job in contest.references.values() if job.state == "done")]:
        if run := _kept(job):
            runs = next((runs for first, runs in groups if comparing.same_start(first, job.request)), None)
            if runs is None:
                groups.append((job.request, runs := []))
            runs.append((k, run))
    try:
        return planes.of_groups([runs for _, runs in groups if any(k >= 0 for k, _ in runs)])
    except LoomError as error:  # the plot is an extra
        log.warning("%s", error)
        return []


def _of_other_weights(contest: Contest, weights: Weights) -> bool:
    """Whether a finished cell was made with other weights than its model, or its refiner, has now."""
    jobs = [job for k in contest.done() if (job := contest.jobs[k])]
    return any((run.outline.model, run.outline.refiner) != (
        weights(job.request.model), weights(job.request.refiner) if job.request.refiner else "")
        for job in jobs if (run := _kept(job)))


def _changes(job: Job | None) -> list[float]:
    run = _kept(job) if job and job.state == "done" else None
    with contextlib.suppress(LoomError):
        return changes_of(run) if run else []
    return []


def _kept(job: Job) -> Trajectory | None:
    """Its steps; None where they were not kept, or are gone already, as on a small disk."""
    with contextlib.suppress(LoomError):
        return Trajectory(job.trajectory, check=False) if job.trajectory else None
    return None


def _seen(job: Job, k: int) -> None:
    """A job that was restored has a preview of step k now. Such a job has no other thread."""
    job.without_frame.discard(k)
    job.version += 1
