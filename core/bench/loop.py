"""The loop against the least that could be, and against diffusers; plain times."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import torch

from core import samplers
from core.bench.measure import STEPS, Bench, Row, named, seconds
from core.conditioning import join
from core.engine import Engine
from core.request import Request
from core.samplers.build import build


def loop_overhead(bench: Bench) -> Iterator[Row]:
    """This engine without preview / a bare loop of network, scheduler and one decode."""
    row = bench.ratios(lambda: bare_loop(bench.engine, bench.request), {"engine": bench.generate})["engine"]
    yield named(row, "engine without preview / bare loop", 1.03)


@torch.inference_mode()
def bare_loop(engine: Engine, request: Request) -> torch.Tensor:
    """The least that makes the same picture: prompts encoded, guided steps, one decode."""
    model = engine.load(request.model, request.precision)
    entry, schedule = samplers.resolve(request.sampler, request.schedule, request.steps)
    scheduler = build(entry, schedule, request.steps, model.training, request.seed)
    text = join([model.encode_prompt(request.negative_prompt), model.encode_prompt(request.prompt)])
    generator = torch.Generator("cpu").manual_seed(request.seed)
    x = torch.randn(model.latent_shape(request.width, request.height), generator=generator)
    x = x.to(model.device) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        away, towards = model.predict(torch.cat([scaled, scaled]), t, text).chunk(2)
        x = scheduler.step(away + request.guidance * (towards - away), t, x, return_dict=False)[0]
    return model.decode(x)


def against_diffusers(bench: Bench) -> Iterator[Row]:
    """This engine / diffusers' own pipeline of a folder as its documentation sets it up, same work."""
    from diffusers import DiffusionPipeline, DPMSolverMultistepScheduler

    info = bench.engine.catalogue.get(bench.request.model)
    if info.is_file:
        return
    pipe = DiffusionPipeline.from_pretrained(info.path)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)
    pipe = pipe.to(bench.engine.device)
    pipe.set_progress_bar_config(disable=True)
    r = bench.request

    def theirs() -> Any:
        return pipe(r.prompt, negative_prompt=r.negative_prompt, num_inference_steps=r.steps, width=r.width,
                    height=r.height, guidance_scale=r.guidance,
                    generator=torch.Generator("cpu").manual_seed(r.seed)).images[0]

    yield named(bench.ratios(theirs, {"engine": bench.generate})["engine"],
                 f"engine / diffusers {type(pipe).__name__}", 0.8)


def speed(bench: Bench) -> Iterator[Row]:
    """Plain times on this machine, for orientation."""
    model = bench.engine.load(bench.request.model, bench.request.precision)
    done = bench.generate("vae")
    yield Row(f"{STEPS} steps, every one decoded by the full VAE", done.seconds, "s",
              goal=3.0 if bench.request.model == "storybook" else None)
    latents = torch.from_numpy(done.latents).to(model.device)
    with torch.inference_mode():
        text = join([model.encode_prompt(bench.request.negative_prompt), model.encode_prompt(bench.request.prompt)])
        both, t = latents.repeat(2, 1, 1, 1), torch.tensor(500)
        for name, run in (("one guided step of the network", lambda: model.predict(both, t, text)),
                          ("one full VAE decode", lambda: model.decode(latents))):
            yield Row(name, statistics.median(seconds(run) for _ in range(5)), "s")
