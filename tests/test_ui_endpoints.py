"""The endpoints, through a real gradio_client."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from core import metadata
from core.engine import Engine
from core.models.catalogue import Catalogue
from core.request import Request
from core.samplers import SAMPLERS
from tests.serving import THIRD_PARTY, Served, served
from ui import form

pytestmark = [pytest.mark.filterwarnings(line) for line in THIRD_PARTY]


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("endpoints")) as running:
        yield running


@pytest.fixture(scope="module")
def client(studio: Served) -> Client:
    return Client(studio.address, verbose=False)


def test_only_the_promised_endpoints_are_offered(client: Client) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == {"/txt2img", "/compose", "/compare", "/resume", "/fork", "/decode", "/models", "/samplers",
                          "/enqueue", "/queue", "/control", "/result", "/history"}
    parameters = {p["parameter_name"]: p["parameter_default"] for p in named["/txt2img"]["parameters"]}
    assert parameters == {name: getattr(Request(), name) for name in form.FIELDS} | {"preview": "none"}


def test_txt2img_gives_png_files_and_what_made_them(client: Client) -> None:
    files, info = client.predict(prompt="a red boat", steps=3, seed=4, batch=2, width=64, height=64,
                                 api_name="/txt2img")
    made = [metadata.read_png(path) for path in files]
    assert [(r.prompt, r.seed, r.steps) for r in made] == [("a red boat", 4, 3), ("a red boat", 5, 3)]
    assert (info["seed"], info["evaluations"], info["stopped"]) == (4, 6, False)
    assert info["settings"].startswith("seed 4 · DPM++ 2M Karras · 3 steps")
    assert info["seconds"] > 0


@pytest.mark.parametrize(("values", "line"), [
    ({"steps": 0}, "The steps cannot be 0: choose from 1 to 150."),
    ({"steps": 10_000}, "The steps cannot be 10000"),
    ({"steps": None}, "The steps must be a whole number"),
    ({"guidance": "NaN"}, "The guidance must be a number"),
    ({"width": 250}, "250x256 is not a multiple of 8 pixels, which storybook needs: try 248x256."),
    ({"width": 4096, "height": 4096}, "of memory"),
    ({"prompt": "x" * 10_000}, "The prompt has 10,000 characters"),
    ({"prompt": "a\x07"}, "control character U+0007"),
    ({"sampler": "dpmpp2m"}, "No sampler named 'dpmpp2m'. Did you mean 'DPM++ 2M'?"),
    ({"sampler": "Euler a", "schedule": "Karras"}, "Euler a has no Karras schedule"),
    ({"model": "../../etc"}, "No model named"),
    ({"preview": "full"}, "No preview decoder named 'full'"),
    ({"prompt": "fail at step 1"}, "The network gave no numbers"),
])
def test_bad_input_gets_its_one_line(client: Client, values: dict[str, Any], line: str,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.checks.psutil.virtual_memory", lambda: type("Memory", (), {"available": 2**29}))
    with pytest.raises(AppError) as caught:
        client.predict(**{"steps": 2, **values}, api_name="/txt2img")
    assert line in str(caught.value) and "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_real_nan_on_the_wire_gets_the_line_too(studio: Served) -> None:
    values = {name: getattr(Request(), name) for name in form.FIELDS} | {"guidance": float("nan"), "preview": "none"}
    call = urllib.request.Request(f"{studio.address}gradio_api/call/txt2img",
                                  json.dumps({"data": list(values.values())}).encode(),
                                  {"Content-Type": "application/json"})
    with urllib.request.urlopen(call, timeout=30) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{studio.address}gradio_api/call/txt2img/{event}", timeout=30) as answer:
        assert "The guidance must be a number, not nan" in answer.read().decode()


def test_emoji_and_an_empty_prompt_are_fine_and_noted(client: Client) -> None:
    _, info = client.predict(prompt="a 🦊 sofa", steps=1, api_name="/txt2img")
    assert info["notes"] == []
    _, info = client.predict(steps=1, api_name="/txt2img")
    assert "unconditional" in info["notes"][0]


def test_models_and_samplers(client: Client) -> None:
    models = client.predict(api_name="/models")
    assert models[0]["name"] == "storybook" and models[0]["width"] == 256
    assert not any("path" in model for model in models)
    samplers = {entry["name"]: entry for entry in client.predict(api_name="/samplers")}
    assert list(samplers) == list(SAMPLERS)
    assert samplers["Heun"]["network_calls_at_20_steps"] == 39
    assert "Karras" in samplers["DPM++ 2M"]["schedules"]


def test_files_outside_the_open_folders_stay_closed(studio: Served, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    for path in (secret, Path(__file__), Path("/etc/passwd"), f"{studio.studio.jobs.outputs}/../../secret.txt"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{studio.address}gradio_api/file={path}", timeout=30)
        assert caught.value.code in (403, 404)
        caught.value.close()


def test_the_real_engine_answers_and_repeats_itself(tmp_path: Path, engine: Engine, catalogue: Catalogue) -> None:
    with served(tmp_path, lambda: engine, catalogue, "eps") as running:
        client = Client(running.address, verbose=False)
        (first,), _ = client.predict(prompt="a red boat", steps=2, seed=3, precision="fp32", api_name="/txt2img")
        (again,), info = client.predict(prompt="a red boat", steps=2, seed=3, precision="fp32", preview="linear",
                                        api_name="/txt2img")
    assert Path(first).read_bytes() == Path(again).read_bytes()
    assert (info["request"]["width"], info["evaluations"]) == (128, 4)  # the model's own size; guided: two a step
