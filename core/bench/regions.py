"""Regions: their cost, their memory, and what crops save."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from core import samplers
from core.bench.measure import Bench, Row, named, seconds
from core.bench.memory import gpu_peak, process_peak
from core.conditioning import join
from core.engine import Engine
from core.layout import layout_of, predicted_cost
from core.request import Region, Request
from core.samplers.build import build


def regions_cost(bench: Bench) -> Iterator[Row]:
    """Regions in strips / a loop that runs 2 passes per prompt and step, as MultiDiffusion's published code does."""
    plain = statistics.median(seconds(bench.generate) for _ in range(bench.rounds))
    for count in (1, 2, 4, 8, 16):
        request = strips(bench.request, count)
        name = f"{count} region{'s' * (count > 1)} and a background"
        engine = partial(bench.generate, request=request)
        row = bench.ratios(partial(reference_regions, bench.engine, request), {"engine": engine})["engine"]
        yield named(row, f"{name}: engine / 2 passes per prompt and step", 0.70 if count == 4 else None)
        yield Row(f"{name}: time / without regions", seconds(engine) / plain, "ratio")


def regions_crops(bench: Bench) -> Iterator[Row]:
    """Small regions asked on crops in the second half / on whole pictures: work, time, and what it does to pictures."""
    for count in (2, 4):
        whole = corners(bench.request, count)
        cropped = whole.replace(crop_after=0.5)
        name = f"crops of {count} small regions after half of the steps / none"
        info = bench.engine.catalogue.get(whole.model)
        yield Row(f"{name}: cells", predicted_cost(cropped, info).work / predicted_cost(whole, info).work, "ratio")
        yield named(bench.ratios(partial(bench.generate, request=whole),
                                  {"crops": partial(bench.generate, request=cropped)})["crops"], f"{name}: time", None)
        pairs = [[bench.generate(request=one.replace(seed=seed)) for one in (whole, cropped)] for seed in range(1, 5)]
        yield Row(f"{name}: RMS difference of final latents", statistics.mean(
            float(np.sqrt(np.mean((b.latents - a.latents) ** 2)) / a.latents.std()) for a, b in pairs), "std")
        yield Row(f"{name}: mean difference of pictures", statistics.mean(
            float(np.abs(b.pictures[0] - a.pictures[0].astype(float)).mean()) for a, b in pairs), "of 255")


def regions_memory(bench: Bench) -> Iterator[Row]:
    """What 16 regions need beyond 1: batches are bounded, so it should be little."""
    measures = {"memory of the whole process": process_peak}
    if bench.engine.device.type == "cuda":
        measures["GPU memory"] = gpu_peak
    for name, measure in measures.items():
        one, many = (measure(bench, strips(bench.request, count).replace(steps=5)) for count in (1, 16))
        yield Row(f"peak {name}, 1 region", one, "MiB")
        yield Row(f"peak {name}, 16 regions / 1 region", many / one, "ratio")


def corners(request: Request, count: int) -> Request:
    """The request with up to four small regions, each a quarter of a side, near the corners."""
    places = ((0.08, 0.62), (0.67, 0.62), (0.08, 0.08), (0.67, 0.08))
    things = ("a red sofa", "a green house plant", "a blue painting", "a yellow lamp")
    return request.replace(prompt="a living room", regions=tuple(
        Region(name=thing, prompt=thing, box=(x, y, x + 0.25, y + 0.25))
        for (x, y), thing in zip(places[:count], things[:count], strict=True)))


def strips(request: Request, count: int) -> Request:
    """The request with `count` upright strips that leave a fifth of the picture to the background."""
    width = 0.8 / count
    return request.replace(prompt="a living room", regions=tuple(
        Region(name=str(k), prompt=f"a {colour} {thing}", box=(k * width, 0.1, (k + 1) * width, 1.0))
        for k, (colour, thing) in enumerate(itertools.islice(itertools.product(
            ("red", "blue", "green", "yellow"), ("sofa", "lamp", "house", "tree")), count))))


class Reference(NamedTuple):
    """What the reference made, and how long it took until then."""

    pictures: torch.Tensor  # (1, 3, H, W)
    seconds: float  # before decoding


@torch.inference_mode()
def reference_regions(engine: Engine, request: Request) -> Reference:
    """MultiDiffusion as its published code runs it: every step asks the network twice for each prompt, steps every
    region's latents and averages them. Same solver and schedule as the request's, binary masks."""
    began = time.perf_counter()
    model = engine.load(request.model, request.precision)
    entry, schedule = samplers.resolve(request.sampler, request.schedule, request.steps)
    layout = layout_of(request.replace(masks="paper"), model.info.multiple)
    count = len(layout.weights)
    schedulers = [build(entry, schedule, request.steps, model.training, request.seed) for _ in range(count)]
    prompts = [request.prompt, *(region.prompt for region in request.regions)]
    text = join([model.encode_prompt(request.negative_prompt)] * count + [model.encode_prompt(p) for p in prompts])
    masks, colours = torch.from_numpy(layout.weights)[:, None].to(model.device), model.colour_latents()
    generator = torch.Generator("cpu").manual_seed(request.seed)
    noise = torch.randn(model.latent_shape(request.width, request.height), generator=generator).to(model.device)
    x = noise
    for i, t in enumerate(schedulers[0].timesteps):
        seen = x.repeat(count, 1, 1, 1)
        if i < request.bootstrap * request.steps:
            picks = colours[torch.randint(len(colours), (count - 1,), generator=generator)][:, :, None, None]
            outside = schedulers[0].add_noise(picks.expand_as(seen[1:]), noise.expand_as(seen[1:]), t[None])
            seen[1:] = masks[1:] * seen[1:] + (1 - masks[1:]) * outside
        away, towards = model.predict(torch.cat([seen, seen]), t, text).chunk(2)
        output = away + request.guidance * (towards - away)
        x = sum(mask * scheduler.step(out[None], t, own[None], return_dict=False)[0]
                for mask, scheduler, out, own in zip(masks, schedulers, output, seen, strict=True))
    if x.is_cuda:
        torch.cuda.synchronize()
    taken = time.perf_counter() - began
    return Reference(model.decode(x), taken)
