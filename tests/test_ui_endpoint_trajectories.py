"""/resume, /fork and /decode through a real gradio_client, with the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from core import metadata
from core.engine import Engine
from core.models.catalogue import Catalogue
from core.recorder import Recorder
from core.request import Preview, Request, Step
from core.trajectory import Trajectory
from tests.serving import THIRD_PARTY, Served, served

pytestmark = [pytest.mark.filterwarnings(line) for line in THIRD_PARTY]
ASK: dict[str, Any] = dict(prompt="a red boat", steps=4, seed=3, precision="fp32", width=64, height=64, batch=2)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, engine: Engine, catalogue: Catalogue) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("trajectories"), lambda: engine, catalogue, "eps") as running:
        yield running


@pytest.fixture(scope="module")
def client(studio: Served) -> Client:
    return Client(studio.address, verbose=False)


@pytest.fixture(scope="module")
def made(client: Client) -> tuple[list[str], dict[str, Any]]:
    files, info = client.predict(**ASK, api_name="/txt2img")
    return files, info


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_run_left_by_a_killed_studio_is_resumed(
        client: Client, studio: Served, engine: Engine, made: tuple[list[str], dict[str, Any]]) -> None:
    recorder = Recorder(studio.studio.jobs.outputs / "old" / "left-3.safetensors")
    for event in engine.generate(Request(model="eps", **ASK), Preview("none")):
        if isinstance(event, Step) and event.index < 2:
            recorder.add(event)
    recorder.close()
    files, info = client.predict(trajectory="old/left-3.safetensors", api_name="/resume")
    assert all(np.array_equal(pixels(a), pixels(b)) for a, b in zip(files, made[0], strict=True))
    assert info["trajectory"] == "old/left-3.safetensors" and info["evaluations"] == made[1]["evaluations"]


def test_a_fork_changes_what_is_given(client: Client, studio: Served, made: tuple[list[str], dict[str, Any]]) -> None:
    files, info = client.predict(trajectory=made[1]["trajectory"], at=2, prompt="the sea", guidance=3,
                                 regions=[{"name": "a", "prompt": "a sofa", "box": [0, 0, 0.5, 1]}], api_name="/fork")
    assert metadata.read_png(files[1]).prompt == "the sea" and info["request"]["guidance"] == 3
    child = Trajectory(studio.studio.jobs.outputs / info["trajectory"])
    assert child.parent is not None and child.parent.file == Path(made[1]["trajectory"]).name
    same, _ = client.predict(trajectory=str(studio.studio.jobs.outputs / made[1]["trajectory"]), at=1, api_name="/fork")
    assert np.array_equal(pixels(same[0]), pixels(made[0][0]))


def test_a_step_is_decoded(client: Client, engine: Engine, made: tuple[list[str], dict[str, Any]]) -> None:
    step = [event for event in engine.generate(Request(model="eps", **ASK), Preview("vae"))][1]
    files, info = client.predict(trajectory=made[1]["trajectory"], step=1, api_name="/decode")
    assert all(np.array_equal(pixels(a), b) for a, b in zip(files, step.pictures, strict=True))
    assert (info["step"], info["total"], info["sigma"]) == (1, 4, pytest.approx(step.sigma, abs=1e-5))
    noisy, _ = client.predict(trajectory=made[1]["trajectory"], step=1, source="xt", api_name="/decode")
    assert not np.array_equal(pixels(noisy[0]), pixels(files[0]))


@pytest.mark.parametrize("endpoint, values, line", [
    ("/resume", {"trajectory": "../../etc/passwd"}, "There is no trajectory"),
    ("/resume", {"trajectory": "/etc/passwd"}, "There is no trajectory"),
    ("/decode", {"trajectory": "nothing.safetensors", "step": 0}, "There is no trajectory"),
    ("/decode", {"step": 9}, "it holds 0 to 3"), ("/decode", {"step": 0, "source": "y"}, "choose x0"),
    ("/fork", {"at": 7}, "from 0 to 3"), ("/fork", {"at": 1, "steps": 0}, "The steps cannot be 0"),
    ("/fork", {"at": 1, "sampler": "Eulr"}, "Did you mean 'Euler'"), ("/fork", {"at": 1, "seed": 4}, "draws no noise")])
def test_what_cannot_be_done_gets_its_one_line(
        client: Client, made: tuple[list[str], dict[str, Any]], endpoint: str, values: dict[str, Any],
        line: str) -> None:
    with pytest.raises(AppError) as caught:
        client.predict(**{"trajectory": made[1]["trajectory"], **values}, api_name=endpoint)
    assert line in str(caught.value) and "\n" not in str(caught.value)
