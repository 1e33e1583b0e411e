"""What keeping every step costs."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from core.bench.measure import Bench, Row, named
from core.recorder import Recorder
from core.request import Preview, Step
from core.trajectory import Trajectory


def trajectory(bench: Bench) -> Iterator[Row]:
    """Keeping every step in a file / not keeping them; and what a step takes on disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.safetensors"

        def kept() -> None:
            with contextlib.closing(Recorder(path)) as recorder:
                for event in bench.engine.generate(bench.request, Preview("none")):
                    if isinstance(event, Step):
                        recorder.add(event)

        yield named(bench.ratios(bench.generate, {"kept": kept})["kept"], "steps kept / not kept", 1.01)
        yield Row("a step on disk", path.stat().st_size / Trajectory(path).total / 2**10, "KiB")
