"""The training set on disk: rendered in worker processes, once, in shards that appear whole or not at all."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.storybook.progress import Progress, write_atomically
from core.storybook.scenes import render

SHARD = 500  # scenes; about 25 MB of 128-pixel pictures
HELD_OUT_SEED = 900_000_000  # scenes from here on are never trained on


class Canvas(NamedTuple):
    """One size of picture the training set holds."""

    size: int  # pixels
    zoom: float  # of the things: on a small canvas they keep the size in pixels that they have on a large one
    most: int  # things per scene
    first_seed: int


CANVASES: dict[int, Canvas] = {128: Canvas(128, 1.4, 2, 0), 256: Canvas(256, 1.0, 3, 100_000_000)}


class Scenes(NamedTuple):
    """pictures: (N, size, size, 3) uint8. labels: (N, 32, 32) uint8. captions, boxes: N each."""

    pictures: np.ndarray
    labels: np.ndarray
    captions: list[str]
    boxes: list[list[tuple[str, tuple[float, float, float, float]]]]


def render_many(canvas: Canvas, first_seed: int, count: int) -> Scenes:
    """`count` scenes of consecutive seeds."""
    drawn = [render(first_seed + i, canvas.size, canvas.zoom, canvas.most) for i in range(count)]
    return Scenes(
        np.stack([np.asarray(one.picture) for one in drawn]),
        np.stack([one.labels for one in drawn]),
        [one.caption for one in drawn],
        [one.boxes for one in drawn],
    )


def _render_shard(folder: Path, canvas: Canvas, index: int) -> int:
    scenes = render_many(canvas, canvas.first_seed + index * SHARD, SHARD)
    write_shard(shard_path(folder, canvas.size, index), scenes)
    return SHARD


def write_shard(path: Path, scenes: Scenes) -> None:
    """What `read_shard` gives back. The folder must be there."""
    words = np.frombuffer(json.dumps([scenes.captions, scenes.boxes]).encode(), np.uint8)
    write_atomically(path, lambda file: np.savez(file, pictures=scenes.pictures, labels=scenes.labels, words=words))


def shard_path(folder: Path, size: int, index: int) -> Path:
    return folder / f"scenes{size}" / f"{index:05d}.npz"


def shards(folder: Path, size: int) -> list[Path]:
    """The finished shards of one picture size, in order."""
    return sorted((folder / f"scenes{size}").glob("[0-9]*.npz"))


def read_shard(path: Path) -> Scenes:
    with np.load(path) as held:
        captions, boxes = json.loads(held["words"].tobytes().decode())
        return Scenes(held["pictures"], held["labels"], captions, boxes)


def reduced(pictures: np.ndarray, size: int = 128) -> np.ndarray:
    """(N, k size, k size, 3) uint8 -> (N, size, size, 3) uint8, by area."""
    k = pictures.shape[1] // size
    if k == 1:
        return pictures
    total = sum(pictures[:, y::k, x::k].astype(np.uint16) for y in range(k) for x in range(k))
    return ((total + k * k // 2) // (k * k)).astype(np.uint8)


def render_stage(folder: Path, minutes: float, counts: dict[int, int], workers: int = 0) -> None:
    """Renders scenes until there are `counts[size]` of each size or the time is up; goes on where it was stopped."""
    progress = Progress("render", minutes)
    todo = []
    for size, count in counts.items():
        (folder / f"scenes{size}").mkdir(parents=True, exist_ok=True)
        missing = [i for i in range(count // SHARD) if not shard_path(folder, size, i).exists()]
        todo += [(CANVASES[size], i, i * SHARD / count) for i in missing]
    todo.sort(key=lambda job: job[2])  # all sizes grow together
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        running: set[Future[int]] = set()
        done = 0
        while (todo and progress.time_left() > 0) or running:
            while todo and len(running) < 2 * (workers or os.cpu_count() or 1) and progress.time_left() > 0:
                canvas, index, _ = todo.pop(0)
                running.add(pool.submit(_render_shard, folder, canvas, index))
            finished, running = wait(running, timeout=5, return_when=FIRST_COMPLETED)
            done += sum(future.result() for future in finished)
            progress.show(done, {"left": float(len(todo))})
    print(f"render: {done} scenes in {time.monotonic() - progress.start:.0f} s", flush=True)
