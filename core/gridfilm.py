"""The whole grid of a comparison as a film over the steps: all cells at the same part of their way, then their ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from core import export, grid
from core.contest import Contest
from core.errors import BadRequest
from core.job import Job

LONGEST = 1600  # pixels of a frame's sides, where cells need not go below grid.LEAST for it
PIXELS = 36_000_000  # of all frames together: 108 MB while the film is made, and a file of a few MB
MOST_FRAMES = 60
SECONDS = 0.22  # a step is seen
SHORTEST, LENGTH = 3.0, 12.0  # seconds of a film


def make(contest: Contest, kind: str, wanted: Callable[[], bool], tell: Callable[[int, int], None]) -> Path | None:
    """Write grid.webp (or .gif, .mp4) beside grid.png; None when it is no longer wanted. tell(made, total frames).

    A step without a preview is seen as the one before it; a cell whose steps were not kept, as its finished picture
    when the others have theirs. Raises BadRequest, OutputError.
    """
    if not export.KINDS[kind].moves:
        raise BadRequest("An animated grid is a film: choose WebP, MP4 or GIF.")
    jobs = [job if job and job.state == "done" and job.results else None for job in contest.jobs]
    if not any(jobs):
        raise BadRequest("No cell is finished yet: there is nothing to show in motion.")
    ends = [_read(job.results[0]) if job else None for job in jobs]
    side = side_of(contest, ends)
    box = grid.cell_size(ends, side)
    errors = [contest.result(k).error for k in range(len(jobs))]
    moments = moments_of(max(len(job.steps) for job in jobs if job), grid.sheet_size(contest.comparison, box))
    cells = [Cell(job, end, box) if job and end is not None else None for job, end in zip(jobs, ends, strict=True)]
    frames = []
    for k, part in enumerate(moments):
        if not wanted():
            return None
        tell(k, len(moments))
        pictures = [cell.at(part) if cell else None for cell in cells]
        corner = "finished" if part > 1 else f"{round(100 * part)} % of the steps"
        frames.append(np.asarray(grid.draw(contest.comparison, pictures, errors, side, corner)))
    tell(len(moments), len(moments))
    seconds = min(max(SECONDS * len(moments), SHORTEST), LENGTH)
    path = contest.folder / f"grid{export.KINDS[kind].suffix}"
    return export.export(frames, [], [], path, export.Options(kind, seconds=seconds))


def side_of(contest: Contest, ends: list[np.ndarray | None]) -> int:
    """Pixels of a cell's longer side, so that the sheet keeps to LONGEST if it can."""
    side = grid.SIDE
    while side > grid.LEAST and max(grid.sheet_size(contest.comparison, grid.cell_size(ends, side))) > LONGEST:
        side -= 8
    return side


def moments_of(steps: int, sheet: tuple[int, int]) -> list[float]:
    """Parts of the way, up to 1, that are shown, and 2 for the finished pictures; fewer for large sheets."""
    most = max(2, min(MOST_FRAMES, PIXELS // (sheet[0] * sheet[1])) - 1)
    count = min(max(steps, 1), most)
    return [(k + 1) / count for k in range(count)] + [2.0]


class Cell:
    """The pictures of a finished cell, one at a time, as large as it stands in the grid."""

    def __init__(self, job: Job, end: np.ndarray, box: tuple[int, int]):
        scale = min(box[0] / end.shape[1], box[1] / end.shape[0])
        self._size = max(1, round(end.shape[1] * scale)), max(1, round(end.shape[0] * scale))
        self._job, self._end = job, self._fitted(end)
        self._step = -1
        self._seen: np.ndarray | None = None

    def at(self, part: float) -> np.ndarray:
        """part: of its way, 0 to 1; beyond that its finished picture."""
        if part > 1:
            return self._end
        step = min(math.ceil(part * len(self._job.steps) - 1e-9), len(self._job.steps)) - 1
        while step >= 0 and not self._job.frame(step).is_file():
            step -= 1
        if step != self._step or self._seen is None:
            self._step = step
            self._seen = self._fitted(_read(self._job.frame(step))) if step >= 0 else _nothing(self._size)
        return self._seen

    def _fitted(self, picture: np.ndarray) -> np.ndarray:
        if picture.shape[1::-1] == self._size:
            return picture
        return np.asarray(Image.fromarray(picture).resize(self._size, Image.Resampling.LANCZOS))


def _nothing(size: tuple[int, int]) -> np.ndarray:
    return np.full((size[1], size[0], 3), grid.FAINT, np.uint8)


def _read(path: Path) -> np.ndarray:
    """Raises BadRequest for a picture that is gone."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise BadRequest(f"{path.name} cannot be read ({getattr(error, 'strerror', None) or type(error).__name__}): "
                         "open the comparison anew, and Resume makes it again.") from None
