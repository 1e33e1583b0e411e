"""The pictures of a job onto the disk."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path

from core import history, metadata
from core.files import disk_errors
from core.job import Job
from core.owners import home
from core.request import Done
from core.trajectory import Trajectory, picture_path


def save_pictures(job: Job, done: Done, stem: Path, outputs: Path) -> list[Path]:
    """Each picture as PNG with its own seed in the metadata; those of a run that was resumed beside its trajectory.

    stem: folder and beginning of the name. Raises OutputError.
    """
    paths = picture_paths(job, stem, outputs)
    with disk_errors("pictures", stem.parent):
        stem.parent.mkdir(parents=True, exist_ok=True)
        for k, (picture, path) in enumerate(zip(done.pictures, paths, strict=False)):  # none, if stopped at once
            request = job.request.single(k).replace(precision=done.precision)
            metadata.save_png(picture, path, request, stopped_after=done.steps if done.stopped else None,
                              forked=job.forked)
            history.noticed(path, home(outputs, job.owner))
    return paths[:len(done.pictures)]


def picture_paths(job: Job, stem: Path, outputs: Path) -> list[Path]:
    """Where a job's pictures will lie. Known before it runs, so that a studio that was killed can tell whether they
    were finished."""
    if job.resumes and job.past and job.past.run.path.is_relative_to(outputs):
        return [picture_path(job.past.run, k, job.word) for k in range(job.request.batch)]
    return [stem.with_name(f"{stem.name}-{job.request.single(k).seed}.png") for k in range(job.request.batch)]


def free_word(run: Trajectory) -> str:
    """What tells the pictures of a run that is resumed from those that stopping it gave: "", if there are none."""
    words: Iterator[str] = chain(("", "-resumed"), (f"-resumed{n}" for n in count(2)))
    return next(word for word in words
                if not any(picture_path(run, k, word).exists() for k in range(run.request.batch)))
