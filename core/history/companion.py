"""The kept steps of a picture's run go where the picture goes: into the trash, back, and away for good.

One trajectory serves all pictures of its run, DAY/HOUR-JOB-SEED: it leaves with the last and comes back with the first.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from core.history.scan import TRASH

log = logging.getLogger(__name__)

_RUN = re.compile(r"(\d{6}-[\w-]{6})-\d+.*\.(?:png|safetensors)", re.DOTALL)  # as core/making.py names them


def leaves(outputs: Path, place: str, moment: int) -> None:
    """A picture went from `place` into the trash of `moment`: so do the steps, if no picture of the run is left."""
    if not (run := _RUN.fullmatch(Path(place).name)):
        return
    folder = (outputs / place).parent
    here = _of(folder, run[1])
    if not any(path.suffix == ".png" for path in here):
        for path in here:
            _move(path, outputs / TRASH / str(moment) / Path(place).parent / path.name)


def comes_back(outputs: Path, place: str) -> None:
    """A picture is at `place` again: so are the steps, from wherever in the trash they are."""
    for folder in (outputs / TRASH).glob("*"):
        for path in steps_of(folder / place):
            if not (outputs / place).with_name(path.name).exists():
                _move(path, (outputs / place).with_name(path.name))
                for empty in (path.parent, *path.parent.parents):
                    if empty == outputs / TRASH or any(empty.iterdir()):
                        break
                    empty.rmdir()


def goes_for_good(outputs: Path, file: str) -> None:
    """A picture at `file` in the trash was deleted: so are steps that went with it. Raises OSError."""
    for path in steps_of(outputs / file):
        path.unlink(missing_ok=True)


def steps_of(picture: Path) -> list[Path]:
    """The kept steps that lie beside a picture of their run."""
    run = _RUN.fullmatch(picture.name)
    return [path for path in _of(picture.parent, run[1]) if path.suffix != ".png"] if run else []


def _of(folder: Path, run: str) -> list[Path]:
    """The files of a run in a folder."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [folder / name for name in sorted(names) if (found := _RUN.fullmatch(name)) and found[1] == run]


def _move(path: Path, target: Path) -> None:
    """What the disk refuses stays where it is: the picture matters more."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
    except OSError as error:
        log.warning("the steps of a run stay at %s: %s", path, error)
