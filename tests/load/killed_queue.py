"""A queue in a process of its own, to be killed: it takes seeds line by line and says which it has queued.

`python -m tests.load.killed_queue FOLDER`. Every step that its network takes is written down in FOLDER/steps.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.jobs import Jobs
from core.request import Preview, Request, Step
from tests.fakes import FakeRunner


class Counting(FakeRunner):
    """Notes each step it takes, not those it finds in the record."""

    def __init__(self, notes: Path):
        super().__init__(0.004, records=True)
        self.notes = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def generate(self, request: Request, preview: Preview, cancel: Any, past: Any = None) -> Iterator[Any]:
        for event in super().generate(request, preview, cancel, past):
            if isinstance(event, Step) and event.index >= (past.steps if past else 0):
                os.write(self.notes, f"{request.seed} {event.index}\n".encode())
            yield event


def request_of(seed: int) -> Request:
    return Request(prompt=f"run {seed}", seed=seed, steps=4 + seed % 24, width=64, height=64, precision="fp32")


def main() -> None:
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory(dir=folder) as frames:
        jobs = Jobs(lambda: Counting(folder / "steps"), folder / "outputs", Path(frames))
        print("left", len(jobs.line()), len([job for job in jobs.line() if jobs._maker.kept_steps(job)]), flush=True)
        for line in sys.stdin:
            if line.strip() == "finish":
                while jobs.line():
                    jobs.wait(jobs.line()[0])
                print("finished", flush=True)
            else:
                jobs.submit(request_of(int(line)), Preview("none"), f"person {int(line) % 3}", lasting=True)
                print("queued", int(line), flush=True)


if __name__ == "__main__":
    main()
