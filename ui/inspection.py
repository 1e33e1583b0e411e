"""Runs -> what the inspector of the Live preview tab shows. The only adapter between kept steps and the page.

Pictures are decoded when somebody looks, by the device's thread between two steps of whatever runs, and kept as files
beside the previews; the page gets their addresses.
"""

from __future__ import annotations

import asyncio
import glob
import hashlib
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core import trajectory as trajectories
from core import views
from core.errors import BadRequest, LoomError
from core.files import disk_errors, save_jpeg
from core.jobs import Job, Jobs
from core.layout import bootstrap_steps
from core.owners import home, whose
from core.trajectory import Trajectory
from core.views import Told
from ui.components.base import file_url
from ui.languages import say
from ui.stream import previews_line, settings_line

NOW = "now"
OPEN_RUNS = 24  # whose pictures stay on disk, and whose numbers stay in memory
LISTED = 40  # runs in the list
NEW_THUMBS = 8  # of runs without a picture, decoded for one look at the list
THUMB = 96  # pixels
PACE, IDLE = 0.08, 0.5  # seconds between two looks at a run that goes on, and at an idle studio
SOURCES = ("x0", "xt")

State = dict[str, Any]


@dataclass(eq=False)
class Open:
    """A run somebody looks into."""

    kept: Trajectory
    folder: Path  # of its pictures
    numbers: dict[int, views.Numbers] = field(default_factory=dict)  # of each step
    way: list[float] | None = None  # see views.travelled, once the run is over
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Found:
    """A run by its name. A job that waits has no file yet, a kept run no job."""

    name: str
    job: Job | None
    open: Open | None

    @property
    def active(self) -> bool:
        return self.job is not None and not self.job.over

    @property
    def kept(self) -> Trajectory:
        """Raises BadRequest when nothing was kept."""
        if self.open is None or not self.open.kept.taken:
            raise BadRequest(say("inspector.none-yet"))
        return self.open.kept

    @property
    def decoder(self) -> str:
        """How its pictures are decoded: as the person asked for while it runs, at full quality afterwards."""
        if self.job is None or self.job.over:
            return "vae"
        return "linear" if self.job.preview.decoder == "none" else self.job.preview.decoder


class Inspection:
    """One for all pages."""

    def __init__(self, jobs: Jobs):
        self.jobs = jobs
        self._open: OrderedDict[Path, Open] = OrderedDict()
        self._lock = threading.Lock()
        self._turn: dict[str, int] = {}

    # -- which run

    def find(self, name: str, owner: str = "") -> Found:
        """One of somebody's runs by the name of its job, or of its file below their outputs. Raises BadRequest,
        TrajectoryError."""
        job = self.jobs.get(name)
        if job is None:
            path = (home(self.jobs.outputs, owner) / name).resolve()
            if not name.endswith(trajectories.SUFFIX) or whose(path, self.jobs.outputs) != owner or not path.is_file():
                raise BadRequest(say("inspector.gone"))
            return Found(name, self._job_of(path), self.look_into(path))
        if job.owner != owner:
            raise BadRequest(say("inspector.gone"))
        has = job.trajectory is not None and job.trajectory.is_file()
        return Found(name, job, self.look_into(job.trajectory) if has and job.trajectory else None)

    def current(self, owner: str = "") -> Found | None:
        """The run that is being made, else the next one, else the last one; of somebody's."""
        job = self._newest(owner)
        return self.find(job.id, owner) if job else None

    def _newest(self, owner: str) -> Job | None:
        known = [job for job in self.jobs.known() if job.owner == owner]
        return next((job for state in ("running", "waiting") for job in known if job.state == state),
                    known[-1] if known else None)

    def _job_of(self, path: Path) -> Job | None:
        """The last job that wrote this file."""
        return next((job for job in reversed(self.jobs.known()) if job.trajectory == path), None)

    def newest_kept(self, owner: str = "") -> Found | None:
        kept = trajectories.runs(home(self.jobs.outputs, owner))
        return self.find(self.name_of(kept[0].path), owner) if kept else None

    def name_of(self, path: Path) -> str:
        """A kept run's name: that of its job while the studio knows it, else its place below the outputs."""
        job = self._job_of(path.resolve())
        return job.id if job else self._place(path)

    def _place(self, path: Path) -> str:
        """Below the outputs of whoever it belongs to."""
        return path.resolve().relative_to(home(self.jobs.outputs, self._owner(path)).resolve()).as_posix()

    def _owner(self, path: Path) -> str:
        return whose(path, self.jobs.outputs) or whose(path, self.jobs.frames) or ""

    def look_into(self, path: Path) -> Open:
        """The run in a file, as far as it has come. Raises TrajectoryError."""
        path = path.resolve()
        with self._lock:
            found = self._open.get(path)
            if found is None:
                digest = hashlib.sha256(str(path).encode()).hexdigest()[:16]
                folder = home(self.jobs.frames, self._owner(path)) / f"seen-{digest}"
                found = self._open[path] = Open(Trajectory(path, check=False), folder)
            self._open.move_to_end(path)
            while len(self._open) > OPEN_RUNS:
                _, old = self._open.popitem(last=False)
                shutil.rmtree(old.folder, ignore_errors=True)
        with found.lock:
            if not found.kept.whole:
                found.kept.refresh()
        return found

    # -- what the page is told

    async def follow(self, page: str, name: str, place: str = "", owner: str = "") -> AsyncIterator[State]:
        """A run and every change of it; with "now" whatever is being made. A later follower of the page takes over.

        place: where the run that was in sight before is kept: the studio may have been started anew since.
        """
        turn = self._turn[page] = self._turn.get(page, 0) + 1
        shown: tuple[Any, ...] = ()
        try:
            while self._turn.get(page) == turn:
                found, state = None, empty()
                mark: tuple[Any, ...] = ("",)
                try:
                    found = await asyncio.to_thread(self._wanted, name, place, owner, first=not shown)
                    if found:
                        mark = (found.name, found.job and found.job.version, found.open and found.open.kept.taken)
                        state = await asyncio.to_thread(self.state, found) if mark != shown else state
                except LoomError as problem:
                    found, state, mark = None, empty(str(problem)), (str(problem),)
                if mark != shown and (found or not shown):
                    shown = mark
                    yield {**state, "of": name}  # gradio tells the last one again when a follower ends
                if name != NOW and not (found and found.active):
                    return
                await asyncio.sleep(PACE if found and found.active else IDLE)
        finally:
            if self._turn.get(page) == turn:
                del self._turn[page]

    def _wanted(self, name: str, place: str, owner: str, first: bool) -> Found | None:
        """What a follower looks at now. first: it has seen nothing yet, so an old run is better than none."""
        if name != NOW:
            try:
                return self.find(name, owner)
            except LoomError:
                if not place:
                    raise
                return self.find(place, owner)
        found = self.current(owner)
        if not first or (found and (found.active or found.open)):
            return found
        try:
            return self.find(place, owner) if place else self.newest_kept(owner)
        except LoomError:
            return self.newest_kept(owner)

    def state(self, found: Found) -> State:
        """All the page needs of a run, whole, as JSON."""
        job, kept = found.job, found.open.kept if found.open else None
        request = kept.request if kept else job.request if job else None
        assert request is not None
        taken = min(kept.taken, len(job.steps)) if kept and found.active and job else kept.taken if kept else 0
        if job and job.previewing and job.preview.decoder != "auto":  # a step counts once its frame is there
            taken = min([taken, *list(job.without_frame)])
        frames = ""
        if job and found.decoder == job.preview.decoder and job.frame(0).exists():
            frames = "" if any(k < taken for k in list(job.without_frame)) else file_url(job.frames_dir)
        kind = job.state if job else "done" if kept and kept.whole else "stopped"
        made = job.created if job else kept.path.stat().st_mtime if kept else time.time()
        return {
            "run": found.name, "version": job.version if job else 0, "state": kind, "kept": taken > 0,
            "total": kept.total if kept else request.steps, "width": request.width, "height": request.height,
            "batch": request.batch, "prompt": request.prompt, "line": f"{when(made)} · {settings_line(request)}",
            "left": job.seconds_left if job and found.active else None,
            "seconds": round(job.seconds, 2) if job else round(kept.steps[-1].seconds, 2) if kept and taken else 0,
            "error": str(job.error) if job and job.error else "", "note": job.note if job else "",
            "previews": previews_line(job) if job else "",
            "steps": self._rows(found.open, taken, over=not found.active) if found.open else [],
            "frames": frames, "decoder": found.decoder,
            "parent": self._parent(found),
            "resumable": bool(kept and not found.active and 0 < taken < kept.total),
            "regions": bool(request.regions), "latents": file_url(kept.path) if kept else "",
            "file": kept.path.name if kept else "", "place": self._place(kept.path) if kept else "",
            "asked": {"prompt": request.prompt, "negative_prompt": request.negative_prompt,
                      "guidance": f"{request.guidance:g}", "seed": str(request.seed), "sampler": request.sampler},
        }

    def _rows(self, run: Open, taken: int, over: bool) -> list[list[Any]]:
        """For each step: sigma, timestep, ms, change, guidance, evaluations, sentence."""
        kept, rows = run.kept, []
        boot = bootstrap_steps(kept.request)
        with run.lock:
            if over and run.way is None:
                run.way = views.travelled(kept)
            way = run.way if over else None
            for k in range(taken):
                if k not in run.numbers:
                    run.numbers[k] = views.numbers(kept, k)
                seen, step = run.numbers[k], kept.steps[k]
                words = sentence(views.phase(seen, kept.total, k < boot),
                                 views.progress(seen, way[k] if way and k < len(way) else None))
                rows.append([round(seen.sigma, 4), round(step.timestep, 1), round(seen.milliseconds, 1),
                             _rounded(seen.change), _rounded(seen.guidance), step.evaluations, words])
        return rows

    def _parent(self, found: Found) -> State | None:
        """{"run", "step"} of a fork's parent, also before its own first step; run is empty when its file is gone."""
        kept = found.open.kept.parent if found.open else None
        forked = (kept.file, kept.step) if kept else found.job.forked if found.job else None
        if forked is None:
            return None
        owner = found.job.owner if found.job else self._owner(found.kept.path)
        places = home(self.jobs.outputs, owner).glob(f"*/{glob.escape(forked[0])}")
        path = next((path for path in places if path.is_file()), None)
        return {"run": self.name_of(path) if path else "", "step": forked[1]}

    def listed(self, owner: str = "") -> tuple[list[State], int]:
        """Somebody's runs for the list, newest first, what is being made before all; and how many more there are."""
        running = self._newest(owner)
        busy = running is not None and not running.over
        rows = [{"run": NOW, "now": True, "thumb": "",
                 "prompt": running.request.prompt if busy and running else say("inspector.whatever"),
                 "words": _progress(running) if busy and running else say("inspector.nothing-now")}]
        kept = trajectories.runs(home(self.jobs.outputs, owner))
        for run in kept[:LISTED]:
            words = [when(run.path.stat().st_mtime),
                     say("inspector.steps" if run.whole else "inspector.steps-of", n=run.total, step=run.taken),
                     say("settings.seed", seed=run.request.seed)]
            if run.parent:
                words.append(say("inspector.is-branch"))
            rows.append({"run": self.name_of(run.path), "now": False, "prompt": run.request.prompt,
                         "words": " · ".join(words), "thumb": ""})
        return rows, max(0, len(kept) - LISTED)

    # -- pictures

    async def frame(self, found: Found, k: int, source: str, picture: int, decoder: str) -> Path:
        """The JPEG of x0 or x_t at step k (from 0). Raises BadRequest, TrajectoryError, OutputError."""
        kept = found.kept
        views.check_step(kept, k, picture)
        if source not in SOURCES:
            raise BadRequest(f"No source named {source[:40]!r}: choose x0 or xt.")
        assert found.open is not None
        job = found.job
        if job and source == "x0" and decoder == job.preview.decoder and job.frame(k, picture).exists():
            return job.frame(k, picture)
        path = found.open.folder / f"{source}-{decoder}-{k:03d}-{picture}.jpg"
        if not path.exists():
            latents = await asyncio.to_thread(kept.x0 if source == "x0" else kept.x_t, k)
            shown = await self.jobs.decode(latents[picture:picture + 1], kept.request, decoder, kept.outline.model)
            await asyncio.to_thread(write, shown[0], path)
        return path

    def has_thumb(self, found: Found) -> bool:
        return found.open is not None and _thumb(found.open).exists()

    async def thumb(self, found: Found) -> str:
        """The address of a small picture of a run's last step; "" before the first."""
        if found.open is None or not found.open.kept.taken:
            return ""
        path = _thumb(found.open)
        if not path.exists():
            with Image.open(await self.frame(found, found.open.kept.taken - 1, "x0", 0, found.decoder)) as image:
                image.thumbnail((THUMB, THUMB))
                await asyncio.to_thread(write, np.asarray(image.convert("RGB")), path)
        return file_url(path)


def _thumb(run: Open) -> Path:
    return run.folder / f"thumb-{run.kept.taken}.jpg"


def write(picture: np.ndarray, path: Path) -> None:
    with disk_errors("previews", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        own = path.with_name(f"{secrets.token_hex(4)}-{path.name}")  # two pages may want the same one
        save_jpeg(picture, own)
        own.replace(path)


def empty(message: str = "") -> State:
    """The inspector before the first run. message: why it is empty, if that needs saying."""
    return {"run": "", "state": "empty", "error": message, "steps": [], "version": 0}


def told(what: Told | str) -> str:
    """A label or a line of a view."""
    return what if isinstance(what, str) else say(f"inspector.seen.{what.name}", **what.values)


def sentence(phase: Told, progress: Told | None) -> str:
    """What is seen at a step, in plain words."""
    first = say(f"inspector.phases.{phase.name}", **phase.values)
    if progress is None:
        return first
    return say("inspector.sentences", first=first, second=say(f"inspector.phases.{progress.name}", **progress.values))


def when(moment: float) -> str:
    """A moment as people say it: the time, before today with its date."""
    local = time.localtime(moment)
    today = time.localtime()[:3] == local[:3]
    return time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M", local)


def _progress(job: Job) -> str:
    if job.state == "waiting":
        return say("inspector.waits")
    return say("progress.paused-after" if job.state == "paused" else "progress.step", step=len(job.steps),
               total=job.total)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
