"""Sets of pictures: which cells make one, what is measured between them, and what is refused for want of pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core import compare, metrics, sets
from core.__main__ import main
from core.models.catalogue import STORYBOOK, Catalogue
from core.scorer import Scorer
from core.storybook.vocabulary import THINGS

SPEC: dict[str, Any] = {"prompt": "a red boat", "width": 64, "height": 64, "samplers": ["Euler", "Heun"],
                        "steps": [4, 6], "seeds": [1, 2, 3]}


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer.load(STORYBOOK / "scorer")


def files(folder: Path, count: int, seed: int, blur: int = 1) -> list[list[Path]]:
    """Pictures of colourful squares, coarser with `blur`, one for each cell."""
    rng = np.random.default_rng(seed)
    made = []
    for k in range(count):
        values = rng.integers(0, 255, (16 // blur, 16 // blur, 3), dtype=np.uint8)
        path = folder / f"{seed}-{k}.png"
        Image.fromarray(values.repeat(4 * blur, 0).repeat(4 * blur, 1)).save(path)
        made.append([path])
    return made


# -- what makes a set


def test_seeds_and_prompts_are_pooled_and_other_axes_tell_sets_apart() -> None:
    plan = compare.plan(SPEC)
    found = sets.sets_of(plan)
    assert [(one.values["sampler"], one.values["steps"]) for one in found] == [("Euler", 4), ("Euler", 6), ("Heun", 4),
                                                                               ("Heun", 6)]
    assert all(len(one.cells) == 3 and "seed" not in one.values for one in found)
    assert {plan.cells[k].request.sampler for k in found[2].cells} == {"Heun"}  # type: ignore[union-attr]
    both = compare.plan({**SPEC, "seeds": [1, 2], "prompt": ["a cat", "a dog"]})
    assert [len(one.cells) for one in sets.sets_of(both)] == [4] * 4


def test_one_picture_each_makes_no_sets_and_a_batch_does() -> None:
    spec = {name: value for name, value in SPEC.items() if name != "seeds"}
    assert sets.sets_of(compare.plan(spec)) == []
    assert len(sets.sets_of(compare.plan({**spec, "batch": 3}))) == 4


def test_combinations_of_the_same_cells_are_one_set() -> None:
    plan = compare.plan({**SPEC, "steps": [7, 8], "equal_evaluations": True})  # Heun: 4 steps for both
    assert [tuple(one.values.values()) for one in sets.sets_of(plan)] == [("Euler", 7), ("Euler", 8), ("Heun", 7)]


# -- what is measured


def test_figures_of_sets_are_those_of_the_scorers_features(tmp_path: Path, scorer: Scorer) -> None:
    plan = compare.plan({**SPEC, "samplers": ["Euler", "Heun"], "steps": [4], "seeds": list(range(40))})
    fine, coarse = files(tmp_path, 40, 1), files(tmp_path, 40, 2, blur=4)
    rows = sets.figures(plan, [*fine, *coarse], [*fine, *fine], scorer, ("a boat", "a cat", "a sofa"))
    assert [(row["set"], row["sampler"], row["pictures"], row["fid_to"], row["fid_pictures"]) for row in rows] == [
        (1, "Euler", 40, "reference", 40), (2, "Heun", 40, "reference", 40)]
    assert rows[0]["fid_scorer"] == pytest.approx(0, abs=1e-5)

    def seen(paths: list[list[Path]]) -> np.ndarray:
        return scorer.see([np.asarray(Image.open(path)) for (path,) in paths])

    assert rows[1]["fid_scorer"] == pytest.approx(metrics.frechet_distance(seen(coarse), seen(fine)), abs=1e-4)
    logits = scorer.scale * seen(coarse) @ scorer.read(["a boat", "a cat", "a sofa"]).T
    powers = np.exp(logits - logits.max(1, keepdims=True))
    wanted = metrics.class_score(powers / powers.sum(1, keepdims=True))
    assert rows[1]["is_scorer"] == pytest.approx(wanted, abs=1e-3) and 1 <= wanted <= 3
    assert "40 pictures for 128 features leave it too high" in rows[1]["note"]


def test_without_reference_runs_the_first_set_is_what_the_others_are_measured_to(
        tmp_path: Path, scorer: Scorer) -> None:
    plan = compare.plan({**SPEC, "steps": [4], "seeds": list(range(40))})
    rows = sets.figures(plan, [*files(tmp_path, 40, 1), *files(tmp_path, 40, 2)], [[]] * 80, scorer, ())
    assert [(row["fid_to"], row["fid_scorer"] is None) for row in rows] == [("", True), ("set 1", False)]
    assert all(row["is_scorer"] is None and "no classes" in row["note"] for row in rows)


def test_few_pictures_are_counted_and_refused(tmp_path: Path, scorer: Scorer) -> None:
    plan = compare.plan({**SPEC, "steps": [4], "seeds": list(range(20))})
    pictures = files(tmp_path, 40, 1)
    pictures[25:40] = [[]] * 15  # of the second set only five were made
    rows = sets.figures(plan, pictures, [[]] * 40, scorer, ("a boat", "a cat"))
    assert [row["pictures"] for row in rows] == [20, 5]
    assert rows[1]["fid_scorer"] is None and rows[1]["is_scorer"] is None
    assert rows[1]["note"] == ("fid_scorer: 5 pictures are too few, it takes 32; is_scorer: 5 pictures are too few, "
                               "it takes 16")
    assert rows[0]["is_scorer"] > 1


def test_classes_are_storybooks_things_and_elsewhere_the_prompts(catalogue: Catalogue) -> None:
    plan = compare.plan({**SPEC, "prompt": ["a cat", "a dog", "a cat"]})
    assert len(sets.classes_of(catalogue.get("storybook"), plan)) == len(THINGS)
    assert "an umbrella" in sets.classes_of(catalogue.get("storybook"), plan)
    assert sets.classes_of(catalogue.get("eps"), plan) == ("a cat", "a dog")
    assert sets.classes_of(catalogue.get("eps"), compare.plan(SPEC)) == ()


def test_the_command_writes_a_table_of_sets_and_its_cells_name_theirs(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = {"prompt": "a red boat", "samplers": ["Euler", "DDIM"], "steps": 2, "width": 64, "height": 64, "batch": 16}
    (tmp_path / "spec.json").write_text(json.dumps({**spec, "reference_steps": 3}))
    assert main(["compare", str(tmp_path / "spec.json"), "--out", str(tmp_path / "out")]) == 0
    held = json.loads((tmp_path / "out" / "sets.json").read_text())
    with open(tmp_path / "out" / "sets.csv", newline="", encoding="utf-8") as file:
        assert [row["sampler"] for row in csv.DictReader(file)] == ["Euler", "DDIM"]
    assert [(row["pictures"], row["fid_pictures"], row["fid_scorer"]) for row in held] == [(16, 16, None)] * 2
    assert all(row["is_scorer"] >= 1 for row in held)
    assert [row["set"] for row in json.loads((tmp_path / "out" / "results.json").read_text())] == [1, 2]
    assert "set 2: 16 pictures, is_scorer " in capsys.readouterr().out
