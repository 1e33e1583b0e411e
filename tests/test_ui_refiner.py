"""SDXL's refiner through the endpoints, by a real gradio_client and the real engine on small checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client
from PIL import Image

from core import metadata
from core.engine import Engine
from core.models.catalogue import Catalogue
from core.request import Region, Request
from tests.originals import ask, finish, write_refined
from tests.serving import THIRD_PARTY, served

pytestmark = [pytest.mark.filterwarnings(line) for line in THIRD_PARTY]

BOAT = Region(name="boat", prompt="a boat", box=(0.2, 0.2, 0.8, 0.8))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_refined(tmp_path_factory.mktemp("shelf"))


@pytest.fixture(scope="module")
def client(shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    catalogue = Catalogue(shelf)
    with served(tmp_path_factory.mktemp("out"), lambda: Engine(catalogue, "cpu"), catalogue, "sdxl") as running:
        yield Client(running.address, verbose=False)


@pytest.mark.parametrize("endpoint, regions", [("/txt2img", ()), ("/compose", (BOAT,))])
def test_the_endpoints_give_the_engines_refined_picture(client: Client, shelf: Path, endpoint: str,
                                                        regions: tuple[Region, ...]) -> None:
    request = ask("sdxl", refiner="refiner", refiner_from=0.4, regions=regions)
    usual = Request().to_dict()
    asked = {name: value for name, value in request.to_dict().items() if value != usual[name]}
    (path,), told = client.predict(**asked, api_name=endpoint)
    made = metadata.read_png(path)
    assert (made.refiner, made.refiner_from, made.regions) == ("refiner", 0.4, regions)
    done = finish(Engine(Catalogue(shelf), "cpu"), request)
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), done.pictures[0])
    plain = finish(Engine(Catalogue(shelf), "cpu"), request.replace(refiner=""))
    assert not np.array_equal(plain.pictures[0], done.pictures[0])
    assert told["evaluations"] == done.evaluations
