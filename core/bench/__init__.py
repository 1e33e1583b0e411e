"""`python -m core bench`: how this studio compares, measured side by side in one run.

Machines are noisy, so every ratio is the median over rounds in which both sides take turns; an absolute time says
little beyond the machine and the hour it was taken on. A file for each group of measurements; each is a function from
Bench to Rows, named in PARTS.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict

import torch

from core.bench.cells import comparison
from core.bench.full_size import full_size_previews
from core.bench.full_speed import full_size_attention, full_size_speed, full_size_xl_speed
from core.bench.keeping import trajectory
from core.bench.loop import against_diffusers, loop_overhead, speed
from core.bench.measure import PROMPT, STEPS, Bench, Row, line
from core.bench.memory import peak_memory
from core.bench.page import page_start
from core.bench.previews import first_preview, linear_truth, preview_cost
from core.bench.regions import regions_cost, regions_crops, regions_memory
from core.engine import Engine
from core.models.catalogue import Catalogue
from core.request import Request
from core.tuning import Tuning

PARTS: tuple[Callable[[Bench], Iterator[Row]], ...] = (
    loop_overhead, against_diffusers, preview_cost, linear_truth, comparison, regions_cost, regions_crops,
    regions_memory, trajectory, speed, first_preview, peak_memory, page_start, full_size_previews, full_size_speed,
    full_size_xl_speed, full_size_attention)


def run(options: argparse.Namespace) -> None:
    """Measure and print. options: see `python -m core bench --help`."""
    catalogue = Catalogue(options.models_dir, options.model, options.also_models)
    engine = Engine(catalogue, options.device, Tuning.of(options))
    info = catalogue.get(options.model)
    request = Request(prompt=PROMPT, model=options.model, steps=STEPS, width=info.width, height=info.height, seed=1)
    bench = Bench(engine, request, max(1, options.rounds), options.only or "")
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
                print(line(row), flush=True)
    if options.json:
        print(json.dumps({"about": about, "rows": [asdict(row) | {"met": row.met} for row in rows]}, indent=1))
