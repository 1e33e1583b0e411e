"""A comparison on disk, so that it survives the studio: what was asked for, and of every cell where its files lie.

    comparison-HHMMSS-xxxxxx/comparison.json     id, preview, specification
    comparison-HHMMSS-xxxxxx/cells/007.json      request, state, evaluations, seconds, figures, names of its files
    comparison-HHMMSS-xxxxxx/cells/007.npy       final latents (references: reference-1.json, .npy)

Pictures and trajectories stay where every run's are. A cell counts as finished only if its picture is there and says in
its metadata that it was made by this very request; nothing in these files is believed without a look.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core import metadata
from core.compare import Comparison
from core.comparing import FIGURES
from core.contest import Contest
from core.errors import BadRequest, LoomError
from core.export import KINDS
from core.files import disk_errors, write_text
from core.job import Job
from core.request import Preview, Request, StepInfo
from core.trajectory import SUFFIX, Trajectory

NAME = "comparison.json"
MAX_BYTES = 1_000_000  # of a record; a specification with a prompt of 2,000 letters takes less than 10,000
MAX_LISTED = 500  # records that are opened for one list
FILES = ("grid.png", "results.csv", "results.json", "sets.csv",
         *(f"grid{kind.suffix}" for kind in KINDS.values() if kind.moves))


class Entry(NamedTuple):
    """A recorded comparison in a list."""

    id: str
    created: float
    spec: Mapping[str, Any]


# -- writing, in the comparison's own thread


def begin(contest: Contest) -> None:
    """Raises OutputError."""
    about = {"id": contest.id, "created": round(contest.created, 3), "preview": contest.preview.decoder,
             "spec": dict(contest.spec)}
    with disk_errors("comparison", contest.folder):
        contest.folder.mkdir(parents=True, exist_ok=True)
        write_text(contest.folder / NAME, json.dumps(about, indent=1, ensure_ascii=False))


def write(contest: Contest, name: str, job: Job, outputs: Path,
          figures: Mapping[str, float] | None = None) -> None:
    """Note a cell's (or reference's) job, whatever its state. Raises OutputError."""
    if not contest.spec:
        return
    about: dict[str, Any] = {
        "request": job.request.to_dict(), "job": job.id, "state": job.state,
        "picture": _relative(job.results[0], outputs) if job.results else "",
        "trajectory": _relative(job.past.run.path if job.resumes and job.past else job.trajectory, outputs),
        "error": str(job.error) if job.error else "", "seconds": round(job.seconds, 4),
        "steps": [[step.timestep, step.sigma, step.seconds, step.evaluations] for step in job.steps],
        "figures": {key: value if math.isfinite(value) else None for key, value in (figures or {}).items()}}
    folder = contest.folder / "cells"
    with disk_errors("comparison", folder):
        folder.mkdir(parents=True, exist_ok=True)
        latents = folder / f"{name}.npy"
        if job.state == "done" and job.latents is not None and not figures:
            draft = latents.with_name(f".{secrets.token_hex(4)}.npy")
            np.save(draft, job.latents)
            draft.replace(latents)
        write_text(folder / f"{name}.json", json.dumps(about, ensure_ascii=False))


def cell_name(k: int) -> str:
    return f"{k + 1:03d}"


# -- finding


def listed(outputs: Path) -> list[Entry]:
    """The recorded comparisons, newest first. What cannot be read is passed over."""
    found = []
    paths = sorted(Path(outputs).glob(f"*/comparison-*/{NAME}"), key=lambda path: path.parts[-3:], reverse=True)
    for path in paths[:MAX_LISTED]:
        with contextlib.suppress(LoomError, OSError):
            about = _json(path)
            found.append(Entry(str(about["id"]), float(about["created"]), about["spec"]))
    return sorted(found, key=lambda entry: entry.created, reverse=True)


def find(identity: str, outputs: Path) -> Path | None:
    """The record of a comparison, by its id."""
    if not re.fullmatch(r"[\w-]{6,40}", identity):
        return None
    for path in sorted(Path(outputs).glob(f"*/comparison-*-{identity[:6]}/{NAME}")):
        with contextlib.suppress(LoomError):
            if _json(path, complete=False).get("id") == identity:
                return path
    return None


def of_picture(path: Path, outputs: Path) -> str:
    """The id of the comparison that a picture is a cell or the grid of; "" when it is of none.

    Looked for beside the picture, and where a comparison lies that began the day before.
    """
    path = path.resolve()
    records = [path.parent / NAME] if path.name in FILES else []
    if not records:
        mark = json.dumps(_relative(path, outputs.resolve()), ensure_ascii=False)
        days = sorted(day for day in outputs.glob("????-??-??") if day.name <= path.parent.name)
        for cell in (cell for day in days[-2:] for cell in day.glob("comparison-*/cells/*.json")):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                if cell.stat().st_size < MAX_BYTES and f'"picture": {mark}' in cell.read_text(encoding="utf-8"):
                    records.append(cell.parent.parent / NAME)
    for record in records:
        with contextlib.suppress(LoomError, FileNotFoundError):
            return str(_json(record)["id"])
    return ""


# -- reading


def read(path: Path, outputs: Path, frames: Path, plan: Callable[[dict[str, Any]], Comparison],
         owner: str = "") -> Contest:
    """A comparison as it was left. Cells that are not (or no longer) whole are missing, and `error` says so.

    frames: a folder for previews. Raises LoomError for a record that cannot be read or planned.
    """
    about = _json(path)
    try:
        comparison, preview = plan(dict(about["spec"])), Preview(str(about.get("preview", "none")))
        if not any(cell.request for cell in comparison.cells):
            raise BadRequest(comparison.cells[0].error)
    except LoomError as error:
        raise BadRequest(f"The comparison in {path.parent.name} cannot be opened. {error}") from None
    contest = Contest(str(about["id"]), comparison, preview, path.parent, owner, about["spec"],
                      created=float(about["created"]))
    lost = 0
    for k, cell in enumerate(comparison.cells):
        if cell.request:
            contest.jobs[k], contest.figures[k], gone = _cell(contest, cell_name(k), cell.request, outputs, frames)
            lost += gone
    for own in sorted((path.parent / "cells").glob("reference-*.json")):
        with contextlib.suppress(LoomError):
            request = Request.parse(_json(own, complete=False).get("request", {}))
            job, _, _ = _cell(contest, own.stem, request, outputs, frames)
            if job and job.state == "done":
                contest.references[request] = job
    contest.files = [path.parent / name for name in FILES if (path.parent / name).is_file()]
    contest.state = "stopped" if contest.missing() else "done"
    if lost:
        s = "s" * (lost != 1)
        contest.error = (f"{lost} finished cell{s} cannot be found again: the picture is gone, or it was changed. "
                         "Resume makes what is missing.")
    return contest


def _cell(contest: Contest, name: str, request: Request, outputs: Path,
          frames: Path) -> tuple[Job | None, dict[str, float], bool]:
    """(its job as far as it came, its figures, whether it was finished once and is no longer)."""
    own = contest.folder / "cells" / f"{name}.json"
    try:
        about = _json(own, complete=False)
        if Request.parse(about["request"]) != request:
            return None, {}, about.get("state") == "done"
        job = _job(about, request, contest.preview, outputs, frames)
    except FileNotFoundError:  # it had not begun
        return None, {}, False
    except (LoomError, KeyError, ValueError, TypeError, OSError):
        return None, {}, True
    if job and job.state == "done":
        with contextlib.suppress(OSError, ValueError, EOFError):
            latents = np.load(own.with_suffix(".npy"))  # no pickles: what is not plain numbers is refused
            job.latents = latents if latents.ndim == 4 and latents.dtype == np.float32 else None
        return job, _figures(about), False
    return job, {}, about.get("state") == "done"


def _job(about: Mapping[str, Any], request: Request, preview: Preview, outputs: Path, frames: Path) -> Job | None:
    identity = str(about.get("job", ""))
    run = _trajectory(str(about.get("trajectory", "")), identity, request, outputs)
    job = Job(secrets.token_urlsafe(12), request, preview, frames / f"again-{secrets.token_urlsafe(12)}",
              trajectory=run.path if run else None)
    picture = _inside(outputs, about.get("picture"))
    if about.get("state") == "done" and picture and _made_by(picture, request):
        job.state, job.results = "done", [picture]
    elif about.get("state") == "failed":
        job.state, job.error = "failed", LoomError(str(about.get("error", ""))[:400])
    elif run and run.taken:  # stopped, or the studio ended in the middle of it
        job.state = "stopped"
    else:
        return None
    job.steps = list(run.steps) if run else [StepInfo(k, request.steps, *_numbers(row))
                                             for k, row in enumerate(about.get("steps", [])[:request.steps])]
    job.seconds = _finite(about.get("seconds", 0))
    job.without_frame = set(range(len(job.steps)))
    return job


def _trajectory(name: str, identity: str, request: Request, outputs: Path) -> Trajectory | None:
    """The kept steps of a run, by their file's name or, for one that was noted before it had one, by its job's."""
    paths = [_inside(outputs, name)] if name else []
    if not name and re.fullmatch(r"[\w-]{6,40}", identity):
        paths += sorted(outputs.glob(f"*/??????-{identity[:6]}-{request.seed}{SUFFIX}"))
    for path in filter(None, paths):
        with contextlib.suppress(LoomError, OSError):
            run = Trajectory(path, check=False)
            if run.request.replace(precision=request.precision) == request:
                return run
    return None


def _made_by(picture: Path, request: Request) -> bool:
    """Whether a picture says of itself that this request made it. Its precision is the resolved one."""
    try:
        return metadata.read_png(picture).replace(precision=request.precision) == request.single(0)
    except LoomError:
        return False


def _figures(about: Mapping[str, Any]) -> dict[str, float]:
    found = about.get("figures")
    numbers = {key: float("inf") if value is None else value for key, value in found.items()} \
        if isinstance(found, dict) else {}
    return {key: float(value) for key, value in numbers.items()
            if key in FIGURES and type(value) in (int, float) and not math.isnan(value)}


def _numbers(row: Any) -> tuple[float, float, float, int]:
    timestep, sigma, seconds, evaluations = map(_finite, row)
    return timestep, sigma, seconds, int(evaluations)


def _finite(value: Any) -> float:
    """Raises ValueError for what is no number from 0 on."""
    if type(value) not in (int, float) or not 0 <= value < 1e12:
        raise ValueError(value)
    return float(value)


def _json(path: Path, complete: bool = True) -> dict[str, Any]:
    """complete: with all that a record of a comparison needs. Raises BadRequest, FileNotFoundError."""
    damaged = BadRequest(f"The record {path.parent.name}/{path.name} is damaged: the pictures of its comparison are in "
                         "the outputs folder.")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise damaged
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError):
        raise damaged from None
    if not isinstance(about, dict) or complete and not (
            isinstance(about.get("spec"), dict) and isinstance(about.get("id"), str)
            and type(about.get("created")) in (int, float) and math.isfinite(about["created"])):
        raise damaged
    return about


def _inside(outputs: Path, name: object) -> Path | None:
    """A file below the outputs folder by its relative name."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        path = (outputs / str(name or ".")).resolve()
        if path.is_relative_to(outputs.resolve()) and path.is_file():
            return path
    return None


def _relative(path: Path | None, outputs: Path) -> str:
    if path is None:
        return ""
    path = path.resolve()
    return path.relative_to(outputs).as_posix() if path.is_relative_to(outputs) else ""
