"""Nonsense and malice against every endpoint of a served studio: each is answered in one line, and nothing is left
behind outside of the studio's own folders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import FakeRunner
from tests.lines import assert_one_line
from tests.serving import THIRD_PARTY, Served, served

pytestmark = [pytest.mark.filterwarnings(line) for line in THIRD_PARTY]
EXAMPLES = 60  # of each endpoint: with 17 of them about a thousand

PATHS = ("../../etc/passwd", "/etc/passwd", "..\\..\\secret", "%2e%2e/secret.png", "a\x00b", "\\\\host\\share",
         "~/.ssh", "file:///etc/passwd", "outside/secret.png", "../outside/secret.safetensors", ".", "..", "",
         "con", "a" * 300)
ODD = ("<script>window.harmed=1</script>", "'; DROP TABLE pictures; --", "{{7*7}}", "${jndi:ldap://x}", "\ud800",
       "\u202e", "🌿" * 40, "a\nb\r\nc", "(" * 200, "[a:b:", "<lora:../../x:1>", "NaN", "-1", "1e400")
ATOMS = st.one_of(st.none(), st.booleans(), st.integers(-2**70, 2**70), st.floats(), st.sampled_from(PATHS + ODD),
                  st.text(max_size=30))
VALUES = st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
    st.sampled_from(("name", "prompt", "box", "mask", "runs", "width", "path", "__proto__", "steps")), inner,
    max_size=4), max_leaves=8)
# what takes long when it is right is wrong here, or short
SENSIBLE: dict[str, Any] = {"steps": 2, "width": 64, "height": 64, "samplers": ["Euler"], "seeds": [1],
                            "prompt": "a boat"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attacked")
    (folder / "outside").mkdir()
    for name in ("secret.png", "secret.safetensors"):
        (folder / "outside" / name).write_bytes(b"secret")
    return folder


@pytest.fixture(scope="module")
def studio(place: Path) -> Iterator[Served]:
    with served(place / "studio", lambda: FakeRunner(0, records=True)) as running:
        yield running


@pytest.fixture(scope="module")
def endpoints(studio: Served) -> dict[str, list[dict[str, Any]]]:
    """Name -> what it takes, of all that the studio names itself."""
    named = httpx.get(studio.address + "gradio_api/info").json()["named_endpoints"]
    assert {"/txt2img", "/compose", "/compare", "/resume", "/fork", "/decode", "/history"} <= set(named)
    return {name: about["parameters"] for name, about in named.items()}


@pytest.fixture(scope="module")
def attacker(studio: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=studio.address, timeout=120) as person:
        yield person


def told(attacker: httpx.Client, endpoint: str, data: list[Any]) -> str | None:
    """The line an endpoint answers with; None when it is fine."""
    body = json.dumps({"data": data}).encode("utf-8", "surrogatepass")
    asked = attacker.post(f"/gradio_api/call{endpoint}", content=body, headers={"Content-Type": "application/json"})
    if asked.status_code in (400, 413, 422):
        return None if asked.json()["detail"] else ""
    assert asked.status_code == 200, asked.text
    answer = attacker.get(f"/gradio_api/call{endpoint}/{asked.json()['event_id']}").text
    event, _, said = answer.strip().rpartition("event: ")[2].partition("\ndata: ")
    if event.strip() == "complete":
        return None
    assert event.strip() == "error", answer
    found = json.loads(said)
    return str(found["error"]) if isinstance(found, dict) else ""


@st.composite
def payloads(draw: Any, sensible: list[Any]) -> list[Any]:
    """A sensible call of which one to three values are nonsense; without parameters some too many."""
    if not sensible:
        return draw(st.lists(VALUES, max_size=2))
    wrong = draw(st.sets(st.integers(0, len(sensible) - 1), min_size=1, max_size=3))
    return [draw(VALUES) if k in wrong else value for k, value in enumerate(sensible)]


def attack(attacker: httpx.Client, endpoint: str, sensible: list[Any]) -> None:
    @settings(max_examples=EXAMPLES)
    @given(sent=payloads(sensible))
    def once(sent: list[Any]) -> None:
        line = told(attacker, endpoint, sent)
        if line is not None:
            assert_one_line(line, 500)

    once()


def inventory(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_relative_to(folder / "studio")}


def test_nonsense_is_answered_in_one_line_and_leaves_nothing_behind(
        studio: Served, attacker: httpx.Client, endpoints: dict[str, list[dict[str, Any]]], place: Path) -> None:
    before = inventory(place)
    for endpoint, parameters in endpoints.items():
        attack(attacker, endpoint,
               [SENSIBLE.get(one["parameter_name"], one.get("parameter_default")) for one in parameters])
    assert inventory(place) == before
    assert {path.name for path in (place / "studio").iterdir()} <= {"outputs", "frames", "models", "presets"}
    pictures, _ = Client(studio.address, verbose=False).predict(prompt="still here", steps=2, api_name="/txt2img")
    assert len(pictures) == 1


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out_of_the_outputs(studio: Served, attacker: httpx.Client, place: Path, path: str) -> None:
    for endpoint, data in (("/resume", [path, "none"]), ("/decode", [path, 0, "x0"])):
        line = told(attacker, endpoint, data)
        assert line and line.startswith("There is no trajectory")
    for name in (path, f"{place}/outside/secret.png", f"{studio.studio.jobs.outputs}/../../outside/secret.png",
                 f"{studio.studio.jobs.outputs}/.queue/order.json"):
        answer = attacker.get(f"/gradio_api/file={name}".replace("\x00", "%00"))
        assert answer.status_code in (400, 403, 404), answer.text[:200]
