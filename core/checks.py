"""Can this model do this Request on this machine? Asked before a job is queued; needs no torch."""

from __future__ import annotations

from typing import NamedTuple

import psutil

from core import samplers
from core.errors import BadRequest
from core.layout import boxes_of, crop_start, layout_of, parts_of, views_of
from core.models.catalogue import ModelInfo
from core.request import MAX_SIDE, Request
from core.storybook import vocabulary

# Peak memory of the full VAE's decode, per pixel and channel of its widest level. Measured with a Stable Diffusion
# sized VAE (128 channels) in float32 on a CPU: 6,110 bytes a pixel at 256x256, 4,310 at 512x512.
DECODE_BYTES = 48
SMALL = 6  # latent cells, of 8x8 pixels; a thing drawn in fewer cannot be told


class Note(NamedTuple):
    """Something a person should know though the run goes ahead."""

    field: str
    text: str


def check(request: Request, info: ModelInfo) -> list[Note]:
    """Notes on a request that can be done. Raises BadRequest for one that cannot."""
    samplers.resolve(request.sampler, request.schedule, request.steps)
    _size(request, info)
    notes = [Note("prompt", _unconditional(request))] if not request.prompt.strip() else []
    if warning := samplers.verdict(request.sampler, request.schedule, request.steps):
        notes.append(Note("sampler", warning))
    views_of(request, info)
    notes += _region_notes(request, info)
    if info.is_storybook:
        notes += [Note("prompt", text) for text in unknown_words(request.prompt)]
    if request.guidance == 1 and request.negative_prompt.strip():
        notes.append(Note("negative_prompt", "At guidance 1 the negative prompt is not asked for: raise the guidance."))
    return notes


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
    if crop_start(request) < request.steps and not any(boxes_of(p, request, info) for p in parts_of(request, info)):
        notes.append(Note("crop_after", "No region is small enough for a crop to be less work: nothing is cropped."))
    if info.is_storybook:
        for region in request.regions:
            notes += [Note("regions", f"{region.name}: {text}") for text in unknown_words(region.prompt)]
    return notes


def _unconditional(request: Request) -> str:
    return "The prompt is empty: the model paints whatever comes to its mind (unconditional)."


def _size(request: Request, info: ModelInfo) -> None:
    width, height, multiple = request.width, request.height, info.multiple
    for side, field in ((width, "width"), (height, "height")):
        if side % multiple or side < 8 * multiple:
            fit = "{}x{}".format(*fitting_size(width, height, multiple))
            need = f"not a multiple of {multiple} pixels" if side % multiple else f"below {8 * multiple} pixels a side"
            raise BadRequest(f"{width}x{height} is {need}, which {info.name} needs: try {fit}.", field)
    needed = width * height * info.decoder_channels * DECODE_BYTES
    free = psutil.virtual_memory().available
    if needed > free:
        scale = (free / needed) ** 0.5
        fit = "{}x{}".format(*fitting_size(int(width * scale * 0.95), int(height * scale * 0.95), multiple))
        raise BadRequest(f"{width}x{height} needs about {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} are "
                         f"free: try {fit}.", "width" if width >= height else "height")
