"""Many people at one studio: `python -m tests.load.queue_load` prints what became of 200 runs of 8 people.

Each queues runs and at random stops, pauses, discards some, comes back as a new client, or hangs up in their middle.
What must hold: every finished picture lies on disk, none twice, no job is stuck, nobody waits for ever, and the studio
grows by no more than 50 MB and a handful of threads once it is warm.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gradio_client import Client

from core import metadata
from core.journal import FOLDER

ROOT = Path(__file__).parents[2]
GROWTH = 50  # MB
THREADS = 12  # more than when it was warm: the pool for short work breathes


@contextlib.contextmanager
def studio(folder: Path) -> Iterator[tuple[str, int]]:
    """(address, process id) of one in a process of its own."""
    with subprocess.Popen([sys.executable, "-m", "tests.load.studio", str(folder)], cwd=ROOT, text=True,
                          stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.kill()


def size(pid: int) -> tuple[float, int]:
    """(MB in memory, threads) of a process; zeros where the system does not tell."""
    try:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    except OSError:
        return 0.0, 0
    return int(lines["VmRSS"].split()[0]) / 1024, int(lines["Threads"])


class Person:
    """One of those at the studio. seeds: of the runs still to ask for; each is asked for once."""

    def __init__(self, address: str, name: str, seeds: list[int], rng: random.Random):
        self.address, self.name, self.seeds, self.rng = address, name, seeds, rng
        self.ends: dict[int, str] = {}  # seed -> how its run ended, as far as this person knows
        self.waited: list[float] = []
        self.client = self.fresh()

    def fresh(self) -> Client:
        """As after a reload."""
        return Client(self.address, auth=(self.name, self.name), verbose=False)

    def ask(self, name: str, **values: Any) -> Any:
        return self.client.predict(**values, api_name=name)

    def run(self, count: int) -> None:
        for _ in range(count):
            seed, course = self.seeds.pop(), self.rng.random()
            if course < 0.1:
                self.hang_up(seed)
                continue
            wanted = {"prompt": f"{self.name} {seed}", "seed": seed, "steps": self.rng.randrange(4, 24), "width": 64,
                      "height": 64}
            began = time.monotonic()
            job = self.ask("/enqueue", request=wanted, preview=self.rng.choice(("none", "linear")))
            act = {1: "stop", 2: "discard", 3: "pause"}.get(int(course * 10), "")
            if act:
                time.sleep(self.rng.choice((0, 0.05, 0.2)))
                self.ask("/control", job=job, act=act)
            if act == "pause":
                self.client = self.fresh()
                self.ask("/control", job=job, act="resume")
            try:
                _, about = self.ask("/result", job=job)
                self.ends[seed] = "stopped" if about["stopped"] else "done"
            except Exception as error:
                if "discarded" not in str(error):
                    raise
                self.ends[seed] = "discarded"
            self.waited.append(time.monotonic() - began)

    def hang_up(self, seed: int) -> None:
        """Ask for a picture on the line, and be gone."""
        asked = self.client.submit(prompt=f"{self.name} {seed}", seed=seed, steps=60, width=64, height=64,
                                   api_name="/txt2img")
        time.sleep(self.rng.random() * 0.3)
        asked.cancel()
        self.client = self.fresh()
        self.ends[seed] = "hung up"


def press(folder: Path, people: int, runs: int, warm: int, seed: int = 0) -> dict[str, Any]:
    """The figures, and under "wrong" a line for each thing that must not be."""
    with studio(folder) as (address, pid):
        crowd = [Person(address, f"person{k}", [1000 * k + n for n in range(runs)], random.Random(seed + k))
                 for k in range(people)]
        with concurrent.futures.ThreadPoolExecutor(people) as pool:
            began = time.monotonic()
            list(pool.map(lambda one: one.run(warm), crowd))
            before = size(pid)
            list(pool.map(lambda one: one.run(runs - warm), crowd))
            seconds = time.monotonic() - began
        stuck, patience = ["?"], time.monotonic() + 30
        while stuck and time.monotonic() < patience:
            time.sleep(0.2)
            stuck = [row["job"] for one in crowd for row in one.ask("/queue")]
        time.sleep(1)
        after = size(pid)
        left = [path.name for path in (folder / "outputs" / FOLDER).glob("*.json") if path.name != "order.json"]
    ends = {run: end for one in crowd for run, end in one.ends.items()}
    saved = (folder / "outputs").glob("**/????-??-??/*.png")
    pictures = collections.Counter(metadata.read_png(path).seed for path in saved)
    wrong = [f"{run}: {end}, and {pictures[run]} pictures" for run, end in ends.items()
             if not {"done": 1, "discarded": 0}.get(end, 0) <= pictures[run] <= (end != "discarded")]
    wrong += [f"{job} is stuck" for job in stuck] + [f"{name} is left in the journal" for name in left]
    if after[0] - before[0] > GROWTH:
        wrong.append(f"the studio grew by {after[0] - before[0]:.0f} MB")
    if after[1] - before[1] > THREADS:
        wrong.append(f"the studio grew by {after[1] - before[1]} threads")
    waited = sorted(time for one in crowd for time in one.waited)
    return {"runs": len(ends), "ends": dict(collections.Counter(ends.values())), "pictures": sum(pictures.values()),
            "seconds": round(seconds, 1), "median wait": round(waited[len(waited) // 2], 2),
            "longest wait": round(waited[-1], 2), "MB warm": round(before[0]), "MB after": round(after[0]),
            "threads warm": before[1], "threads after": after[1], "wrong": wrong}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--runs", type=int, default=25, help="of each")
    parser.add_argument("--warm", type=int, default=10, help="of these, before the studio's size is taken")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = press(Path(folder), chosen.people, chosen.runs, chosen.warm, chosen.seed)
    for name, value in figures.items():
        print(f"{name}: {value}")
    return 1 if figures["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
