"""Previews: what they cost beside the loop, how soon the first is there, and how true the linear map is."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional

from core.bench.measure import Bench, Row, named
from core.jobs import Jobs
from core.previews.linear import LinearDecoder, fit, random_latents
from core.request import Preview


def preview_cost(bench: Bench) -> Iterator[Row]:
    """Every step decoded and written as JPEG beside the loop / no preview, both through the queue, as the page has it.

    "auto" may leave steps out while the run goes on and makes up for them afterwards, which is not counted.
    """
    goals: dict[str, float | None] = {"linear": 1.01, "tiny": 1.06, "auto": 1.05, "vae": None}
    if bench.engine.load(bench.request.model, bench.request.precision).tiny is None:
        del goals["tiny"]
    yield from through_the_queue(bench, goals, "preview")


def through_the_queue(bench: Bench, goals: dict[str, float | None], what: str) -> Iterator[Row]:
    """The same for some decoders, each with its goal."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = Jobs(lambda: bench.engine, Path(folder) / "outputs", Path(folder) / "frames", trajectories=0)
        with contextlib.closing(jobs):
            def queued(decoder: str) -> float:
                began = time.perf_counter()
                job = jobs.wait(jobs.submit(bench.request, Preview(decoder)))
                took = time.perf_counter() - began
                assert job.state == "done", job.error
                while not job.settled:
                    time.sleep(0.001)
                return took

            rows = bench.ratios(partial(queued, "none"), {name: partial(queued, name) for name in goals})
    for name, goal in goals.items():
        how = "within its budget" if name == "auto" else "at every step"
        yield named(rows[name], f"{what} {name} {how} / no preview", goal)


def first_preview(bench: Bench) -> Iterator[Row]:
    """From the click (a job submitted, model loaded) to the first preview on disk, through the queue."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = Jobs(lambda: bench.engine, Path(folder) / "outputs", Path(folder) / "frames")
        with contextlib.closing(jobs):
            waits = []
            for _ in range(3):
                began = time.perf_counter()
                job = jobs.submit(bench.request)
                while not job.over and not (job.steps and 0 not in job.without_frame):
                    time.sleep(0.001)
                waits.append(time.perf_counter() - began)
                jobs.wait(job)
    yield Row("click to first preview", statistics.median(waits), "s")


FITTED, HELD_OUT = 24, 4  # random latents, as core/previews/linear.py fits on, and others to look at
SIDE = 8  # cells of Stable Diffusion's: its decoder takes a second and more for 64x64 pixels


def linear_truth(bench: Bench) -> Iterator[Row]:
    """How well the linear map's colours go with the decoder's, cell by cell, on latents it was not fitted to."""
    model = bench.engine.load(bench.request.model, bench.request.precision)
    name = "correlation of the linear preview with the decoder"
    with torch.inference_mode():
        latents = random_latents(HELD_OUT, model.latent_channels, 16, seed=99)
        shown = LinearDecoder.of(model)(latents)
        decoded = torch.cat([model.decode(z[None]).cpu() for z in latents])
        yield Row(f"{name}, random latents", correlation(shown, decoded), "r", goal=0.9, at_least=True)
        made = torch.from_numpy(np.concatenate([
            bench.generate(request=bench.request.replace(seed=seed, steps=10)).latents for seed in range(2, 6)]))
        decoded = torch.cat([model.decode(z[None]).cpu() for z in made])
        yield Row(f"{name}, pictures", correlation(LinearDecoder.of(model)(made), decoded), "r")
        yield Row(f"{name}, untrained decoder of Stable Diffusion's size", untrained(), "r")


def untrained() -> float:
    """The same of a decoder of Stable Diffusion's size with random weights: the fit must do without a trained one."""
    with torch.random.fork_rng(devices=[]):  # layers are initialised by the global generator, put back afterwards
        torch.random.default_generator.manual_seed(0)
        network: Any = AutoencoderKL
        vae = network(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4).eval()
    with torch.inference_mode():
        latents = random_latents(FITTED + HELD_OUT, 4, SIDE, seed=0)
        decoded = torch.cat([vae.decode(z[None] / 0.18215, return_dict=False)[0].clamp(-1, 1) for z in latents])
        shown = fit(latents[:FITTED], decoded[:FITTED])(latents[FITTED:])
    return correlation(shown, decoded[FITTED:])


def correlation(shown: Tensor, decoded: Tensor) -> float:
    """Pearson's r between a colour for each latent cell, (n, 3, h, w), and the mean of the pixels that the decoder
    makes of it, (n, 3, H, W)."""
    colours = functional.avg_pool2d(decoded.float(), decoded.shape[-1] // shown.shape[-1])
    return float(np.corrcoef(shown.cpu().numpy().ravel(), colours.numpy().ravel())[0, 1])
