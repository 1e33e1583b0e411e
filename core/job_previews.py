"""The previews of a job: which decoders, where the frames go, and who is told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from core.files import disk_errors, save_jpeg
from core.job import Job, Runner
from core.previewer import Costs, Previewer

LET_GO = 5.0  # seconds a decoding at hand may take when the studio closes


class CostTable(defaultdict[tuple[object, ...], Costs]):
    """What previews cost on this machine, by model and size."""

    def __init__(self) -> None:
        super().__init__(Costs)

    def of(self, job: Job) -> Costs:
        request = job.request
        return self[request.model, request.width, request.height, request.batch, request.precision]


def start(job: Job, runner: Runner, costs: CostTable,
          tell: Callable[[Job, Callable[[], None]], None]) -> Previewer | None:
    """Begin a job's previews, in the worker's thread. tell(job, change): makes a change and lets the watchers know.

    None if it wants none. Raises BadRequest for a decoder that the model lacks.
    """
    wanted = job.preview.decoder
    if wanted == "none":
        return None

    def write(index: int, pictures: tuple[np.ndarray, ...]) -> None:
        with disk_errors("previews", job.frames_dir):
            for k, picture in enumerate(pictures):
                save_jpeg(picture, job.frame(index, k))
        tell(job, lambda: job.without_frame.discard(index))

    def ended(error: Exception | None) -> None:
        def change() -> None:
            job.previewing = False
            if error and not job.note:
                job.note = f"The run goes on without previews. {error}"

        tell(job, change)

    budget = job.preview.budget if wanted == "auto" else None
    shows = runner.shows(job.request, wanted)
    job.previewing = True
    job.previewer = Previewer(shows, write, budget, costs.of(job), ended)
    return job.previewer


def drop(jobs: Iterable[Job]) -> None:
    """End all previews: the studio closes."""
    open_ones = [job.previewer for job in list(jobs) if job.previewing and job.previewer]
    for previewer in open_ones:
        previewer.drop()
    for previewer in open_ones:
        previewer.wait(LET_GO)
