"""What anybody may ask of the device beside the runs: a decode, a step kept as a picture, what one region believed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from core import metadata, trajectory
from core.board import Board
from core.errors import BadRequest
from core.favours import Favours
from core.files import disk_errors, save_jpeg
from core.job import Job, Runner
from core.request import Request
from core.trajectory import Trajectory

T = TypeVar("T")


class Looking(Board):
    """A board whose jobs can be looked into. The device's thread does the favours, between two steps of what runs."""

    def __init__(self) -> None:
        super().__init__()
        self._favours = Favours()
        self._closing = False

    async def show_region(self, job: Job, index: int, region: int, picture: int = 0) -> Path:
        """The JPEG of a region's own x0 at a step, decoded when first asked for, in mid-run between two steps.

        Raises BadRequest for a step or region that has none (not there yet, hidden, forgotten), OutputError.
        """
        path = job.region_frame(index, region, picture)
        if path.exists():
            return path
        if not (0 <= index < len(job.own_x0) and region in job.own_x0[index]
                and 0 <= picture < len(job.own_x0[index][region])):
            raise BadRequest(f"Region {region} has no estimate of its own at step {index + 1}: it is hidden, or the "
                             "step has not been taken.", "regions")
        latents = job.own_x0[index][region][picture:picture + 1]

        def decode(runner: Runner) -> Path:
            decoder = "vae" if job.preview.decoder == "none" else job.preview.decoder
            shown = runner.decode(latents, job.request, decoder)[0]
            with disk_errors("previews", job.frames_dir):
                save_jpeg(shown, path)
            return path

        return await self._ask(job.request, decode)

    async def decode(self, latents: np.ndarray, request: Request, decoder: str = "vae",
                     weights: str | None = None) -> tuple[np.ndarray, ...]:
        """(n, C, h, w) latents of a request's model -> n pictures (H, W, 3) uint8, between two steps of what runs.

        weights: as in `Engine.decode`; of a kept run its `outline.model`. Raises LoomError.
        """
        return await self._ask(request, lambda runner: runner.decode(latents, request, decoder, weights))

    async def keep_step(self, run: Job | Path | Trajectory, index: int) -> list[Path]:
        """What the run would have given had it been stopped after step `index`: x0 as PNG files beside its trajectory.

        Raises BadRequest for a step or a trajectory that is not there, TrajectoryError, OutputError.
        """
        if isinstance(run, Job):
            if run.trajectory is None:
                raise BadRequest("The steps of this run were not kept: make the picture anew, and stop it there.")
            run = run.trajectory
        kept = run if isinstance(run, Trajectory) else Trajectory(run, check=False)
        pictures = await self.decode(kept.x0(index), kept.request, "vae", kept.outline.model)
        parent, paths = kept.parent, []
        with disk_errors("pictures", kept.path.parent):
            for k, picture in enumerate(pictures):
                paths.append(trajectory.picture_path(kept, k, f"-step{index + 1}"))
                metadata.save_png(picture, paths[-1], kept.request.single(k), stopped_after=index + 1,
                                  forked=(parent.file, parent.step) if parent else None)
        return paths

    async def load(self, model: str) -> None:
        """Have a model in memory, once no run needs another. Raises ModelError, OutOfMemory."""
        await self._ask(Request(model=model), lambda runner: runner.load(model))

    async def _ask(self, request: Request, work: Callable[[Runner], T]) -> T:
        with self.lock:
            if self._closing:
                raise closing()
            answer = self._favours.add(request, work)
            self.lock.notify_all()
        return await asyncio.wrap_future(answer)


def closing() -> BadRequest:
    return BadRequest("The studio is closing: start it again to go on.")
