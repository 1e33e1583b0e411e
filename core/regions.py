"""A Request's prompts, regions and windows -> the predictor that its run asks."""

from __future__ import annotations

from collections.abc import Callable

import torch

from core import denoise
from core.conditioning import Conditioning
from core.layout import bootstrap_steps, boxes_of, crop_start, parts_of, prompts_of, views_of, window_weights
from core.models.sd import StableDiffusion
from core.prompts.networks import Loras
from core.request import Request

Encode = Callable[[str, Loras, bool], Conditioning]


def predictor_for(model: StableDiffusion, request: Request, noise: torch.Tensor, seed: int,
                  reader: StableDiffusion | None = None) -> denoise.Predictor:
    """What the network is asked for one picture of a request. noise: (1, C, h, w), its initial noise; seed: its own.

    reader: whose network is asked and who reads the prompts, where that is another than `model`: its refiner.
    """
    texts: dict[tuple[str, Loras, bool], Conditioning] = {}
    reads = reader or model

    def encode(text: str, loras: Loras, negative: bool) -> Conditioning:
        """The same words are the same object in the whole run, so that they are asked once."""
        key = text, loras, negative and reads.knows_negative
        if key not in texts:
            texts[key] = reads.read(text, request.clip_skip, loras, negative)
        return texts[key]

    guided = [_guided(encode, request, k) for k in range(len(request.regions) + 1)]
    booted, first_crop = bootstrap_steps(request), crop_start(request)
    colours = model.colour_latents() if booted else None
    views = views_of(request, model.info)
    windows = []
    for view, part in zip(views, parts_of(request, model.info), strict=True):
        if not request.regions:
            windows.append(guided[0])
            continue
        seen = part.visible
        boot = crops = None
        if colours is not None:
            boot = denoise.Bootstrap(colours, denoise.crop(noise, view.rows, view.columns), booted, seed)
        if first_crop < request.steps:
            boxes = boxes_of(part, request, model.info)
            crops = denoise.Crops({k: (box.rows, box.columns) for k, box in boxes.items()}, first_crop)
        masks = [None if k == 0 else _cells(part.masks[k], noise) for k in seen]
        windows.append(denoise.regions([guided[k] for k in seen], [_cells(part.weights[k], noise) for k in seen],
                                       masks, seen, boot, crops))
    if len(windows) == 1:
        return windows[0]
    shares = window_weights(views, (noise.shape[2], noise.shape[3]), smooth=request.panorama == "smooth")
    return denoise.windows(windows, [(view.rows, view.columns) for view in views],
                           [_cells(share, noise) for share in shares])


def _guided(encode: Encode, request: Request, k: int) -> denoise.Predictor:
    """The prompts of index k of the layout. What they say at a step hangs on the request and the step alone."""
    prompts = prompts_of(request, k)

    def at(step: int) -> denoise.Predictor:
        parts, negative = prompts.at(step, request.steps)
        return denoise.composed([encode(part.text, prompts.loras, False) for part in parts],
                                [part.weight for part in parts], encode(negative, prompts.loras, True), prompts.scale,
                                prompts.both)

    return denoise.adapted(denoise.scheduled(at), prompts.loras)


def _cells(values: object, like: torch.Tensor) -> torch.Tensor:
    """(h, w) numbers as a (1, 1, h, w) tensor beside `like`."""
    return torch.as_tensor(values, dtype=like.dtype, device=like.device)[None, None]
