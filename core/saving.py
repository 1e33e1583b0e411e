"""The pictures of a job onto the disk."""

from __future__ import annotations

from pathlib import Path

from core import metadata
from core.files import disk_errors
from core.job import Job
from core.request import Done
from core.trajectory import picture_path


def save_pictures(job: Job, done: Done, stem: Path, outputs: Path) -> list[Path]:
    """Each picture as PNG with its own seed in the metadata; those of a run that was resumed beside its trajectory.

    stem: folder and beginning of the name. Raises OutputError.
    """
    paths = []
    with disk_errors("pictures", stem.parent):
        stem.parent.mkdir(parents=True, exist_ok=True)
        for k, picture in enumerate(done.pictures):
            request = job.request.single(k).replace(precision=done.precision)
            path = stem.with_name(f"{stem.name}-{request.seed}.png")
            if job.resumes and job.past and job.past.run.path.is_relative_to(outputs):
                path = picture_path(job.past.run, k)
                path = picture_path(job.past.run, k, "-resumed") if path.exists() else path
            metadata.save_png(picture, path, request, stopped_after=done.steps if done.stopped else None,
                              forked=job.forked)
            paths.append(path)
    return paths
