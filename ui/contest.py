"""Comparisons: what stands in the form -> a specification; a contest -> what the page shows of it.

Every state is whole and small; pixels travel as addresses of files.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from core import samplers
from core.compare import Comparison, prepare, reference_of, shown, warnings
from core.contests import Contest
from core.errors import BadRequest
from core.grid import row_labels
from core.job import Job
from core.layout import predicted_evaluations
from core.models.catalogue import ModelInfo
from core.request import Request
from ui import form
from ui.components.base import file_url
from ui.studio import Studio

State = dict[str, Any]
FEW = ("DPM++ 2M", "Euler", "Heun", "UniPC")  # to begin with: a multistep, the plainest, one that asks twice, one more
MOST_WARNINGS = 3
FIELDS = ("prompt", "negative_prompt", "model", "schedule", "guidance", "width", "height", "precision")


def first_values(studio: Studio) -> dict[str, Any]:
    """A form that asks for a sensible comparison."""
    info = studio.info(studio.model)
    start = Request(model=studio.model)
    if info:
        start = start.replace(width=info.width, height=info.height)
    decoder = "tiny" if info and info.tiny else "linear"
    return {**form.from_request(start), "samplers": list(FEW), "steps": "5 10 20", "seeds": "", "equal": True,
            "reference": "50", "preview": decoder}


def numbers(typed: object, field: str) -> list[Any]:
    """"5, 10 20" -> [5, 10, 20]; what is no number stays as it is, so that Request can say what is wrong."""
    values = [form.number(word) for word in re.split(r"[\s,;]+", str(typed or "").strip()) if word]
    if not values:
        raise BadRequest(f"Name one number of {field} at least, such as {'20' if field == 'steps' else '1'}.", field)
    return list(dict.fromkeys(values))


def to_spec(values: Mapping[str, Any]) -> dict[str, Any]:
    """The specification that a form asks for; a random seed is drawn here. Raises BadRequest with the field's name."""
    chosen = list(values["samplers"] or [])
    if not chosen:
        raise BadRequest("Tick a sampler at least.", "samplers")
    spec: dict[str, Any] = {name: values[name] or "" for name in FIELDS}
    spec |= {name: form.number(values[name]) for name in ("guidance", "width", "height")}
    seeds = numbers(values["seeds"], "seeds") if str(values["seeds"] or "").strip() else [form.draw_seed()]
    # the order of the axes is that of the grid: rows of samplers, then seeds; columns of steps
    spec |= {"samplers": chosen, **({"seeds": seeds} if len(seeds) > 1 else {"seed": seeds[0]})}
    return spec | {"steps": numbers(values["steps"], "steps"), "equal_evaluations": bool(values["equal"]),
                   "reference_steps": form.number(str(values["reference"] or "0"))}


def plan_of(spec: dict[str, Any], studio: Studio) -> Comparison:
    """Raises LoomError; a message about the reference is about that field."""
    try:
        return prepare(spec, studio.catalogue)
    except BadRequest as error:
        if "reference_steps" in str(error):
            raise BadRequest(str(error).replace("reference_steps", "The reference's steps", 1), "reference") from None
        raise


def flagged(comparison: Comparison) -> str:
    """One line on the cells that are known to go wrong, or cannot be made."""
    lines = warnings(comparison.cells)
    more = f" And {len(lines) - MOST_WARNINGS} more." if len(lines) > MOST_WARNINGS else ""
    return " ".join(lines[:MOST_WARNINGS]) + more


def status(comparison: Comparison, studio: Studio) -> str:
    """One line before the run: "12 cells · 478 evaluations · about 17 s"."""
    made = sum(cell.request is not None for cell in comparison.cells)
    count = evaluations(comparison, studio)
    pace = next((p for cell in comparison.cells if cell.request and (p := studio.pace(cell.request))), None)
    time = f" · about {_seconds(count * pace)}" if pace else ""
    return f"{made} cell{'s' * (made != 1)} · {count:,} evaluations{time}"


def evaluations(comparison: Comparison, studio: Studio) -> int:
    """Pictures through the network, of all cells and reference runs."""
    requests = [cell.request for cell in comparison.cells if cell.request]
    if comparison.reference_steps:
        requests += list({reference_of(request, comparison.reference_steps) for request in requests})
    total = 0
    for request in requests:
        info = studio.info(request.model)
        total += _evaluations(request, info) if info else 0
    return total


@functools.lru_cache(2_000)
def _evaluations(request: Request, info: ModelInfo) -> int:
    """Asked for all cells at every look at a running comparison."""
    return predicted_evaluations(request, info)


def empty(message: str = "") -> State:
    """The board before the first comparison."""
    return {"id": "", "state": "empty", "error": message}


def state_of(contest: Contest, studio: Studio) -> State:
    """What the board shows of a comparison."""
    comparison = contest.comparison
    columns = comparison.axes[-1]
    cells = [_cell(contest, k) for k in range(len(contest.jobs))]
    requests = [cell.request for cell in comparison.cells if cell.request]
    return {
        "id": contest.id, "version": contest.version, "state": contest.state, "phase": contest.phase,
        "line": _line(requests[0]), "exact": comparison.reference_steps,
        "rows": row_labels(comparison),
        "columns": [shown(columns.field, value, comparison.equal_evaluations) for value in columns.values],
        "grid": list(comparison.grid), "cells": cells, "width": max(request.width for request in requests),
        "height": max(request.height for request in requests), "missing": len(contest.missing()),
        "left": _left(contest, studio), "reference": _reference(contest),
        "files": [[path.name, file_url(path)] for path in contest.files], "error": contest.error,
    }


def _cell(contest: Contest, k: int) -> State:
    cell, job = contest.comparison.cells[k], contest.jobs[k]
    request = cell.request
    shown_of: State = {"label": cell.label, "state": "impossible" if request is None else "waiting",
                       "total": request.steps if request else 0, "taken": 0, "error": cell.error,
                       "sampler": request.sampler if request else str(cell.values.get("sampler", "")),
                       "random": bool(request and samplers.SAMPLERS[request.sampler].stochastic)}
    if job is None:
        return shown_of
    steps = list(job.steps)
    count = steps[-1].evaluations if steps else 0
    spent = job.seconds if job.over else steps[-1].seconds if steps else 0.0
    return shown_of | {
        "job": job.id, "state": job.state, "taken": len(steps), "total": job.total,
        "frames": file_url(job.frames_dir) if job.preview.decoder != "none" else "",
        "without": sorted(job.without_frame),
        "result": file_url(job.results[0]) if job.state == "done" and job.results else "",
        "evaluations": count, "seconds": round(spent, 3), "each": round(spent / count, 4) if count else None,
        "error": str(job.error) if job.error else "",
        **{name: value if math.isfinite(value) else "equal" for name, value in contest.figures[k].items()},
        "changes": contest.changes[k],
        # evaluations after each step, so that curves of samplers that ask twice can be laid over the others
        "after": [step.evaluations for step in steps] if contest.changes[k] else [],
    }


def _reference(contest: Contest) -> str:
    """How far the reference runs are, while they are what is waited for."""
    running: Sequence[Job] = [job for job in contest.references.values() if not job.over]
    if contest.phase != "reference" or not running:
        return ""
    return f"reference: step {len(running[-1].steps)} of {running[-1].total}"


def _left(contest: Contest, studio: Studio) -> float | None:
    """Seconds to go, from the pace so far without each run's first step, which may load much; None before there is one.
    """
    runs = [steps for job in contest.runs() if (steps := list(job.steps))]
    work = sum(steps[-1].evaluations - steps[0].evaluations for steps in runs)
    if contest.over or not work:
        return None
    pace = sum(steps[-1].seconds - steps[0].seconds for steps in runs) / work
    done = sum(steps[-1].evaluations for steps in runs)
    return round(max(evaluations(contest.comparison, studio) - done, 0) * pace, 2)


def _line(request: Request) -> str:
    prompt = f"“{request.prompt}” · " if request.prompt.strip() else ""
    return (f"{prompt}seed {request.seed} · guidance {request.guidance:g} · {request.width}×{request.height} px")


def _seconds(value: float) -> str:
    if value >= 90:
        return f"{value / 60:.0f} min"
    return f"{value:.0f} s" if value >= 2 else f"{value:.1f} s"
