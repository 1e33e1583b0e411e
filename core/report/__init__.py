"""`python -m core samplers --report docs/samplers.md`: every sampler of the list measured, and a page written of it.

Cells are kept in a folder; the same command goes on where it was stopped, and makes anew what other weights made.
"""

from __future__ import annotations

import platform
import shlex
import signal
import sys
import threading
import time
from typing import Any

from core.errors import BadRequest
from core.files import writable
from core.models.catalogue import Catalogue
from core.models.fingerprint import fingerprint
from core.report.measure import CALLS, PROMPTS, REFERENCE, SEEDS, Plan, measure
from core.samplers import SAMPLERS


def plan_of(options: Any) -> Plan:
    """What the options ask for. Raises BadRequest."""
    if not 1 <= options.prompts <= len(PROMPTS):
        raise BadRequest(f"--prompts must be 1 to {len(PROMPTS)}, not {options.prompts}.")
    if not 1 <= options.seeds <= 64:
        raise BadRequest(f"--seeds must be 1 to 64, not {options.seeds}.")
    if any(calls < 1 for calls in options.calls) or len(set(options.calls)) < len(options.calls):
        raise BadRequest("--calls must be different whole numbers above 0.")
    for name in options.samplers or ():
        SAMPLERS[name]
    return Plan(options.model, tuple(options.samplers or ()), PROMPTS[:options.prompts], options.seeds,
                tuple(sorted(options.calls)), options.reference)


def run(options: Any) -> bool:
    """Measure and write -> whether it was stopped. options: see `python -m core samplers --help`. Raises LoomError."""
    if options.report.suffix != ".md":
        raise BadRequest(f"--report must name a Markdown file, not {options.report}: like docs/samplers.md.")
    plan = plan_of(options)
    catalogue = Catalogue(options.models_dir, options.model, options.also_models)
    info = catalogue.get(options.model)
    plan.comparison(plan.prompts[0], catalogue)  # what cannot be compared is told now
    for folder in (options.report.resolve().parent, options.cells):
        writable(folder)

    from core.engine import Engine  # torch and diffusers: only now that all is known to be good
    from core.report.page import write

    engine, cancel = Engine(catalogue, options.device), threading.Event()
    previous = signal.signal(signal.SIGINT, lambda *_: cancel.set())
    try:
        measured = measure(plan, catalogue, engine, options.cells, cancel, lambda line: print(line, flush=True))
    finally:
        signal.signal(signal.SIGINT, previous)
    if measured is None:
        print(f"Stopped: the same command goes on from {options.cells}.", file=sys.stderr)
        return True
    about = {"command": f"`{command_of(options)}`",
             "model": f"{info.name}, {info.width}x{info.height}, weights {fingerprint(info)}",
             "made": f"{time.strftime('%Y-%m-%d')}, {measured.seconds / 60:.0f} minutes of runs, "
                     f"{measured.precision} on {hardware(str(engine.device))}",
             "software": software()}
    for path in write(measured, options.report, about):
        print(path)
    return False


def command_of(options: Any) -> str:
    """The command that makes this page, without what is its default and what another machine has elsewhere."""
    words = ["python", "-m", "core", "samplers", "--report", str(options.report)]
    for name, default in (("samplers", None), ("calls", list(CALLS)), ("prompts", len(PROMPTS)), ("seeds", SEEDS),
                          ("reference", REFERENCE), ("model", "storybook"), ("device", "auto")):
        value = getattr(options, name)
        if value != default:
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


def hardware(device: str) -> str:
    """The processor or GPU in words."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name()
    from core.storybook.export import processor

    return processor()


def software() -> str:
    """The versions that decide the pixels."""
    import diffusers
    import torch

    return f"torch {torch.__version__}, diffusers {diffusers.__version__}, Python {platform.python_version()}"

