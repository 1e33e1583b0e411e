"""Sets of pictures: what every combination of a comparison's axes makes of many seeds and prompts, as a whole.

Seeds and prompts are pooled, all other axes tell the sets apart. Features and classes are those of the scorer that came
with the model (core/scorer.py), so that the figures are named after it; they are not the FID and the Inception Score of
papers, whose network is Inception v3. docs/figures.md says what each figure means.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from core import metrics
from core.compare import Comparison
from core.models.catalogue import ModelInfo
from core.storybook import vocabulary

if TYPE_CHECKING:
    from core.scorer import Scorer

POOLED = ("prompt", "seed")
# Two disjoint sets of the same 1024 renders are this far apart on Storybook's scorer, by their size: 1.17 (8), 0.82
# (16), 0.42 (32), 0.22 (64), 0.11 (128), 0.05 (256), where all features together have a variance of about 1.
LEAST_FOR_FID = 32
# Of 11.1 for all 1024 renders, sets of 8 reach 5.2, of 16 7.2, of 32 8.2, of 64 9.8, of 128 10.5.
LEAST_FOR_CLASSES = 16
_AT_ONCE = 16  # pictures the scorer sees in one go


class PictureSet(NamedTuple):
    """values: field -> value, of the axes that are not pooled. cells: indices into the comparison's cells."""

    values: dict[str, Any]
    cells: tuple[int, ...]


def sets_of(comparison: Comparison) -> list[PictureSet]:
    """One for each combination of the axes that are not pooled; none where no set has two pictures. Combinations that
    come out as the same cells are one set."""
    kept: dict[tuple[tuple[str, Any], ...], list[int]] = {}
    chosen = itertools.product(*(axis.values for axis in comparison.axes))
    for values, cell in zip(chosen, comparison.grid, strict=True):
        key = tuple((axis.field, value) for axis, value in zip(comparison.axes, values, strict=True)
                    if axis.field not in POOLED)
        kept.setdefault(key, []).append(cell)
    found: dict[tuple[int, ...], PictureSet] = {}
    for key, cells in kept.items():
        once = tuple(dict.fromkeys(cells))
        found.setdefault(once, PictureSet(dict(key), once))
    requests = [cell.request for cell in comparison.cells]
    several = any(sum(r.batch for k in one.cells if (r := requests[k])) > 1 for one in found.values())
    return list(found.values()) if several else []


def classes_of(info: ModelInfo, comparison: Comparison) -> tuple[str, ...]:
    """The captions among which a picture is sorted: for Storybook "a sofa", "a lamp" and so on, a caption for every
    thing it knows; for other models the comparison's own prompts, where there are two at least."""
    if info.is_storybook:
        return tuple(vocabulary.article(thing) for thing in vocabulary.THINGS)
    prompts = tuple(dict.fromkeys(cell.request.prompt for cell in comparison.cells if cell.request))
    return prompts if len(prompts) > 1 else ()


def figures(comparison: Comparison, pictures: Sequence[Sequence[Path]], references: Sequence[Sequence[Path]],
            scorer: Scorer, classes: Sequence[str]) -> list[dict[str, Any]]:
    """A row for every set: its number from 1, its values, how many pictures, and

    fid_scorer: Frechet distance on the scorer's image features to the pictures of the reference runs, or to those of
    the first set where there are none; fid_to says which. is_scorer: metrics.class_score over the scorer's
    probabilities of `classes`. Either is None where there are too few pictures; note says so.

    pictures: for every cell of the comparison, by its index, the files of its batch; empty where it was not made.
    references: likewise those of its reference run.
    """
    sets = sets_of(comparison)
    features = _Features(scorer)
    texts = scorer.read(classes) if classes else None
    rows: list[dict[str, Any]] = []
    first: np.ndarray | None = None
    for number, one in enumerate(sets, 1):
        own = features.of(path for k in one.cells for path in pictures[k])
        exact = features.of(path for k in one.cells for path in references[k])
        if first is None:
            first = own
        others, to = (exact, "reference") if len(exact) else (first, "set 1")
        row = {"set": number, **one.values, "pictures": len(own), "fid_scorer": None, "fid_to": to,
               "fid_pictures": len(others), "is_scorer": None}
        notes = []
        fewer = min(len(own), len(others))
        if number == 1 and others is first:
            row["fid_to"] = ""
        elif fewer < LEAST_FOR_FID:
            notes.append(f"fid_scorer: {fewer} pictures are too few, it takes {LEAST_FOR_FID}")
        else:
            row["fid_scorer"] = round(metrics.frechet_distance(own, others), 5)
            if fewer <= own.shape[1]:
                notes.append(f"fid_scorer: {fewer} pictures for {own.shape[1]} features leave it too high; compare "
                             "sets of the same size only")
        if texts is None:
            notes.append("is_scorer: one prompt gives no classes")
        elif len(own) < LEAST_FOR_CLASSES:
            notes.append(f"is_scorer: {len(own)} pictures are too few, it takes {LEAST_FOR_CLASSES}")
        else:
            row["is_scorer"] = round(metrics.class_score(scorer.sorted(own, texts)), 4)
        rows.append(row | {"note": "; ".join(notes)})
    return rows


class _Features:
    """What the scorer sees in picture files, each looked at once."""

    def __init__(self, scorer: Scorer):
        self._scorer = scorer
        self._known: dict[Path, np.ndarray] = {}

    def of(self, paths: Iterable[Path]) -> np.ndarray:
        """Files, each counted once -> (n, width); (0, 0) for none."""
        wanted = list(dict.fromkeys(paths))
        new = [path for path in wanted if path not in self._known]
        for start in range(0, len(new), _AT_ONCE):
            some = new[start:start + _AT_ONCE]
            self._known.update(zip(some, self._scorer.see([_pixels(path) for path in some]), strict=True))
        return np.stack([self._known[path] for path in wanted]) if wanted else np.zeros((0, 0))


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
