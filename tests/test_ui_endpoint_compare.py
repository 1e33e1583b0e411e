"""The endpoint /compare, through a real gradio_client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from core import metadata
from core.engine import Engine
from core.models.catalogue import Catalogue
from tests.serving import THIRD_PARTY, served

pytestmark = [pytest.mark.filterwarnings(line) for line in THIRD_PARTY]

SMALL: dict[str, Any] = {"prompt": "a red boat", "width": 64, "height": 64, "precision": "fp32"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, catalogue: Catalogue) -> Iterator[Client]:
    """Of a studio with the real engine on a small checkpoint."""
    with served(tmp_path_factory.mktemp("compare"), lambda: Engine(catalogue, "cpu"), catalogue, "eps") as running:
        yield Client(running.address, verbose=False)


def test_a_comparison_gives_grid_table_and_every_cells_picture(client: Client) -> None:
    grid, rows, cells = client.predict(**SMALL, samplers=["Euler", "Heun"], steps=[5, 9], seeds=[3],
                                       equal_evaluations=True, reference_steps=12, api_name="/compare")
    assert [(row["sampler"], row["steps"], row["steps_taken"], row["evaluations"]) for row in rows] == [
        ("Euler", 5, 5, 10), ("Euler", 9, 9, 18), ("Heun", 5, 3, 10), ("Heun", 9, 5, 18)]
    assert all(row["distance"] > 0 and row["seconds"] > 0 and 0 < row["ssim"] <= 1 for row in rows)
    assert [(r.sampler, r.steps, r.seed) for r in map(metadata.read_png, cells)] == [
        ("Euler", 5, 3), ("Euler", 9, 3), ("Heun", 3, 3), ("Heun", 5, 3)]
    with Image.open(grid) as image:
        assert image.width > 2 * 64 and image.height > 2 * 64


@pytest.mark.parametrize(("values", "line"), [
    ({"samplers": ["dpmpp2m"]}, "No sampler named 'dpmpp2m'. Did you mean 'DPM++ 2M'?"),
    ({"steps": []}, "The axis steps is empty"), ({"width": 100}, "try 96x64"),
    ({"reference_steps": 2}, "0 (none) or a whole number from 3 to 150"),
    ({"seeds": list(range(500))}, "1,000 cells are too many"), ({"seeds": list(range(90))}, "180 cells are more")])
def test_what_cannot_be_compared_is_one_line(client: Client, values: dict[str, Any], line: str) -> None:
    with pytest.raises(AppError) as told:
        client.predict(**{**SMALL, "samplers": ["Euler", "DDIM"], "steps": [4], **values}, api_name="/compare")
    assert line in str(told.value) and "Traceback" not in str(told.value)
