"""Comparisons: axes over the fields of a Request -> cells, each an ordinary run -> rows of figures.

A specification is a Request's fields as JSON, in which any field of AXES may be a list, under its own name or its
plural: {"prompt": "a red boat", "samplers": ["Euler", "Heun"], "steps": [5, 10, 20], "seeds": [1, 2]}. When a refiner
takes over is an axis too, on which "none" leaves it out: {"refiner": "refiner", "refiners_from": ["none", 0.6, 0.8]}.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core import samplers
from core.checks import check_in
from core.errors import BadRequest, LoomError, closest
from core.models.catalogue import Catalogue
from core.models.distilled import SETTINGS
from core.request import MAX_STEPS, Request

AXES = {"model": "models", "prompt": "prompts", "negative_prompt": "negative_prompts", "sampler": "samplers",
        "schedule": "schedules", "steps": "steps", "guidance": "guidances", "seed": "seeds", "width": "widths",
        "height": "heights", "precision": "precisions", "clip_skip": "clip_skips", "bootstrap": "bootstraps",
        "masks": "masks", "crop_after": "crops_after", "stride": "strides", "panorama": "panoramas",
        "refiner_from": "refiners_from"}
NO_REFINER = "none"  # on the axis refiners_from: a cell without it
MAX_CELLS = 400
EQUAL = "equal_evaluations"  # steps then mean network calls, the same for every sampler
EXACT = "Heun"  # the sampler of the reference: second order, without noise of its own
REFERENCE = "reference_steps"  # of the reference that distances are measured to; 0: none
MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Axis:
    """One field and the values it takes."""

    field: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Cell:
    """One run of a comparison. values: field -> what was asked for on each axis.

    request is None where the values cannot be combined; error then says why.
    """

    number: int  # counted from 1, in the order they are made
    values: dict[str, Any]
    request: Request | None
    error: str = ""
    equal: bool = False  # steps count network calls
    field: str | None = None  # of the request, that the error is about

    @property
    def label(self) -> str:
        """The values in words: "Heun, 10 steps", at equal work "Heun, 10 calls"."""
        return ", ".join(shown(field, value, self.equal) for field, value in self.values.items())

    @property
    def file_name(self) -> str:
        """A name without its ending, the same for the same cell."""
        plain = "-".join("".join(c if c.isalnum() else "-" for c in str(v).replace("++", "pp"))
                         for v in self.values.values())
        return f"{self.number:03d}-{'-'.join(filter(None, plain.split('-')))[:80]}"


@dataclass(frozen=True)
class Comparison:
    """What is compared. cells: in the order of the axes, the last one fastest; combinations that come out as the
    same request are made once and stand in `grid` several times."""

    axes: tuple[Axis, ...]
    cells: tuple[Cell, ...]
    grid: tuple[int, ...]  # for every combination of values, the index of its cell
    equal_evaluations: bool = False
    reference_steps: int = 0

    @property
    def network_calls(self) -> int:
        """Of all cells, before guidance; the reference not counted."""
        return sum(samplers.SAMPLERS[c.request.sampler].network_calls(c.request.steps) * c.request.batch
                   for c in self.cells if c.request)


def read(path: Path) -> dict[str, Any]:
    """A specification on disk. Raises BadRequest."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadRequest(f"{path.name} is larger than {MAX_BYTES // 10**6} MB: that is no comparison.")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRequest(f"The comparison {path} cannot be read ({error.strerror}): check the path.") from None
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise BadRequest(f"The comparison {path.name} is not JSON ({where}): mend it there.") from None
    if not isinstance(values, dict):
        raise BadRequest(f"The comparison {path.name} must be a JSON object with \"prompt\" and \"samplers\".")
    return values


def prepare(values: dict[str, Any], catalogue: Catalogue) -> Comparison:
    """The plan of a specification for the models that are here, at the first model's own size, and with what that one
    was distilled for, unless it gives others.

    Raises BadRequest or ModelError when no cell can be made. A cell that this machine cannot make says so.
    """
    models = values.get("model") or values.get("models") or Request().model
    info = catalogue.get(str(models[0] if isinstance(models, list) else models))
    own = {"width": info.width, "height": info.height}
    if info.advice:
        own |= {name: getattr(info.advice, name) for name in SETTINGS}
    planned = plan({**values, **{name: value for name, value in own.items()
                                 if name not in values and AXES[name] not in values}})
    cells = tuple(_checked(cell, catalogue) for cell in planned.cells)
    if all(cell.request is None for cell in cells):
        raise BadRequest(cells[0].error, cells[0].field)
    return replace(planned, cells=cells)


def plan(values: dict[str, Any]) -> Comparison:
    """A specification -> its cells. Raises BadRequest for an unknown or empty axis, no axis, or too many cells.

    Values that cannot be combined (a sampler that has not that schedule) make a cell with an error, and leave the
    others alone.
    """
    values = dict(values)
    equal, reference = values.pop(EQUAL, False), values.pop(REFERENCE, 0)
    if not isinstance(equal, bool):
        raise BadRequest(f"{EQUAL} must be true or false, not {str(equal)[:40]!r}.")
    least = samplers.SAMPLERS[EXACT].least_steps
    if isinstance(reference, bool) or not isinstance(reference, int) or not (
            reference == 0 or least <= reference <= MAX_STEPS):
        raise BadRequest(f"{REFERENCE} must be 0 (none) or a whole number from {least} to {MAX_STEPS}, not "
                         f"{str(reference)[:40]!r}.")
    axes, fixed = _split(values)
    if any(axis.field == "refiner_from" for axis in axes) and not fixed.get("refiner"):
        raise BadRequest("The axis refiners from says when a refiner takes over, and none is named: give its name as "
                         "refiner.", "refiner")
    count = 1
    for axis in axes:
        count *= len(axis.values)
    if count > MAX_CELLS:
        raise BadRequest(f"{count:,} cells are too many: at most {MAX_CELLS} are made in one go. Take fewer values on "
                         "an axis.")
    Request.parse(fixed)  # what is wrong in every cell is wrong in the comparison
    cells: list[Cell] = []
    grid: list[int] = []
    known: dict[object, int] = {}
    for chosen in itertools.product(*(axis.values for axis in axes)):
        asked = {axis.field: value for axis, value in zip(axes, chosen, strict=True)}
        request, error, field = _request(fixed, asked, equal)
        key = request or (error, repr(chosen))  # values that cannot be may not be hashable
        if key not in known:
            known[key] = len(cells)
            cells.append(Cell(len(cells) + 1, asked, request, error, equal, field))
        grid.append(known[key])
    return Comparison(tuple(axes), tuple(cells), tuple(grid), equal, reference)


def steps_for(sampler: str, calls: int) -> int:
    """The most steps of a sampler that ask the network `calls` times or fewer; 1 at least."""
    entry = samplers.SAMPLERS[sampler]
    steps = max(1, calls)
    while steps > 1 and entry.network_calls(steps) > calls:
        steps -= 1
    return steps


def shown(field: str, value: Any, equal: bool = False) -> str:
    """A value of an axis in words. equal: steps count network calls."""
    if field in ("sampler", "model", "schedule", "prompt", "precision"):
        return Path(str(value)).name if field == "model" else str(value)
    if field == "steps":
        return f"{value} {'call' if equal else 'step'}{'s' * (value != 1)}"
    if field == "refiner_from" and value == NO_REFINER:
        return "no refiner"
    return f"{field.replace('_', ' ')} {value}"


def reference_of(request: Request, steps: int) -> Request:
    """The request whose end is taken for the exact solution of the same ordinary differential equation: Heun's method
    in many steps, from the same noise."""
    return request.replace(sampler=EXACT, schedule="Karras", steps=steps)


def _split(values: dict[str, Any]) -> tuple[list[Axis], dict[str, Any]]:
    """Lists become axes, the rest stays: the axes in the order in which they are given."""
    names = {plural: field for field, plural in AXES.items()} | {field: field for field in AXES}
    axes: list[Axis] = []
    fixed: dict[str, Any] = {}
    for name, value in values.items():
        field = names.get(name, name)
        if field not in Request.fields():
            raise BadRequest(f"A comparison has no axis {str(name)[:40]!r}. {closest(str(name), list(names))}")
        if field in fixed or any(axis.field == field for axis in axes):
            raise BadRequest(f"The comparison gives {field.replace('_', ' ')} twice: give it once.")
        if isinstance(value, list) and field != "regions":
            if field not in AXES:
                raise BadRequest(f"The {field.replace('_', ' ')} cannot be an axis: give one value.")
            if not value:
                raise BadRequest(f"The axis {AXES[field].replace('_', ' ')} is empty: give it one value at least.",
                                 field)
            axes.append(Axis(field, tuple(value)))
        elif name != field:
            raise BadRequest(f"The axis {name.replace('_', ' ')} must be a list of values.", field)
        else:
            fixed[field] = value
    if not axes:
        raise BadRequest("Nothing is compared: give a list of values for samplers, steps, seeds or another field.")
    return axes, fixed


def _request(fixed: dict[str, Any], asked: dict[str, Any], equal: bool) -> tuple[Request | None, str, str | None]:
    if asked.get("refiner_from") == NO_REFINER:
        fixed, asked = fixed | {"refiner": ""}, {k: v for k, v in asked.items() if k != "refiner_from"}
    try:
        request = Request.parse(fixed | asked)
        if equal:
            request = request.replace(steps=steps_for(request.sampler, request.steps))
        samplers.resolve(request.sampler, request.schedule, request.steps)
    except LoomError as error:
        return None, str(error), error.field
    return request, "", None


def _checked(cell: Cell, catalogue: Catalogue) -> Cell:
    if cell.request is None:
        return cell
    try:
        check_in(cell.request, catalogue)
    except LoomError as error:
        return replace(cell, request=None, error=str(error), field=error.field)
    return cell


def warnings(cells: Sequence[Cell]) -> list[str]:
    """What is known to go wrong with cells that can be made all the same, and why others cannot."""
    lines = []
    for cell in cells:
        if cell.request is None:
            lines.append(f"{cell.label}: {cell.error}")
        elif warning := samplers.verdict(cell.request.sampler, cell.request.schedule, cell.request.steps):
            lines.append(f"{cell.label}: {warning}")
    return lines
