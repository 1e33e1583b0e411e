"""Nonsense and malice against what the page itself asks of a served studio: questions of its components, its events,
and gradio's own addresses. Each is answered, a failure in one line, and nothing outside of the studio's folders is
read or written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import trajectory
from core.history import of
from tests.events import Visitor
from tests.fakes import FakeRunner
from tests.lines import assert_one_line
from tests.serving import THIRD_PARTY, Served, served
from tests.test_attacks import PATHS, VALUES, inventory

pytestmark = [pytest.mark.filterwarnings(line) for line in THIRD_PARTY]
SECRET = "a-prompt-that-lies-outside"
KEYS = ("run", "job", "id", "ids", "name", "place", "step", "steps", "picture", "region", "source", "view", "kind",
        "order", "seconds", "side", "changes", "canvas", "offset", "count", "words", "model", "since", "tag", "tags",
        "fresh", "favourite", "deleted", "epoch", "serial", "again", "path", "on", "jobs", "seed", "prompt", "act")
NAMED = ("run", "job", "id", "ids", "name", "names", "place", "path", "model", "source", "view", "kind", "jobs")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("attacked-page")


@pytest.fixture(scope="module")
def studio(place: Path) -> Iterator[Served]:
    """A studio with a run of its own, and beside its folders files that could be read as well as its own."""
    with served(place / "studio", lambda: FakeRunner(0, records=True)) as running:
        jobs = running.studio.jobs
        with httpx.Client(base_url=running.address, timeout=60) as person:
            for prompt in (SECRET, "a boat"):
                told(person, "txt2img", {"prompt": prompt, "steps": 2, "width": 64, "height": 64})
        (place / "outside").mkdir()
        (hidden,) = (run for run in trajectory.runs(jobs.outputs) if run.request.prompt == SECRET)
        for path in (hidden.path, *hidden.path.parent.glob("*.png")):
            if path == hidden.path or SECRET.encode() in path.read_bytes():
                shutil.move(path, place / "outside" / f"secret{path.suffix}")
        of(jobs.outputs).scan()
        yield running


@pytest.fixture(scope="module")
def person(studio: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=studio.address, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def page(person: httpx.Client) -> Visitor:
    return Visitor(person)


def told(person: httpx.Client, endpoint: str, values: dict[str, Any]) -> str:
    event = person.post(f"gradio_api/call/v2/{endpoint}", json=values).json()["event_id"]
    return person.get(f"gradio_api/call/v2/{endpoint}/{event}").text


def lines_in(answer: Any) -> Iterator[str]:
    """The lines under "error" and "detail", however deep."""
    if isinstance(answer, dict):
        for name, value in answer.items():
            if name in ("error", "detail") and isinstance(value, str) and value:
                yield value
            else:
                yield from lines_in(value)
    elif isinstance(answer, list):
        for value in answer:
            yield from lines_in(value)


def assert_answered(answer: httpx.Response) -> None:
    """Whatever was asked: JSON, with a line for people if it failed, and nothing that lies outside."""
    assert SECRET not in answer.text
    if answer.status_code == 422:  # gradio's own: which part of the body is of what kind
        assert answer.json()["detail"]
        return
    lines = list(lines_in(answer.json()))
    assert answer.status_code < 400 or lines, f"{answer.status_code} {answer.text[:300]}"
    for line in lines:
        if "Path does not exist" not in line:  # gradio's own
            assert_one_line(line, 500)


def often(examples: int, once: Callable[..., None], *strategies: st.SearchStrategy[Any]) -> None:
    """Call a function with so many examples."""
    @settings(max_examples=examples)
    @given(st.tuples(*strategies))
    def run(drawn: tuple[Any, ...]) -> None:
        once(*drawn)

    run()


def sent(keys: tuple[str, ...] = KEYS) -> st.SearchStrategy[Any]:
    """What a component may say: mostly an object with the names that ours use, and sometimes anything."""
    small = st.integers(-3, 10)
    return st.dictionaries(st.sampled_from(keys), small | VALUES, max_size=6) | VALUES


def test_every_question_of_a_component_is_answered(studio: Served, page: Visitor, place: Path) -> None:
    before = inventory(place)
    (run,) = trajectory.runs(studio.studio.jobs.outputs)
    own = st.sampled_from((run.path.relative_to(studio.studio.jobs.outputs).as_posix(), "now"))
    real = st.fixed_dictionaries({"run": own}, optional={key: st.integers(-3, 10) | VALUES for key in KEYS[4:18]})
    for number, name in page.questions:
        often(40, lambda question, of=(number, name): assert_answered(page.ask(*of, question)), sent() | real)
    assert inventory(place) == before
    assert {path.name for path in (place / "studio").iterdir()} <= {"outputs", "frames", "models", "presets"}


def test_no_name_in_a_question_leads_outside(studio: Served, page: Visitor, place: Path) -> None:
    outputs = studio.studio.jobs.outputs
    around = [f"{start}{name}" for name in ("secret.png", "secret.safetensors") for start in (
        f"{place}/outside/", "../../outside/", f"{outputs}/../../outside/", "2026-01-01/../../../outside/",
        "%2e%2e/%2e%2e/outside/", "..%2f..%2foutside/", "..\\..\\outside\\")]
    for number, name in page.questions:
        for path in (*around, *PATHS):
            question = {key: [path] if key.endswith("s") else path for key in NAMED}
            for asked in (question | {"step": 1, "steps": [1], "picture": 0, "source": "x0", "view": "xt"}, path):
                answer = page.ask(number, name, asked)
                assert_answered(answer)
                assert not [url for url in re.findall("file=([^\"]*)", answer.text) if "outside" in url], answer.text


@st.composite
def near(draw: st.DrawFn, usual: list[Any]) -> list[Any]:
    """The values of a form, of which up to two are nonsense; sometimes too many or too few."""
    wrong = draw(st.sets(st.integers(0, max(len(usual) - 1, 0)), max_size=2))
    made = [draw(VALUES) if k in wrong else value for k, value in enumerate(usual)]
    return draw(st.sampled_from((made, made, made, made, made, made[:-1], [*made, 1], [])))


def test_every_event_of_the_page_is_answered(page: Visitor, place: Path) -> None:
    before = inventory(place)
    for event in page.events:
        often(6, lambda data, values, event=event: assert_answered(page.tell(event, data, values)), sent(),
              near(page.values(event)))
    assert inventory(place) == before


BODIES = st.dictionaries(st.sampled_from((
    "fn_index", "data", "session_hash", "event_data", "trigger_id", "event_id", "component_id", "fn_name", "batched",
    "simple_format", "request", "api_name")), st.integers(-2, 400) | VALUES, max_size=8) | VALUES
ADDRESSES = ("queue/join", "run/predict", "api/predict", "run/txt2img", "call/txt2img", "call/v2/txt2img", "call/none",
             "call/v2/none", "component_server", "cancel", "reset")


@pytest.mark.parametrize("address", ADDRESSES)
def test_gradios_own_addresses_answer_whatever_is_sent(page: Visitor, address: str) -> None:
    often(60, lambda body: assert_answered(page.post(address, body)), BODIES)
    for content, kind in ((b"{", "application/json"), (b"\xff\xfe", "application/json"), (b"x", "multipart/form-data"),
                          (b"--a\r\n\r\n", "multipart/form-data; boundary=a"), (b"", "text/plain")):
        assert_answered(page.person.post(f"gradio_api/{address}", content=content, headers={"Content-Type": kind}))


def test_a_file_sent_as_a_question_is_answered(page: Visitor) -> None:
    number, name = page.questions[0]
    about = {"component_id": str(number), "fn_name": name, "session_hash": "x"}
    for missing in (None, *about):
        fields = {key: value for key, value in about.items() if key != missing}
        assert_answered(page.person.post("gradio_api/component_server", data=fields, files={"a": ("../a.png", b"x")}))


def test_events_in_the_queue_fail_in_one_line(page: Visitor) -> None:
    queued = [event for event in page.events if event.name in ("attach", "film", "follow", "switch")]
    assert queued
    for event in queued:
        for values in ([], ["x"] * 40, [{"a": [None]}] * len(event.inputs)):
            joined = page.person.post("gradio_api/queue/join", json={
                "fn_index": event.number, "trigger_id": event.target, "session_hash": f"q{event.number}",
                "event_data": "x", "data": values})
            assert_answered(joined)
            with page.person.stream("GET", "gradio_api/queue/data", params={
                    "session_hash": f"q{event.number}"}) as stream:
                for line in stream.iter_lines():
                    message = json.loads(line.removeprefix("data: ") or "{}")
                    if message.get("msg") == "process_completed":
                        for text in lines_in(message):
                            assert_one_line(text)
                        assert message["success"] or message["output"]["error"]
                        break


def test_the_studio_still_paints(studio: Served, person: httpx.Client) -> None:
    answer = told(person, "txt2img", {"prompt": "still here", "steps": 2, "width": 64, "height": 64})
    assert "event: complete" in answer
