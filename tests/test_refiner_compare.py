"""When the refiner takes over, as an axis of a comparison: each cell is the single run, by every door."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from core import compare, comparing
from core.engine import Engine
from core.errors import BadRequest
from core.models.catalogue import Catalogue
from core.request import Request
from tests.lines import assert_one_line
from tests.originals import PROMPT, ask, finish, make_pipeline, write_original, write_refined
from tests.serving import THIRD_PARTY, Served, served
from ui import contest

pytestmark = [pytest.mark.filterwarnings(line) for line in THIRD_PARTY]

SHARES = ["none", 0.4, 0.8]
SPEC: dict[str, Any] = {"prompt": PROMPT, "model": "sdxl", "width": 128, "height": 64, "steps": 6, "precision": "fp32",
                        "seed": 3, "samplers": ["Euler", "DPM++ 2M"], "refiner": "refiner", "refiners_from": SHARES}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_refined(tmp_path_factory.mktemp("shelf"))


@pytest.fixture(scope="module")
def singles(shelf: Path) -> list[tuple[Request, np.ndarray, np.ndarray]]:
    """The single runs, in the order of the cells: request, latents, picture."""
    engine, runs = Engine(Catalogue(shelf), "cpu"), []
    for sampler in SPEC["samplers"]:
        for share in SHARES:
            more = {} if share == "none" else {"refiner": "refiner", "refiner_from": share}
            request = ask("sdxl", sampler=sampler, steps=SPEC["steps"], **more)
            done = finish(engine, request)
            runs.append((request, done.latents, done.pictures[0]))
    return runs


@pytest.fixture(scope="module")
def studio(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    catalogue = Catalogue(shelf)
    with served(tmp_path_factory.mktemp("out"), lambda: Engine(catalogue, "cpu"), catalogue, "sdxl") as running:
        yield running


def test_every_cell_is_the_single_run_to_the_bit(shelf: Path, tmp_path: Path, singles: list[Any]) -> None:
    catalogue = Catalogue(shelf)
    comparison = compare.prepare(SPEC, catalogue)
    assert [cell.label for cell in comparison.cells[:3]] == [
        "Euler, no refiner", "Euler, refiner from 0.4", "Euler, refiner from 0.8"]
    assert [cell.request for cell in comparison.cells] == [request for request, _, _ in singles]
    results = list(comparing.make(comparison, Engine(catalogue, "cpu"), tmp_path, threading.Event()))
    for result, (_, latents, picture) in zip(results, singles, strict=True):
        assert result.latents is not None and np.array_equal(result.latents, latents)
        with Image.open(str(result.path)) as image:
            assert np.array_equal(np.asarray(image), picture)
    assert len({latents.tobytes() for _, latents, _ in singles}) == len(singles)


def test_the_endpoint_compares_it(studio: Served, singles: list[Any]) -> None:
    client = Client(studio.address, verbose=False)
    asked = {**SPEC, "seeds": [SPEC["seed"]], "steps": [SPEC["steps"]]}
    del asked["seed"]
    _, rows, files = client.predict(**asked, api_name="/compare")
    assert [row["refiner_from"] for row in rows] == SHARES * 2
    for file, (_, _, picture) in zip(files, singles, strict=True):
        with Image.open(file) as image:
            assert np.array_equal(np.asarray(image), picture)
    with pytest.raises(AppError, match="cannot have the refiner from 1.5"):
        client.predict(prompt="a", refiner="refiner", refiners_from=[1.5], api_name="/compare")


def test_the_form_asks_for_it_and_a_kept_comparison_fills_the_form_again(studio: Served) -> None:
    values = {**contest.first_values(studio.studio), "prompt": "a boat", "refiner": "refiner",
              "refiner_from": "none, 0.4 0.8"}
    spec = contest.to_spec(values)
    assert spec["refiners_from"] == SHARES
    assert len(contest.plan_of(spec, studio.studio).cells) == 3 * len(values["samplers"]) * len(values["steps"].split())
    again = values | contest.from_spec(spec, "none")
    assert (again["refiner"], again["refiner_from"]) == ("refiner", "none 0.4 0.8")
    plain = contest.to_spec(values | {"refiner": ""})
    assert "refiners_from" not in plain and (again | contest.from_spec(plain, "none"))["refiner"] == ""
    with pytest.raises(BadRequest, match="Name one number of refiner from at least, such as 0.8") as told:
        contest.to_spec(values | {"refiner_from": " "})
    assert told.value.field == "refiner_from"


@pytest.mark.parametrize("changes, said, field", [
    ({"refiner": ""}, "and none is named", "refiner"), ({"refiners_from": [2]}, "refiner from 2", "refiner_from"),
    ({"refiners_from": ["never"]}, "refiner from 'never'", "refiner_from"), ({"refiners_from": []}, "is empty",
                                                                            "refiner_from"),
    ({"refiner": "sdxl", "refiners_from": [0.4]}, "is no refiner", "refiner")])
def test_what_cannot_be_compared_is_one_line(shelf: Path, changes: dict[str, Any], said: str, field: str) -> None:
    with pytest.raises(BadRequest, match=said) as told:
        compare.prepare({**SPEC, **changes}, Catalogue(shelf))
    assert told.value.field == field
    assert_one_line(told.value)


def test_cells_of_another_refiners_weights_are_made_anew(shelf: Path, tmp_path: Path) -> None:
    for name in ("sdxl", "refiner"):
        (tmp_path / f"{name}.safetensors").write_bytes((shelf / f"{name}.safetensors").read_bytes())
    catalogue = Catalogue(tmp_path)
    comparison = compare.prepare({**SPEC, "samplers": ["Euler"], "refiners_from": [0.4]}, catalogue)

    def made() -> bytes:
        (result,) = comparing.make(comparison, Engine(catalogue, "cpu"), tmp_path / "out", threading.Event(),
                                   comparing.weights_of(catalogue))
        return bytes(np.asarray(result.latents).tobytes())

    first = made()
    assert made() == first
    write_original(make_pipeline("refiner", seed=9), tmp_path / "refiner.safetensors")
    assert made() != first
