"""Previews of kept runs, decoded anew from their trajectories: after a restart, or for an export."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np

from core.errors import BadRequest
from core.files import disk_errors, save_jpeg
from core.job import Job
from core.jobs import Jobs
from core.trajectory import Trajectory

AT_ONCE = 4  # steps in one call: other people's runs wait for so many decodes at most


def redraw(queue: Jobs, job: Job, wanted: Callable[[], bool], tell: Callable[[int], None] = lambda k: None) -> None:
    """Decode every x0 that has no frame yet, between the steps of whatever runs; tell(k): step k has one now.

    wanted: asked before each call. Does nothing where no steps were kept. Raises LoomError.
    """
    if job.trajectory is None:
        return
    run = Trajectory(job.trajectory, check=False)
    left = [k for k in range(run.taken) if not job.frame(k).is_file()]
    decoder = "tiny" if job.preview.decoder in ("none", "auto") else job.preview.decoder
    for chunk in (left[at:at + AT_ONCE] for at in range(0, len(left), AT_ONCE)):
        if not wanted():
            return
        latents = np.concatenate([run.x0(k)[:1] for k in chunk])
        try:
            pictures = asyncio.run(queue.decode(latents, job.request, decoder, run.outline.model))
        except BadRequest:
            if decoder == "linear":
                raise
            decoder = "linear"  # every model has one
            pictures = asyncio.run(queue.decode(latents, job.request, decoder, run.outline.model))
        with disk_errors("previews", job.frames_dir):
            job.frames_dir.mkdir(parents=True, exist_ok=True)
            for k, picture in zip(chunk, pictures, strict=True):
                save_jpeg(picture, job.frame(k))
        for k in chunk:
            tell(k)
