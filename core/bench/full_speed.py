"""Speed at the size of real checkpoints: networks of Stable Diffusion 1.5's and XL's published sizes, random weights.

On a GPU at the model's own size; on a processor only by name (`--only full_size`, `--only full_size_xl`), and then
small and short, as each row says. Attention is measured on a GPU only.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, DPMSolverMultistepScheduler
from torch.nn.attention import SDPBackend, sdpa_kernel

from core.bench.full_size import NAME, write_checkpoint
from core.bench.measure import Bench, Row, named
from core.bench.regions import reference_regions, strips
from core.engine import Engine
from core.models import tune
from core.models.catalogue import Catalogue
from core.models.device import DTYPES
from core.request import Preview, Request, Step
from core.tuning import Tuning

_WORDS = {"sd": "Stable Diffusion 1.5's size", "sdxl": "Stable Diffusion XL's size"}


def full_size_speed(bench: Bench) -> Iterator[Row]:
    """This engine / diffusers' pipeline in the same precision, and regions / 2 passes per prompt and step, with
    networks of Stable Diffusion 1.5's size; on a GPU compiled too."""
    if bench.engine.device.type == "cuda" or bench.asked and "full_size_speed".startswith(bench.asked):
        yield from speed_of(bench, "sd")


def full_size_xl_speed(bench: Bench) -> Iterator[Row]:
    """The same for Stable Diffusion XL's size: 7 GB on disk, and twice in memory."""
    if bench.engine.device.type == "cuda" or bench.asked.startswith("full_size_xl"):
        yield from speed_of(bench, "sdxl")


def speed_of(bench: Bench, family: str, **smaller: Any) -> Iterator[Row]:
    """smaller: sizes as in `write_checkpoint`, for a test."""
    gpu = bench.engine.device.type == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        words = bench.engine.catalogue.get(bench.request.model).path
        write_checkpoint(Path(folder) / NAME, Path(words) / "tokenizer", family=family, **smaller)
        catalogue = Catalogue(folder)
        info = catalogue.get(NAME)
        engine = Engine(catalogue, bench.engine.device.type, bench.engine.tuning)
        native = {"width": info.width, "height": info.height}
        short, middle = ({"steps": steps, "width": min(side, info.width), "height": min(side, info.height)}
                         for steps, side in ((2, 256), (5, 384)))
        plain = bench.request.replace(model=NAME, **(native if gpu else short))
        own = Bench(engine, plain, bench.rounds if gpu else 1)
        yield from against_pipeline(own, _WORDS[family])
        own.request = strips(bench.request.replace(model=NAME, **(native if gpu else middle)), 4)
        row = own.ratios(partial(_passes, engine, own.request), {"engine": partial(_steps, own)})["engine"]
        yield named(row, f"{_said(own, _WORDS[family])}: 4 regions / 2 passes per prompt and step, before decoding",
                    0.70)


def _passes(engine: Engine, request: Request) -> float:
    """Seconds of the reference's steps. Decoding is the same work in both and counts for much in a run this short."""
    return reference_regions(engine, request).seconds


def _steps(bench: Bench) -> float:
    """Seconds until the engine has taken its last step."""
    began = time.perf_counter()
    return max(time.perf_counter() - began for event in bench.engine.generate(bench.request, Preview("none"))
               if isinstance(event, Step))


def _said(bench: Bench, size: str) -> str:
    request = bench.request
    precision = bench.engine.load(request.model, request.precision).precision
    return f"{size}, {request.width}x{request.height}, {request.steps} steps, {precision}"


def against_pipeline(bench: Bench, size: str) -> Iterator[Row]:
    """Both in the same precision, unlike `against_diffusers`, which takes the pipeline as its documentation does."""
    request, engine = bench.request, bench.engine
    precision = engine.load(request.model, request.precision).precision
    pipe = DiffusionPipeline.from_pretrained(engine.catalogue.get(request.model).path, dtype=DTYPES[precision])
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)
    pipe = pipe.to(engine.device)
    pipe.set_progress_bar_config(disable=True)

    def theirs() -> Any:
        return pipe(request.prompt, negative_prompt=request.negative_prompt, num_inference_steps=request.steps,
                    width=request.width, height=request.height, guidance_scale=request.guidance,
                    generator=torch.Generator("cpu").manual_seed(request.seed)).images[0]

    goals = {"engine": 1.0, "engine, compiled,": 0.6}
    runs: dict[str, Callable[[], Any]] = {"engine": bench.generate}
    if engine.device.type == "cuda" and not engine.tuning.compile:
        compiled = Bench(Engine(engine.catalogue, "cuda", Tuning(compile=True)), request, bench.rounds)
        runs["engine, compiled,"] = compiled.generate
    for name, row in bench.ratios(theirs, runs).items():
        yield named(row, f"{_said(bench, size)}: {name} / diffusers {type(pipe).__name__}", goals[name])


def full_size_attention(bench: Bench) -> Iterator[Row]:
    """One attention of Stable Diffusion's widest level by each that is installed, and by each of torch's kernels."""
    if bench.engine.device.type != "cuda":
        return
    dtype = DTYPES[bench.engine.precision]
    for name in tune.attentions():
        yield Row(f"attention, 2 x 4096 cells, 8 heads of 40: {name}", 1000 * tune.seconds_of(name, dtype), "ms")
    for kernel in (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION,
                   SDPBackend.MATH):
        try:
            with sdpa_kernel(kernel):
                taken = tune.seconds_of("sdpa", dtype)
        except RuntimeError:  # this card, or this precision, has no such kernel
            continue
        yield Row(f"attention, the same: torch's {kernel.name.lower()}", 1000 * taken, "ms")
