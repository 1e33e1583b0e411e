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

# Told apart at a glance, also by most colour-blind people; as in ui/components/region_layout.js.
COLOURS = ("#e5484d", "#30a46c", "#3e7bfa", "#f5a524", "#8e4ec6", "#12a5a0", "#e54d9b", "#8d6e4f", "#5b8c2a", "#c2410c")
MASKS = [("By area, upper over lower", "area"), ("As in the paper: overlaps averaged", "paper")]
PANORAMAS = [("Off", "off"), ("Smooth windows", "smooth"), ("Uniform windows", "uniform")]

_MASK_WORDS = {"area": "A cell at an edge is shared by what covers it; thin strokes survive.",
               "paper": "As MultiDiffusion's published code does it, to compare with."}
_PANORAMA_WORDS = {"off": "Off suits pictures of up to about twice the model's own size.",
                   "smooth": "Windows of the model's own size, blended: for wide and tall pictures.",
                   "uniform": "The same windows with equal shares, as in the paper: seams may show."}

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
        raise BadRequest(f"The Regions tab is painted at {size[0]}x{size[1]} pixels, this run is {request.width}x"
                         f"{request.height}: give the canvas the run's size there.", "regions")
    regions = _regions({"canvas": canvas}, request)
    if not regions:
        raise BadRequest("Nothing is painted in the Regions tab: paint a region there first.", "regions")
    return regions


def to_draft(values: Values) -> tuple[Request, list[str]]:
    """The same while somebody is still painting: regions without a prompt or paint are left out, and named."""
    request, regions, unfinished = _base(values), [], []
    if left_out := [str(e.get("name")) for e in values["canvas"].get("regions", ()) if e.get("visible") is False]:
        unfinished.append(f"Hidden, so left out: {', '.join(left_out)}.")
    for entry in _entries(values):
        missing = [word for word, lacks in (("paint it", _bare(entry)), ("say what it is", _wordless(entry))) if lacks]
        if missing:
            unfinished.append(f"{entry.get('name', 'region')}: {' and '.join(missing)}.")
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
        "bootstrap": "In these first steps each region sees a plain colour around it, so that its thing lands inside.",
        "masks": _MASK_WORDS.get(values["masks"], ""),
        "crop_after": "Then small regions look at their surroundings only: faster, a little different. 100: never.",
        "panorama": _PANORAMA_WORDS.get(values["panorama"], ""),
    }


def status(request: Request, info: ModelInfo, pace: float | None) -> str:
    """One line before the run: what is painted, what it will cost. pace: seconds per whole pass, if known."""
    parts = []
    if request.regions:
        parts.append(f"{100 * (1 - layout_of(request, info.multiple).uncovered):.0f} % painted")
    count, work = predicted_cost(request, info)
    crops = f" (with crops the work of {work:,.0f})" if work < count else ""
    parts.append(f"{count:,} evaluation{'s' * (count > 1)}{crops}"
                 + (f", about {_seconds(work * pace)}" if pace else ""))
    return " · ".join(parts)


def notes_of(notes: Sequence[Note], request: Request, layout: Layout | None) -> list[Note]:
    """What a person should know of these notes: an empty prompt matters only where nobody painted."""
    bare = 1.0 if layout is None else layout.uncovered
    kept = [note for note in notes if note.field != "prompt" or request.prompt.strip()]
    if not request.prompt.strip() and request.regions and bare > 0.005:
        kept.append(Note("prompt", f"Nobody painted {100 * bare:.0f} % of the picture, and this prompt is empty: say "
                                   "what should be there, or the model paints whatever comes to its mind."))
    return kept


def _seconds(seconds: float) -> str:
    if seconds >= 90:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 2 else f"{seconds:.1f} s"


def _base(values: Values) -> Request:
    canvas = values["canvas"]
    request = form.to_request({**values, "prompt": canvas.get("prompt", "")})
    return request.replace(bootstrap=_percent(values, "bootstrap", "bootstrapping", 50),
                           crop_after=_percent(values, "crop_after", "start of crops", 100),
                           masks=values["masks"] or "", panorama=values["panorama"] or "",
                           say_places=bool(values["say_places"]),
                           join_prompts=bool(values["join_prompts"]), stride=form.number(values["stride"]),
                           wrap=bool(values["wrap"]))


def _percent(values: Values, field: str, label: str, most: int) -> float:
    percent = form.number(values[field])
    if isinstance(percent, bool) or not isinstance(percent, (int, float)) or not 0 <= percent <= most:
        raise BadRequest(f"The {label} cannot be {str(percent)[:20] or 'empty'} %: choose from 0 to {most}.", field)
    return percent / 100


def _listed(values: Values) -> list[Values]:
    listed = values["canvas"].get("regions")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise BadRequest("The canvas holds no list of regions: reload the page.", "regions")
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


def settings_only(values: Values) -> dict[str, Any]:
    """Sizes for a layout file that names none."""
    canvas = values["canvas"]
    return {"width": canvas.get("width", 256), "height": canvas.get("height", 256)}
