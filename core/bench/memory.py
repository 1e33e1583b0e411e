"""Peak memory, of whole processes and of a GPU."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from core import layoutfile
from core.bench.measure import Bench, Row
from core.request import Request


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
