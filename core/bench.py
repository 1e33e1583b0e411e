"""`python -m core bench`: how this studio compares, measured side by side in one run.

Machines are noisy, so every ratio is the median over rounds in which both sides take turns; an absolute time says
little beyond the machine and the hour it was taken on.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core import layoutfile, samplers
from core.engine import Engine
from core.jobs import Jobs
from core.layout import layout_of, predicted_cost
from core.models.catalogue import Catalogue
from core.recorder import Recorder
from core.request import Done, Preview, Region, Request, Step
from core.samplers.build import build
from core.trajectory import Trajectory

PROMPT = "a red sofa in a living room"
STEPS = 20


@dataclass(frozen=True)
class Row:
    """One measured figure. goal: what it should stay at or below, None when it is only reported."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    spread: tuple[float, float] | None = None  # smallest and largest round of a ratio

    @property
    def met(self) -> bool | None:
        return None if self.goal is None else self.value <= self.goal


@dataclass(eq=False)
class Bench:
    """What the parts share: one engine, one request, the number of rounds."""

    engine: Engine
    request: Request
    rounds: int

    def ratios(self, base: Callable[[], Any], others: dict[str, Callable[[], Any]]) -> dict[str, Row]:
        """Each of `others` / `base`, taking turns; one round first for warming up."""
        taken: dict[str, list[float]] = {name: [] for name in others}
        for turn in range(self.rounds + 1):
            reference = _seconds(base)
            for name, run in others.items():
                ratio = _seconds(run) / reference
                if turn:
                    taken[name].append(ratio)
        return {name: Row(name, statistics.median(r), "ratio", spread=(min(r), max(r))) for name, r in taken.items()}

    def generate(self, preview: str = "none", request: Request | None = None) -> Done:
        *_, done = self.engine.generate(request or self.request, Preview(preview))
        assert isinstance(done, Done)
        return done


def _seconds(run: Callable[[], Any]) -> float:
    """What `run` says it took, if it returns a float; else what it took."""
    began = time.perf_counter()
    said = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return said if isinstance(said, float) else time.perf_counter() - began


def loop_overhead(bench: Bench) -> Iterator[Row]:
    """This engine without preview / a bare loop of network, scheduler and one decode."""
    row = bench.ratios(lambda: bare_loop(bench.engine, bench.request), {"engine": bench.generate})["engine"]
    yield _named(row, "engine without preview / bare loop", 1.03)


@torch.inference_mode()
def bare_loop(engine: Engine, request: Request) -> torch.Tensor:
    """The least that makes the same picture: prompts encoded, guided steps, one decode."""
    model = engine.load(request.model, request.precision)
    entry, schedule = samplers.resolve(request.sampler, request.schedule, request.steps)
    scheduler = build(entry, schedule, request.steps, model.training, request.seed)
    text = torch.cat([model.encode_prompt(request.negative_prompt), model.encode_prompt(request.prompt)])
    generator = torch.Generator("cpu").manual_seed(request.seed)
    x = torch.randn(model.latent_shape(request.width, request.height), generator=generator)
    x = x.to(model.device) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        away, towards = model.predict(torch.cat([scaled, scaled]), t, text).chunk(2)
        x = scheduler.step(away + request.guidance * (towards - away), t, x, return_dict=False)[0]
    return model.decode(x)


def against_diffusers(bench: Bench) -> Iterator[Row]:
    """This engine / diffusers' StableDiffusionPipeline as its documentation sets it up, same work."""
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(bench.engine.catalogue.get(bench.request.model).path)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)
    pipe = pipe.to(bench.engine.device)
    pipe.set_progress_bar_config(disable=True)
    r = bench.request

    def theirs() -> Any:
        return pipe(r.prompt, negative_prompt=r.negative_prompt, num_inference_steps=r.steps, width=r.width,
                    height=r.height, guidance_scale=r.guidance,
                    generator=torch.Generator("cpu").manual_seed(r.seed)).images[0]

    yield _named(bench.ratios(theirs, {"engine": bench.generate})["engine"],
                 "engine / diffusers StableDiffusionPipeline", 0.8)


def preview_cost(bench: Bench) -> Iterator[Row]:
    """Every step decoded and written as JPEG beside the loop / no preview, both through the queue, as the page has it.

    "auto" may leave steps out while the run goes on and makes up for them afterwards, which is not counted.
    """
    goals = {"linear": 1.01, "tiny": 1.06, "auto": 1.05, "vae": None}
    if bench.engine.load(bench.request.model, bench.request.precision).tiny is None:
        del goals["tiny"]
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
        yield _named(rows[name], f"preview {name} {how} / no preview", goal)


def regions_cost(bench: Bench) -> Iterator[Row]:
    """Regions in strips / a loop that runs 2 passes per prompt and step, as MultiDiffusion's published code does."""
    plain = statistics.median(_seconds(bench.generate) for _ in range(bench.rounds))
    for count in (1, 2, 4, 8, 16):
        request = strips(bench.request, count)
        name = f"{count} region{'s' * (count > 1)} and a background"
        engine = partial(bench.generate, request=request)
        row = bench.ratios(partial(reference_regions, bench.engine, request), {"engine": engine})["engine"]
        yield _named(row, f"{name}: engine / 2 passes per prompt and step", 0.70 if count == 4 else None)
        yield Row(f"{name}: time / without regions", _seconds(engine) / plain, "ratio")


def regions_crops(bench: Bench) -> Iterator[Row]:
    """Small regions asked on crops in the second half / on whole pictures: work, time, and what it does to pictures."""
    for count in (2, 4):
        whole = corners(bench.request, count)
        cropped = whole.replace(crop_after=0.5)
        name = f"crops of {count} small regions after half of the steps / none"
        info = bench.engine.catalogue.get(whole.model)
        yield Row(f"{name}: cells", predicted_cost(cropped, info).work / predicted_cost(whole, info).work, "ratio")
        yield _named(bench.ratios(partial(bench.generate, request=whole),
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


@torch.inference_mode()
def reference_regions(engine: Engine, request: Request) -> torch.Tensor:
    """MultiDiffusion as its published code runs it: every step asks the network twice for each prompt, steps every
    region's latents and averages them. Same solver and schedule as the request's, binary masks."""
    model = engine.load(request.model, request.precision)
    entry, schedule = samplers.resolve(request.sampler, request.schedule, request.steps)
    layout = layout_of(request.replace(masks="paper"), model.info.multiple)
    count = len(layout.weights)
    schedulers = [build(entry, schedule, request.steps, model.training, request.seed) for _ in range(count)]
    prompts = [request.prompt, *(region.prompt for region in request.regions)]
    text = torch.cat([model.encode_prompt(request.negative_prompt)] * count + [model.encode_prompt(p) for p in prompts])
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
    return model.decode(x)


def trajectory(bench: Bench) -> Iterator[Row]:
    """Keeping every step in a file / not keeping them; and what a step takes on disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.safetensors"

        def kept() -> None:
            with contextlib.closing(Recorder(path)) as recorder:
                for event in bench.engine.generate(bench.request, Preview("none")):
                    if isinstance(event, Step):
                        recorder.add(event)

        yield _named(bench.ratios(bench.generate, {"kept": kept})["kept"], "steps kept / not kept", 1.01)
        yield Row("a step on disk", path.stat().st_size / Trajectory(path).total / 2**10, "KiB")


def speed(bench: Bench) -> Iterator[Row]:
    """Plain times on this machine, for orientation."""
    model = bench.engine.load(bench.request.model, bench.request.precision)
    done = bench.generate("vae")
    yield Row(f"{STEPS} steps, every one decoded by the full VAE", done.seconds, "s")
    latents = torch.from_numpy(done.latents)
    with torch.inference_mode():
        yield Row("one full VAE decode", statistics.median(_seconds(lambda: model.decode(latents)) for _ in range(5)),
                  "s")


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


def peak_memory(bench: Bench) -> Iterator[Row]:
    """Of a whole process that makes one picture: python -m core generate."""
    yield Row("peak memory of one picture, whole process", process_peak(bench, bench.request), "MiB")
    if bench.engine.device.type == "cuda":
        yield Row("peak GPU memory of one picture", gpu_peak(bench, bench.request), "MiB")


def process_peak(bench: Bench, request: Request) -> float:
    """MiB of a whole process that makes the picture: python -m core generate, or compose where there are regions."""
    script = ("import resource, sys; from core.__main__ import main; status = main(sys.argv[1:]); "
              "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(status)")
    with tempfile.TemporaryDirectory() as folder:
        command = ["generate", request.prompt]
        if request.regions:
            layout = Path(folder) / "layout.json"
            layout.write_text(json.dumps(layoutfile.to_dict(request)), encoding="utf-8")
            command = ["compose", str(layout)]
        options = {"--out": f"{folder}/a.png", "--model": request.model, "--steps": str(request.steps),
                   "--models-dir": str(bench.engine.catalogue.models_dir), "--device": bench.engine.device.type}
        result = subprocess.run([sys.executable, "-c", script, *command, *sum(options.items(), ())],
                                capture_output=True, text=True, check=True)
    unit = 1 if platform.system() == "Darwin" else 1024  # ru_maxrss is bytes there, kilobytes elsewhere
    return int(result.stdout.split()[-1]) * unit / 2**20


def gpu_peak(bench: Bench, request: Request) -> float:
    """MiB of the GPU's memory that a run takes at most, the model's own included."""
    torch.cuda.reset_peak_memory_stats()
    bench.generate("vae", request)
    return torch.cuda.max_memory_allocated() / 2**20


def page_start(bench: Bench) -> Iterator[Row]:
    """From `python app.py` to a page that answers."""
    app = Path(__file__).parent.parent / "app.py"
    waits = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            began = time.perf_counter()
            server = subprocess.Popen([sys.executable, str(app), "--port", str(port), "--outputs", folder],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
            try:
                while server.poll() is None:
                    with contextlib.suppress(OSError):
                        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).read()
                        waits.append(time.perf_counter() - began)
                        break
                    time.sleep(0.02)
            finally:
                server.terminate()
                server.wait(timeout=30)
    if not waits:
        raise RuntimeError("app.py ended before its page answered: run it by hand to see why")
    yield Row("python app.py to the page", statistics.median(waits), "s", goal=4)


PARTS: tuple[Callable[[Bench], Iterator[Row]], ...] = (
    loop_overhead, against_diffusers, preview_cost, regions_cost, regions_crops, regions_memory, trajectory, speed,
    first_preview, peak_memory, page_start)


def run(options: argparse.Namespace) -> None:
    """Measure and print. options: see `python -m core bench --help`."""
    catalogue = Catalogue(options.models_dir, extra=options.model)
    engine = Engine(catalogue, options.device)
    info = catalogue.get(options.model)
    request = Request(prompt=PROMPT, model=options.model, steps=STEPS, width=info.width, height=info.height, seed=1)
    bench = Bench(engine, request, max(1, options.rounds))
    model = engine.load(request.model)
    about = {"model": request.model, "size": f"{info.width}x{info.height}", "steps": STEPS,
             "device": str(engine.device), "precision": model.precision, "threads": torch.get_num_threads(),
             "rounds": bench.rounds, "torch": torch.__version__}
    rows = []
    if not options.json:
        print(", ".join(f"{k} {v}" for k, v in about.items()))
    for part in PARTS:
        if options.only and options.only not in part.__name__:
            continue
        for row in part(bench):
            rows.append(row)
            if not options.json:
                print(_line(row), flush=True)
    if options.json:
        print(json.dumps({"about": about, "rows": [asdict(row) | {"met": row.met} for row in rows]}, indent=1))


def _named(row: Row, name: str, goal: float | None) -> Row:
    return Row(name, row.value, row.unit, goal, row.spread)


def _line(row: Row) -> str:
    number = f"{row.value:9.3f} {row.unit:5}"
    spread = f" [{row.spread[0]:.3f} .. {row.spread[1]:.3f}]" if row.spread else ""
    goal = "" if row.goal is None else f"  goal <= {row.goal:g}: {'met' if row.met else 'not met'}"
    return f"{row.name:55} {number}{spread}{goal}"
