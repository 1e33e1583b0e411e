"""`kill -9` at random moments under load: `python -m tests.load.queue_faults` prints what became of the runs.

What must hold after the last start: every run that was queued has one picture, with the pixels of a run that nobody
interrupted; no picture that was there went or was made again; runs that were killed went on from their kept steps, so
that a kill costs one step at most; the journal is empty.
"""

from __future__ import annotations

import argparse
import collections
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core import metadata
from core.journal import FOLDER
from tests.fakes import picture
from tests.load.killed_queue import request_of

ROOT = Path(__file__).parents[2]
BATCH = 12  # runs that are queued after every start


class Victim:
    """A queue's process."""

    def __init__(self, folder: Path):
        self.process = subprocess.Popen([sys.executable, "-m", "tests.load.killed_queue", str(folder)], cwd=ROOT,
                                        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.left, self.begun = (int(word) for word in self.hear().split()[1:])  # runs left, and those with steps

    def say(self, word: object) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def harass(folder: Path, kills: int, seed: int = 0) -> dict[str, Any]:
    """The figures, and under "wrong" a line for each thing that must not be."""
    rng, queued, wrong, begun, began = random.Random(seed), [], [], 0, time.monotonic()
    there: dict[Path, int] = {}  # picture -> when it was written
    for kill in range(kills + 1):
        victim = Victim(folder)
        begun += victim.begun
        for path, moment in there.items():
            if not path.is_file() or path.stat().st_mtime_ns != moment:
                wrong.append(f"{path.name} went, or was made again, after kill {kill}")
        for number in range(BATCH):
            victim.say(kill * BATCH + number)
            queued.append(int(victim.hear().split()[1]))
            if kill < kills and rng.random() < 0.04:  # in the middle of asking
                break
        if kill == kills:
            victim.say("finish")
            assert victim.hear() == "finished"
        else:
            time.sleep(rng.random() * 0.5)
        victim.end()
        there = {path: path.stat().st_mtime_ns for path in (folder / "outputs").glob("**/????-??-??/*.png")}
    pictures = collections.defaultdict(list)
    for path in there:
        pictures[metadata.read_png(path).seed].append(path)
    for run in queued:
        if len(pictures[run]) != 1:
            wrong.append(f"run {run} has {len(pictures[run])} pictures")
            continue
        with Image.open(pictures[run][0]) as image:
            if not np.array_equal(np.asarray(image), picture(request_of(run), 0, 1.0)):
                wrong.append(f"run {run} has other pixels")
    steps = collections.Counter((folder / "steps").read_text().split("\n"))
    again = sum(count - 1 for step, count in steps.items() if step)
    if again > kills:
        wrong.append(f"{again} steps were taken again after {kills} kills")
    left = [path.name for path in (folder / "outputs" / FOLDER).glob("*.json") if path.name != "order.json"]
    wrong += [f"{name} is left in the journal" for name in left]
    return {"kills": kills, "runs": len(queued), "pictures": len(there), "runs gone on with": begun,
            "steps taken again": again, "steps": sum(steps.values()), "seconds": round(time.monotonic() - began, 1),
            "wrong": wrong}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = harass(Path(folder), chosen.kills, chosen.seed)
    for name, value in figures.items():
        print(f"{name}: {value}")
    return 1 if figures["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
