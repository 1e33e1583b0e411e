"""Can this model do this Request on this machine? Asked before a job is queued; needs no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import psutil

from core import samplers
from core.errors import BadRequest
from core.layout import boxes_of, crop_start, full_prompt, layout_of, parts_of, prompts_of, views_of
from core.models import needs
from core.models.catalogue import Catalogue, ModelInfo
from core.models.counters import counter_for
from core.models.extras import Extras
from core.prompts import reading
from core.prompts.counting import Counter
from core.prompts.emphasis import stretches
from core.prompts.networks import loras_in, without_tags
from core.refining import refiner_of, refuse_alone
from core.request import MAX_SIDE, Request
from core.storybook import vocabulary

SMALL = 6  # latent cells, of 8x8 pixels; a thing drawn in fewer cannot be told


class Note(NamedTuple):
    """Something a person should know though the run goes ahead."""

    field: str
    text: str


def check(request: Request, info: ModelInfo, extras: Extras | None = None,
          refiner: ModelInfo | None = None) -> list[Note]:
    """Notes on a request that can be done. Raises BadRequest for one that cannot.

    extras: the LoRAs and textual inversions that prompts may name; none, where nothing is given. refiner: the one that
    the request names, see `core.refining`.
    """
    refuse_alone(info)
    samplers.resolve(request.sampler, request.schedule, request.steps)
    _size(request, info)
    notes = _memory_notes(request, info)
    notes += [Note("prompt", _unconditional(request))] if not without_tags(request.prompt).strip() else []
    if warning := samplers.verdict(request.sampler, request.schedule, request.steps):
        notes.append(Note("sampler", warning))
    views_of(request, info)
    notes += _prompt_notes(request, info, extras or Extras(None))
    _lora_room(request, info, extras or Extras(None))
    notes += _region_notes(request, info)
    notes += _refiner_notes(request, refiner) if refiner else []
    if not prompts_of(request, 0).both and request.negative_prompt.strip():
        notes.append(Note("negative_prompt", "At guidance 1 the negative prompt is not asked for: raise the guidance."))
    return notes


def check_in(request: Request, catalogue: Catalogue) -> list[Note]:
    """`check`, of the model and the refiner that a request names. Raises ModelError for one that is not there."""
    info = catalogue.get(request.model)
    return check(request, info, Extras.of(catalogue), refiner_of(request, info, catalogue))


def _prompt_notes(request: Request, info: ModelInfo, extras: Extras) -> list[Note]:
    """On the grammar of all prompts, their words and LoRAs. Raises BadRequest for what cannot be read."""
    if info.layers is not None and request.clip_skip > info.layers:
        raise BadRequest(f"A clip skip of {request.clip_skip} passes over the whole text encoder of {info.name}, which "
                         f"has {info.layers} layers: choose from 1 to {info.layers}.", "clip_skip")
    counter, notes = counter_for(info, extras), []
    prompts = [("prompt", "", request.prompt, True), ("negative_prompt", "", request.negative_prompt, False)]
    for region in request.regions:
        prompts += [("regions", region.name, region.prompt, True),
                    ("regions", region.name, region.negative_prompt, False)]
    for field, name, prompt, joined in prompts:
        with _said_of(field, name):
            _readable(prompt, request.steps, joined, counter)
            _fitting(prompt, joined, info, extras)
        found = reading.remarks(prompt, request.steps, joined)
        if info.is_storybook and joined:
            found += unknown_words(reading.plain_words(prompt, request.steps))
        notes += [Note(field, f"{name}: {text}" if name else text) for text in found]
    for region in request.regions if request.join_prompts or request.say_places else ():
        with _said_of("regions", region.name):
            _readable(full_prompt(region, request), request.steps, True, counter)
    return notes


@contextlib.contextmanager
def _said_of(field: str, region: str) -> Iterator[None]:
    try:
        yield
    except BadRequest as error:
        raise BadRequest(f"The region {region[:40]!r}: {error}" if region else str(error), field) from None


def _readable(prompt: str, steps: int, joined: bool, counter: Counter | None) -> None:
    reading.refuse(prompt, joined)
    for text in reading.texts_of(prompt, steps, joined):
        if counter:
            counter.chunks(text)
        else:
            stretches(text)


def _fitting(prompt: str, joined: bool, info: ModelInfo, extras: Extras) -> None:
    """Raises BadRequest for LoRAs that are not there, or not for this model."""
    files: dict[str, str] = {}
    for lora in loras_in(prompt) if joined else ():
        path = extras.fitting(lora, info).path
        if path in files:
            raise BadRequest(f"{files[path][:60]!r} and {lora.name[:60]!r} are the same LoRA: write it once, with the "
                             "weight it shall have.")
        files[path] = lora.name


def unknown_words(prompt: str) -> list[str]:
    """One line naming the words Storybook does not know, or nothing."""
    words = vocabulary.unknown_words(prompt)
    if not words:
        return []
    short = [word if len(word) <= 24 else word[:21] + "..." for word in words[:8]]
    shown = ", ".join(short) + (", ..." if len(words) > 8 else "")
    return [f"Storybook does not know: {shown}. It paints as if they were not there."]


def fitting_size(width: int, height: int, multiple: int) -> tuple[int, int]:
    """The nearest size, in pixels, whose sides are multiples of `multiple` and allowed."""
    def fit(side: int) -> int:
        return min(max(round(side / multiple) * multiple, multiple * 8), MAX_SIDE)
    return fit(width), fit(height)


def _region_notes(request: Request, info: ModelInfo) -> list[Note]:
    if not request.regions:
        return []
    layout = layout_of(request, info.multiple)
    notes = []
    for k in layout.hidden:
        notes.append(Note("regions", f"The region {request.regions[k - 1].name!r} is fully hidden under others: "
                                     "move it up, or delete it."))
    for k in layout.visible:
        cells = float(layout.weights[k].sum())
        if k and cells < SMALL:
            notes.append(Note("regions", f"The region {request.regions[k - 1].name!r} rules {cells:.0f} latent cells, "
                                         "which is small: paint it larger, or the model may pass over it."))
    chosen = crop_start(request) < request.steps and request.crop_after != info.crop_after
    if chosen and not any(boxes_of(part, request, info) for part in parts_of(request, info)):
        notes.append(Note("crop_after", "No region is small enough for a crop to be less work: nothing is cropped."))
    return notes


def _unconditional(request: Request) -> str:
    return "The prompt is empty: the model paints whatever comes to its mind (unconditional)."


def _memory_notes(request: Request, info: ModelInfo) -> list[Note]:
    needed = needs.decode(info, request.width, request.height, "bf16")
    free = psutil.virtual_memory().available
    if needed < free:
        return []
    return [Note("width", f"To decode {request.width}x{request.height} at once takes about {needed / 2**30:.1f} GiB, "
                          f"and {free / 2**30:.1f} are free: if they do not suffice it is done in tiles, which shows a "
                          "little.")]


def _lora_room(request: Request, info: ModelInfo, extras: Extras) -> None:
    """Raises BadRequest for LoRAs that leave no room for the run."""
    files = extras.files(request, info)
    if not files:
        return
    held, run = needs.loras(set(files.values()), "bf16"), least(request, info)
    if held + run > (free := psutil.virtual_memory().available):
        raise BadRequest(f"The LoRAs take about {held / 2**30:.1f} GiB of memory and the run {run / 2**30:.1f} more, "
                         f"and {free / 2**30:.1f} are free: name fewer or smaller ones, or choose a smaller picture.",
                         "prompt")


def _refiner_notes(request: Request, refiner: ModelInfo) -> list[Note]:
    prompts = {"prompt": [request.prompt], "regions": [region.prompt for region in request.regions]}
    naming = next((field for field, texts in prompts.items() if any(map(loras_in, texts))), None)
    notes = [Note(naming, "LoRAs change the model alone: where the refiner has taken over they do nothing.")] \
        if naming else []
    needed = sum(needs.weights(refiner, "bf16" if request.precision == "auto" else request.precision))
    free = psutil.virtual_memory().available
    if needed > free:
        notes.append(Note("refiner", f"The refiner takes about {needed / 2**30:.1f} GiB beside the model, and "
                                     f"{free / 2**30:.1f} are free: it may not fit."))
    return notes


def least(request: Request, info: ModelInfo) -> int:
    """Bytes without which a run must fail, beside the weights: one pass at a time in half precision, smallest tiles."""
    width, height = (request.width, request.height) if request.panorama == "off" else (
        min(request.width, info.width), min(request.height, info.height))
    return max(needs.network(info, width, height, 1, "bf16"),
               needs.decode(info, request.width, request.height, tile=needs.TILES[-1]))


def _size(request: Request, info: ModelInfo) -> None:
    width, height, multiple = request.width, request.height, info.multiple
    for side, field in ((width, "width"), (height, "height")):
        if side % multiple or side < 8 * multiple:
            fit = "{}x{}".format(*fitting_size(width, height, multiple))
            need = f"not a multiple of {multiple} pixels" if side % multiple else f"below {8 * multiple} pixels a side"
            raise BadRequest(f"{width}x{height} is {need}, which {info.name} needs: try {fit}.", field)
    needed = least(request, info)
    free = psutil.virtual_memory().available
    if needed > free:
        scale = (free / needed) ** 0.5
        fit = "{}x{}".format(*fitting_size(int(width * scale * 0.95), int(height * scale * 0.95), multiple))
        raise BadRequest(f"{width}x{height} needs about {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} are "
                         f"free: try {fit}.", "width" if width >= height else "height")
