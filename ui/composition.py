"""The Regions form: what was painted and typed there <-> Request. Nothing that was typed is repaired here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from core import layoutfile
from core.checks import Note
from core.errors import BadRequest
from core.layout import Layout, joined_prompt, layout_of, place_in_words, predicted_cost
from core.masks import Mask, painted
from core.models.catalogue import ModelInfo
from core.request import MAX_SIDE, Preview, Region, Request
from ui import form
from ui.languages import say, word
from ui.line import roughly

# Told apart at a glance, also by most colour-blind people; as in ui/components/region_layout.js.
COLOURS = ("#e5484d", "#30a46c", "#3e7bfa", "#f5a524", "#8e4ec6", "#12a5a0", "#e54d9b", "#8d6e4f", "#5b8c2a", "#c2410c")
MASKS = [(word(f"regions.masks.{way}"), way) for way in ("area", "paper")]
PANORAMAS = [(word(f"regions.panorama.{way}"), way) for way in ("off", "smooth", "uniform")]

T = TypeVar("T")
Values = Mapping[str, Any]


def canvas_of(request: Request, cell: int = 8, states: Sequence[layoutfile.State] = ()) -> dict[str, Any]:
    """The canvas' value for a request. cell: pixels of a latent cell. Boxes become paint.

    states: of the regions, where some are hidden or half finished.
    """
    size = request.width, request.height
    regions = []
    states = states or [layoutfile.State()] * len(request.regions)
    for k, (region, state) in enumerate(zip(request.regions, states, strict=True)):
        mask = region.mask or Mask.of(painted(region.shape, *size))
        regions.append({
            "name": region.name, "color": COLOURS[k % len(COLOURS)], "prompt": "" if state.wordless else region.prompt,
            "negative_prompt": region.negative_prompt,
            "guidance": "" if region.guidance is None else f"{region.guidance:g}",
            "weight": f"{region.weight:g}", "feather": f"{region.feather:g}", "visible": not state.hidden,
            "runs": str(size[0] * size[1]) if state.unpainted else mask.to_dict()["runs"],
        })
    return {"width": request.width, "height": request.height, "cell": cell, "prompt": request.prompt, "view": "paint",
            "regions": regions}


def resized(canvas: Values, width: int, height: int, cell: int) -> dict[str, Any]:
    """The canvas' value that asks the browser to take what was painted to another size."""
    return {**canvas, "cell": cell, "resize": [width, height]}


def fitted(canvas: Values, width: str, height: str) -> dict[str, Any]:
    """The same for sizes as a form holds them; until the model takes them, what is there stays."""
    sides, cell = [form.number(side) for side in (width, height)], canvas.get("cell", 8)
    fits = all(isinstance(side, int) and 8 * cell <= side <= MAX_SIDE and side % cell == 0 for side in sides)
    return {**canvas, "resize": sides if fits else []}


def untouched(canvas: Values) -> dict[str, Any]:
    """The canvas' value that lets the browser keep what is there."""
    return {**canvas, "resize": []}


def to_request(values: Values) -> Request:
    """The Request that the form asks for. Raises BadRequest with the field's name."""
    request = _base(values)
    return request.replace(regions=_regions(values, request))


def regions_of(canvas: Values, request: Request) -> tuple[Region, ...]:
    """What is painted, for a run that is there already. Raises BadRequest, also where the sizes differ."""
    size = canvas.get("width"), canvas.get("height")
    if size != (request.width, request.height):
        raise BadRequest(say("regions.wrong.size", painted=f"{size[0]}x{size[1]}",
                             size=f"{request.width}x{request.height}"), "regions")
    regions = _regions({"canvas": canvas}, request)
    if not regions:
        raise BadRequest(say("regions.wrong.bare"), "regions")
    return regions


def to_draft(values: Values) -> tuple[Request, list[str]]:
    """The same while somebody is still painting: regions without a prompt or paint are left out, and named."""
    request, regions, unfinished = _base(values), [], []
    if left_out := [str(e.get("name")) for e in values["canvas"].get("regions", ()) if e.get("visible") is False]:
        unfinished.append(say("regions.left.hidden", names=say("regions.left.between").join(left_out)))
    for entry in _entries(values):
        if _bare(entry) or _wordless(entry):
            missing = "both" if _bare(entry) and _wordless(entry) else "paint" if _bare(entry) else "words"
            unfinished.append(say(f"regions.left.{missing}", name=entry.get("name", "region")))
        else:
            regions.append(_region(entry, request, values["canvas"]))
    return request.replace(regions=tuple(regions)), unfinished


def to_sketch(values: Values) -> tuple[Request, list[layoutfile.State]]:
    """The same with all that stands there, hidden or half finished: what a layout file keeps."""
    request, regions, states = _base(values), [], []
    for entry in _listed(values):
        region, state = _lent(entry, request, values["canvas"])
        regions.append(region)
        states.append(state)
    return request.replace(regions=tuple(regions)), states


def from_request(request: Request, cell: int = 8, preview: Preview | None = None) -> dict[str, Any]:
    """The values of a form that asks for exactly this request."""
    return {**form.from_request(request, preview), "canvas": canvas_of(request, cell), **settings_of(request)}


def settings_of(request: Request) -> dict[str, Any]:
    """The part of the form that says how regions meet and what windows there are."""
    return {"bootstrap": f"{100 * request.bootstrap:g}", "masks": request.masks,
            "crop_after": f"{100 * request.crop_after:g}", "say_places": request.say_places,
            "join_prompts": request.join_prompts, "panorama": request.panorama, "stride": str(request.stride),
            "wrap": request.wrap}


def first_request(model: str, info: ModelInfo | None) -> Request:
    """What the form asks for before anybody has typed or painted; what a layout file says wins."""
    start = form.first_request(model, info).replace(say_places=True)
    return start.replace(crop_after=info.crop_after) if info else start


def crops_for(info: ModelInfo, values: Values) -> dict[str, str]:
    """When another model's small regions look at crops, unless somebody chose when."""
    chosen = form.number(values["crop_after"]) not in (0, 100)
    return {} if chosen else {"crop_after": f"{100 * info.crop_after:g}"}


def scaled(request: Request, info: ModelInfo) -> Request:
    """A layout made for 256 pixels, at the size that a model is at home at."""
    def fit(side: int, native: int) -> int:
        return max(round(side * native / 256 / info.multiple), 8) * info.multiple
    size = fit(request.width, info.width), fit(request.height, info.height)
    if size == (request.width, request.height):
        return request
    regions = [region if region.mask is None else
               Region(**{**vars(region), "mask": rescaled(region.mask, *size)}) for region in request.regions]
    stride = max(round(request.stride * info.width / 256 / info.multiple), 1) * info.multiple
    return request.replace(width=size[0], height=size[1], regions=tuple(regions), stride=stride)


def rescaled(mask: Mask, width: int, height: int) -> Mask:
    """The same shape at another size, by the nearest pixel, as in ui/components/region_masks.js."""
    if (mask.width, mask.height) == (width, height):
        return mask
    rows = ((np.arange(height) + 0.5) * mask.height / height).astype(int)
    columns = ((np.arange(width) + 0.5) * mask.width / width).astype(int)
    return Mask.of(mask.to_array()[np.ix_(rows, columns)])


def prompts_of(values: Values) -> dict[str, str]:
    """Field -> what is read there: "prompt", "negative_prompt", and a region's place from 0 at the bottom."""
    canvas = values["canvas"]
    rest = str(canvas.get("prompt") or "")
    found = {"prompt": rest, "negative_prompt": str(values["negative_prompt"] or "")}
    for k, entry in enumerate(canvas.get("regions", ())):
        own = str(entry.get("prompt") or "")
        place = _place(entry, canvas) if values["say_places"] and values["panorama"] == "off" else ""
        found[str(k)] = joined_prompt(own, place, rest if values["join_prompts"] else "") if own else ""
    return found


def _place(entry: Values, canvas: Values) -> str:
    try:
        mask = _mask(entry, canvas)
    except BadRequest:  # said elsewhere
        return ""
    return place_in_words(mask, mask.width, mask.height)


def hints(values: Values) -> dict[str, str]:
    """A line of help beside a field, where nothing more urgent stands."""
    return form.hints(values) | {
        "bootstrap": say("regions.bootstrap-hint"), "masks": _hint("masks", values, MASKS),
        "crop_after": say("regions.crop-hint"), "panorama": _hint("panorama", values, PANORAMAS),
    }


def _hint(field: str, values: Values, choices: Sequence[tuple[Any, str]]) -> str:
    """What the choice in a field means."""
    chosen = values[field]
    return say(f"regions.{field}.{chosen}-hint") if chosen in [value for _, value in choices] else ""


def status(request: Request, info: ModelInfo, pace: float | None) -> str:
    """One line before the run: what is painted, what it will cost. pace: seconds per whole pass, if known."""
    parts = []
    if request.regions:
        covered = 1 - layout_of(request, info.multiple).uncovered
        parts.append(say("regions.cost.painted", percent=f"{100 * covered:.0f}"))
    count, work = predicted_cost(request, info)
    cost = say("regions.cost.evaluations", n=count, count=f"{count:,}")
    if work < count:
        cost = say("regions.cost.crops", evaluations=cost, work=f"{work:,.0f}")
    if pace:
        cost = say("regions.cost.timed", work=cost, time=say("time.about", time=roughly(work * pace)))
    return " · ".join([*parts, cost])


def notes_of(notes: Sequence[Note], request: Request, layout: Layout | None) -> list[Note]:
    """What a person should know of these notes: an empty prompt matters only where nobody painted."""
    bare = 1.0 if layout is None else layout.uncovered
    kept = [note for note in notes if note.field != "prompt" or request.prompt.strip()]
    if not request.prompt.strip() and request.regions and bare > 0.005:
        kept.append(Note("prompt", say("regions.wrong.unpainted", percent=f"{100 * bare:.0f}")))
    return kept


def _base(values: Values) -> Request:
    canvas = values["canvas"]
    request = form.to_request({**values, "prompt": canvas.get("prompt", "")})
    return request.replace(bootstrap=_percent(values, "bootstrap", 50),
                           crop_after=_percent(values, "crop_after", 100),
                           masks=values["masks"] or "", panorama=values["panorama"] or "",
                           say_places=bool(values["say_places"]),
                           join_prompts=bool(values["join_prompts"]), stride=form.number(values["stride"]),
                           wrap=bool(values["wrap"]))


def _percent(values: Values, field: str, most: int) -> float:
    percent = form.number(values[field])
    if isinstance(percent, bool) or not isinstance(percent, (int, float)) or not 0 <= percent <= most:
        typed = str(percent)[:20] or say("regions.wrong.empty")
        raise BadRequest(say(f"regions.wrong.{field.replace('_', '-')}", percent=typed, most=most), field)
    return percent / 100


def _listed(values: Values) -> list[Values]:
    listed = values["canvas"].get("regions")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise BadRequest(say("regions.wrong.damaged"), "regions")
    return listed


def _regions(values: Values, request: Request) -> tuple[Region, ...]:
    return tuple(_region(entry, request, values["canvas"]) for entry in _entries(values))


def _entries(values: Values) -> list[Values]:
    """The regions that take part: a hidden one is left out of the picture."""
    return [entry for entry in _listed(values) if entry.get("visible", True) is not False]


def _bare(entry: Values) -> bool:
    return len(str(entry.get("runs", "")).split()) < 2


def _wordless(entry: Values) -> bool:
    return not str(entry.get("prompt", "")).strip()


def _region(entry: Values, request: Request, canvas: Values) -> Region:
    """Raises BadRequest, which names the region, also for one that is half finished."""
    return _named(entry, lambda: Region(**_fields(entry, request, canvas)))


def _lent(entry: Values, request: Request, canvas: Values) -> tuple[Region, layoutfile.State]:
    hidden = entry.get("visible", True) is False
    return _named(entry, lambda: layoutfile.lend(_fields(entry, request, canvas), hidden))


def _fields(entry: Values, request: Request, canvas: Values) -> dict[str, Any]:
    typed = str(entry.get("guidance", "")).strip()
    mask = rescaled(_mask(entry, canvas), request.width, request.height)
    return {"name": str(entry.get("name") or "region"), "prompt": entry.get("prompt", ""),
            "negative_prompt": entry.get("negative_prompt", ""), "mask": mask,
            "guidance": form.number(typed) if typed else None, "weight": _or(form.number(entry.get("weight", "")), 1.0),
            "feather": _or(form.number(entry.get("feather", "")), 0.0)}


def _mask(entry: Values, canvas: Values) -> Mask:
    return Mask.parse({"width": canvas.get("width"), "height": canvas.get("height"), "runs": entry.get("runs")})


def _named(entry: Values, make: Callable[[], T]) -> T:
    name = str(entry.get("name") or "region")[:40]
    try:
        return make()
    except BadRequest as error:
        line = str(error)
        raise BadRequest(line if name in line else f"{name}: {line}", "regions") from None


def _or(value: Any, default: float) -> Any:
    """A number field that was left empty has its default."""
    return default if value == "" or (isinstance(value, float) and math.isnan(value)) else value


def colours_of(canvas: Values, request: Request) -> list[str]:
    """The colours of the request's regions, in their order: those of the entries that are finished."""
    entries = [e for e in canvas.get("regions", ()) if e.get("visible", True) is not False]
    return [str(e.get("color", "")) for e in entries if not _bare(e) and not _wordless(e)][:len(request.regions)]


def usual(values: Values, info: ModelInfo | None) -> dict[str, Any]:
    """What a layout file that does not say it gets: the canvas's size, and the model's own start of crops."""
    canvas = values["canvas"]
    return {"width": canvas.get("width", 256), "height": canvas.get("height", 256),
            **({"crop_after": info.crop_after} if info else {})}
