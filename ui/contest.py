"""Comparisons: what stands in the form -> a specification; a contest -> what the page shows of it.

Every state is whole and small; pixels travel as addresses of files.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core import compare, samplers
from core.compare import Cell, Comparison, prepare, reference_of, warnings
from core.contest import Contest
from core.contestfile import Entry
from core.errors import BadRequest, LoomError
from core.export import KINDS
from core.job import Job
from core.layout import predicted_evaluations
from core.models.catalogue import ModelInfo
from core.models.distilled import Advice, is_advice
from core.planes import Plane
from core.request import Request, draw_seed
from core.trajectory import SUFFIX, Trajectory
from ui import form
from ui.components.base import file_url
from ui.inspection import when
from ui.languages import say
from ui.line import roughly
from ui.studio import Studio

State = dict[str, Any]
FEW = ("DPM++ 2M", "Euler", "Heun", "UniPC")  # to begin with: a multistep, the plainest, one that asks twice, one more
USUAL = "5 10 20"  # steps
MOST_WARNINGS = 3
MOST_SEEDS = 6  # named below the grid
LATELY = 6  # runs whose pace tells how long the next ones take
FIELDS = ("prompt", "negative_prompt", "model", "schedule", "guidance", "width", "height", "precision", "clip_skip",
          "refiner")
NUMBERS = ("guidance", "width", "height", "clip_skip")


def first_values(studio: Studio) -> dict[str, Any]:
    """A form that asks for a sensible comparison."""
    info = studio.info(studio.model)
    start = form.from_request(form.first_request(studio.model, info))
    start |= {"samplers": list(FEW), "steps": USUAL, "seeds": "", "equal": True, "reference": "50",
              "preview": "tiny" if info and info.tiny else "linear"}
    return {**start, **(_told(info.advice) if info and info.advice else {})}


def advised(info: ModelInfo, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a model distilled to few steps is compared at, where nobody has chosen anything else; back to the usual
    where such a model's settings stood till now."""
    usual = {"samplers": list(FEW), "schedule": "Automatic", "steps": USUAL, "guidance": f"{Request().guidance:g}"}
    stands = {name: values[name] for name in usual}
    few = str(values["steps"] or "").split()
    made = len(few) == 3 and len(values["samplers"] or ()) == 1 and is_advice(
        values["samplers"][0], values["schedule"], form.number(few[1]), form.number(values["guidance"]))
    if info.advice and (made or stands == usual):
        return _told(info.advice)
    return usual if made else {}


def _told(advice: Advice) -> dict[str, Any]:
    steps = " ".join(str(count) for count in (max(1, advice.steps // 2), advice.steps, 2 * advice.steps))
    return {"samplers": [advice.sampler], "schedule": advice.schedule, "steps": steps,
            "guidance": f"{advice.guidance:g}"}


def from_spec(spec: Mapping[str, Any], decoder: str) -> dict[str, Any]:
    """The values of a form that asks for a comparison anew, but for the model; what the form has no field for, such as
    several guidances, is left out."""
    found: dict[str, Any] = {"refiner": ""} | {name: str(spec[name]) for name in FIELDS if name != "model"
                                               and isinstance(spec.get(name), (str, int, float))}
    for field, axis in (("sampler", "samplers"), ("steps", "steps"), ("seed", "seeds"),
                        ("refiner_from", "refiners_from")):
        values = spec.get(axis, spec.get(field))
        if values not in (None, []):
            found[axis] = values if isinstance(values, list) else [values]
    found |= {name: " ".join(map(str, found[name])) for name in ("steps", "seeds", "refiners_from") if name in found}
    if "refiners_from" in found:
        found["refiner_from"] = found.pop("refiners_from")
    return {**found, "equal": bool(spec.get("equal_evaluations")), "reference": str(spec.get("reference_steps", 0)),
            "preview": decoder}


def numbers(typed: object, field: str) -> list[Any]:
    """"5, 10 20" -> [5, 10, 20]; what is no number stays as it is, so that Request can say what is wrong."""
    values = [form.number(word) for word in re.split(r"[\s,;]+", str(typed or "").strip()) if word]
    if not values:
        raise BadRequest(say(f"compare.name-one.{field}"), field)
    return list(dict.fromkeys(values))


def to_spec(values: Mapping[str, Any]) -> dict[str, Any]:
    """The specification that a form asks for; a random seed is drawn here. Raises BadRequest with the field's name."""
    chosen = list(values["samplers"] or [])
    if not chosen:
        raise BadRequest(say("compare.tick"), "samplers")
    spec: dict[str, Any] = {name: values[name] or "" for name in FIELDS}
    spec |= {name: form.number(values[name]) for name in NUMBERS}
    seeds = numbers(values["seeds"], "seeds") if str(values["seeds"] or "").strip() else [draw_seed()]
    # the order of the axes is that of the grid: rows of samplers, then seeds, then shares refined; columns of steps
    spec |= {"samplers": chosen, **({"seeds": seeds} if len(seeds) > 1 else {"seed": seeds[0]})}
    if spec["refiner"]:
        spec["refiners_from"] = numbers(values["refiner_from"], "refiner_from")
    else:
        del spec["refiner"]
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
    """One line on the cells that are known to go wrong, or cannot be made; what is true of several is said once."""
    names = {cell.label: label(cell) for cell in comparison.cells}
    cells: dict[str, list[str]] = {}
    for line in warnings(comparison.cells):
        name, _, text = line.partition(": ")
        cells.setdefault(text, []).append(names.get(name, name))
    lines = [say("compare.flagged", cell=_several(labels), text=text) for text, labels in cells.items()]
    left = sum(len(labels) for labels in list(cells.values())[MOST_WARNINGS:])
    return " ".join(lines[:MOST_WARNINGS] + ([say("compare.flagged-more", count=left)] if left else []))


def _several(labels: Sequence[str]) -> str:
    if len(labels) == 1:
        return labels[0]
    if len(labels) == 2:
        return say("compare.two-cells", cell=labels[0], other=labels[1])
    return say("compare.more-cells", cell=labels[0], count=len(labels) - 1)


def shown(field: str, value: Any, equal: bool = False) -> str:
    """A value of an axis in words, as `core.compare.shown` says it in files. equal: steps count network calls."""
    if field in ("sampler", "model", "schedule", "prompt", "precision"):
        return compare.shown(field, value, equal)
    if field == "steps":
        return say("compare.calls" if equal else "settings.steps", n=value)
    if field == "refiner_from" and value == compare.NO_REFINER:
        return say("compare.no-refiner")
    return say(f"compare.axes.{field}", value=value)


def label(cell: Cell) -> str:
    """A cell's values in words."""
    return say("common.comma").join(shown(field, value, cell.equal) for field, value in cell.values.items())


def _rows(comparison: Comparison) -> list[str]:
    """One for each combination of values of all axes but the last, in the order of the rows."""
    values = itertools.product(*(axis.values for axis in comparison.axes[:-1]))
    return ["\n".join(shown(axis.field, value, comparison.equal_evaluations)
                      for axis, value in zip(comparison.axes, row, strict=False)) for row in values]


def status(comparison: Comparison, studio: Studio) -> str:
    """One line before the run: "12 cells · 478 evaluations · about 17 s"."""
    made = sum(cell.request is not None for cell in comparison.cells)
    count = evaluations(comparison, studio)
    pace = next((p for cell in comparison.cells if cell.request and (p := _pace(cell.request, studio))), None)
    lasts = say("time.about", time=roughly(count * pace)) if pace else say("compare.untimed")
    cells = say("compare.cells-made", n=made)
    if same := len(comparison.grid) - len(comparison.cells):
        cells = say("compare.same", cells=cells, n=same)
    return " · ".join([cells, say("compare.work", count=f"{count:,}"), lasts])


def _pace(request: Request, studio: Studio) -> float | None:
    """Seconds per evaluation of the last runs like this: of this studio, else of one that it finds on disk. Without
    each run's first step, which may load much."""
    alike = [steps for job in reversed(studio.jobs.known()) if job.over and _alike(job.request, request)
             and len(steps := list(job.steps)) > 1][:LATELY]
    if work := sum(steps[-1].evaluations - steps[0].evaluations for steps in alike):
        return sum(steps[-1].seconds - steps[0].seconds for steps in alike) / work
    return _kept_pace(request.model, request.width, request.height, studio.jobs.outputs) or studio.pace(request)


def _alike(one: Request, other: Request) -> bool:
    """Whether an evaluation of both takes the same time."""
    return not one.regions and all(getattr(one, name) == getattr(other, name)
                                   for name in ("model", "width", "height", "panorama", "batch"))


@functools.lru_cache(64)
def _kept_pace(model: str, width: int, height: int, outputs: Path) -> float | None:
    """Looked up once: from then on this studio's own runs tell."""
    days = sorted(outputs.glob("????-??-??"), reverse=True)[:3]
    paths = [path for day in days for path in sorted(day.glob(f"*{SUFFIX}"), reverse=True)[:10]]
    for path in paths:
        with contextlib.suppress(LoomError):
            run = Trajectory(path, check=False)
            asked = run.request
            plain = not asked.regions and asked.panorama == "off" and asked.batch == 1
            if plain and run.taken > 1 and (asked.model, asked.width, asked.height) == (model, width, height):
                first, last = run.steps[0], run.steps[-1]
                return (last.seconds - first.seconds) / max(last.evaluations - first.evaluations, 1)
    return None


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


def empty(studio: Studio, message: str = "", owner: str = "") -> State:
    """The board before somebody's first comparison."""
    return {"id": "", "state": "empty", "error": message, "recent": recent(studio, owner)}


def recent(studio: Studio, owner: str = "") -> list[list[str]]:
    """[id, in words] of somebody's last comparisons, newest first."""
    if studio.logins and not owner:  # nobody is known yet, and what was made before there were logins is no one's
        return []
    return [[entry.id, _entry(entry)] for entry in studio.contests.recent(owner)]


def _entry(entry: Entry) -> str:
    prompt = " ".join(str(entry.spec.get("prompt", "")).split())
    name = f"“{prompt if len(prompt) <= 40 else prompt[:39] + '…'}”" if prompt else say("queue.no-prompt")
    asked = [entry.spec.get(axis) for axis in ("samplers", "steps", "seeds")]
    counts = [say(f"compare.counts.{axis}", n=len(values))
              for axis, values in zip(("samplers", "steps", "seeds"), asked, strict=True)
              if isinstance(values, list) and len(values) > 1]
    return " · ".join([when(entry.created), name, *counts])


def _film(contest: Contest) -> State:
    """How far the animated grid is, once somebody asked for it."""
    film = contest.film
    if film is None:
        return {}
    return {"kind": film.kind, "made": film.made, "total": film.total, "over": film.over, "error": film.error,
            "file": [film.path.name, _address(film.path)] if film.path else []}


def _address(path: Path) -> str:
    """Another one for another content: Resume makes these files anew."""
    try:
        return f"{file_url(path)}?v={path.stat().st_mtime_ns}"
    except OSError:
        return file_url(path)


def _plane(contest: Contest, plane: Plane) -> State:
    """share: of the variance. paths: each {cell (-1: a reference), steps (from 1), places [[x, y], ...]}."""
    asked = contest.request(next(path.cell for path in plane.paths if path.cell >= 0))
    return {"share": round(plane.share, 4), "words": say("settings.seed", seed=asked.seed),
            "paths": [{"cell": path.cell, "steps": [step + 1 for step in path.steps],
                       "places": [[round(float(x), 4), round(float(y), 4)] for x, y in path.places]}
                      for path in plane.paths]}


FILMS = [name for name, kind in KINDS.items() if kind.moves]


def state_of(contest: Contest, studio: Studio) -> State:
    """What the board shows of a comparison."""
    comparison = contest.comparison
    columns = comparison.axes[-1]
    cells = [_cell(contest, k) for k in range(len(contest.jobs))]
    requests = [cell.request for cell in comparison.cells if cell.request]
    return {
        "id": contest.id, "version": contest.version, "state": contest.state, "phase": contest.phase,
        "line": _line(requests), "exact": comparison.reference_steps,
        "rows": _rows(comparison),
        "columns": [shown(columns.field, value, comparison.equal_evaluations) for value in columns.values],
        "grid": list(comparison.grid), "cells": cells, "width": max(request.width for request in requests),
        "height": max(request.height for request in requests), "missing": len(contest.missing()),
        "resumable": contest.resumable, "again": contest.restoring, "recent": recent(studio, contest.owner),
        "film": _film(contest),
        "planes": [_plane(contest, plane) for plane in contest.planes],
        "left": _left(contest, studio), "reference": _reference(contest),
        "files": [[path.name, _address(path)] for path in contest.files], "error": contest.error,
    }


def _cell(contest: Contest, k: int) -> State:
    cell, job = contest.comparison.cells[k], contest.jobs[k]
    request = cell.request
    shown_of: State = {"label": label(cell), "state": "impossible" if request is None else "waiting",
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
        # one text: of several updates gradio tells only what changed, and lists within the list of cells that grow
        # shorter come out wrong (gradio 6.31, utils.diff counts their deletions twice)
        "without": " ".join(map(str, sorted(job.without_frame))),
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
    return say("compare.reference-step", step=len(running[-1].steps), total=running[-1].total)


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


def _line(requests: Sequence[Request]) -> str:
    """What all cells have in common, and their seeds."""
    request = requests[0]
    prompt = f"“{request.prompt}” · " if request.prompt.strip() else ""
    seeds = list(dict.fromkeys(str(one.seed) for one in requests))
    some = say("common.comma").join(seeds[:MOST_SEEDS])
    if len(seeds) > MOST_SEEDS:
        some = say("compare.more-seeds", seeds=some, count=len(seeds) - MOST_SEEDS)
    return prompt + " · ".join([say("compare.seeds", n=len(seeds), seeds=some),
                                say("compare.axes.guidance", value=f"{request.guidance:g}"),
                                f"{request.width}×{request.height} px"])
