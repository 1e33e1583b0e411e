"""Several people on one studio: each sees their own, by page, endpoint and address."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from gradio_client import Client

from core import metadata
from core.errors import StartError
from core.history import of
from core.logins import Logins, add_login, hashed, matches
from core.owners import home, whose
from core.request import Request
from tests.fakes import FakeRunner
from tests.lines import assert_one_line
from tests.serving import THIRD_PARTY, Served, served
from ui.guard import Budget

pytestmark = [pytest.mark.filterwarnings(line) for line in THIRD_PARTY]
PASSWORDS = {"ann": "a-secret", "bob": "b-secret"}


@pytest.mark.parametrize("name", ["ann", "Ann Lee", "..", ".", "a/b", "a\\b", "日本", "people", "a.b", "%2E", "con"])
def test_whose_a_file_is_can_be_told_from_its_path(tmp_path: Path, name: str) -> None:
    folder = home(tmp_path, name)
    assert folder.parent == tmp_path / "people"
    (folder / "day").mkdir(parents=True)
    assert whose(folder / "day" / "a.png", tmp_path) == name == whose(folder, tmp_path)
    assert whose(folder / ".." / ".." / "a.png", tmp_path) == "" and whose(tmp_path.parent / "a", tmp_path) is None
    (tmp_path / "link").symlink_to(folder)
    assert whose(tmp_path / "link" / "a.png", tmp_path) == name


# -- logins


def test_a_password_is_kept_as_a_hash_and_known_again(tmp_path: Path) -> None:
    file, said = tmp_path / "logins", iter(["s3cret:x", "s3cret:x", "other", "other", "a", "b"])
    add_login("ann", file, lambda prompt: next(said))
    assert "s3cret" not in file.read_text() and file.stat().st_mode & 0o077 == 0
    logins = Logins.of(["bob:p:q"], file)
    assert logins("ann", "s3cret:x") and logins("bob", "p:q")
    assert not logins("ann", "p:q") and not logins("eve", "s3cret:x") and not logins("ann", "")
    add_login("ann", file, lambda prompt: next(said))
    assert Logins.of([], file)("ann", "other") and not Logins.of([], file)("ann", "s3cret:x")
    with pytest.raises(StartError, match="not the same") as error:
        add_login("ann", file, lambda prompt: next(said))
    assert_one_line(error.value)
    assert hashed("a") != hashed("a") and matches("a", hashed("a")) and not matches("a", "scrypt$x$y")


@pytest.mark.parametrize(("given", "held", "line"), [
    ([":x"], None, "both not empty"), (["a:"], None, "both not empty"), (["a:b", "A:c"], None, "rename one"),
    (["a\n:b"], None, "cannot be a login's name"), ([], "", "no login in"), ([], "ann:plain", "Line 1 of"),
    ([], "\xff", "cannot be read")])
def test_logins_that_cannot_be_are_refused_in_one_line(tmp_path: Path, given: list[str], held: str | None,
                                                       line: str) -> None:
    file = tmp_path / "logins"
    if held is not None:
        file.write_bytes(held.encode("latin-1"))
    with pytest.raises(StartError, match=line) as error:
        Logins.of(given, None if held is None else file)
    assert_one_line(error.value)


# -- a studio with two people


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    logins = Logins.of([f"{name}:{password}" for name, password in PASSWORDS.items()])
    with served(tmp_path_factory.mktemp("shared"), lambda: FakeRunner(0, records=True), logins=logins) as studio:
        yield studio


def client(studio: Served, name: str) -> Client:
    return Client(studio.address, auth=(name, PASSWORDS[name]), verbose=False)


@pytest.fixture(scope="module")
def ann(shared: Served) -> Client:
    return client(shared, "ann")


@pytest.fixture(scope="module")
def bob(shared: Served) -> Client:
    return client(shared, "bob")


@pytest.fixture(scope="module")
def made(ann: Client) -> dict[str, Any]:
    """What ann was told of a picture of hers."""
    _, about = ann.predict(prompt="ann's boat", steps=3, width=64, height=64, preview="linear", api_name="/txt2img")
    return about


@contextlib.contextmanager
def visitor(studio: Served, name: str) -> Iterator[httpx.Client]:
    """Somebody's browser."""
    with httpx.Client(base_url=studio.address, follow_redirects=True) as person:
        if name:
            answer = person.post("/login", data={"username": name, "password": PASSWORDS[name]})
            assert answer.status_code == 200
        yield person


def asked(studio: Served, name: str, beside: str, function: str, question: Any) -> Any:
    """What a component's own question to the server gives somebody. beside: another function of that component."""
    with visitor(studio, name) as person:
        parts = person.get("/config").json()["components"]
        identity = next(part["id"] for part in parts
                        if {beside, function} <= set(part["props"].get("server_fns") or ()))
        return person.post("/gradio_api/component_server", json={
            "session_hash": f"page-of-{name}", "component_id": identity, "fn_name": function,
            "data": question}).json()


def test_each_has_pictures_of_their_own(shared: Served, ann: Client, bob: Client, made: dict[str, Any]) -> None:
    assert [row["prompt"] for row in ann.predict(api_name="/history")] == ["ann's boat"]
    assert bob.predict(api_name="/history") == []
    outputs = shared.studio.jobs.outputs
    (png,) = home(outputs, "ann").glob("*/*.png")
    assert whose(png, outputs) == "ann" and not list(outputs.glob("*-*-*"))
    assert [entry.prompt for entry in of(home(outputs, "ann")).search()[1]] == ["ann's boat"]
    of(outputs).scan()
    assert of(outputs).search() == (0, [])  # hers are not taken in with nobody's


@pytest.mark.parametrize("path", ["{}", "../ann/{}", "people/ann/{}", "../../people/ann/{}", "{absolute}"])
def test_nobody_resumes_forks_or_decodes_anothers_steps(shared: Served, ann: Client, bob: Client,
                                                        made: dict[str, Any], path: str) -> None:
    place = made["trajectory"]
    absolute = home(shared.studio.jobs.outputs, "ann") / place
    assert absolute.is_file()
    name = path.format(place, absolute=absolute)
    for endpoint, more in (("/resume", {}), ("/fork", {"at": 1}), ("/decode", {"step": 1})):
        with pytest.raises(Exception, match="There is no trajectory"):
            bob.predict(trajectory=name, api_name=endpoint, **more)
    paths, _ = ann.predict(trajectory=place, step=1, api_name="/decode")
    assert len(paths) == 1


def test_nobody_sees_or_steers_anothers_jobs(shared: Served, ann: Client, bob: Client) -> None:
    job = ann.predict({"prompt": "secret", "steps": 3, "width": 64, "height": 64}, api_name="/enqueue")
    assert bob.predict(api_name="/queue") == []
    for ask in (lambda: bob.predict(job, api_name="/result"), lambda: bob.predict(job, "discard", api_name="/control")):
        with pytest.raises(Exception, match="There is no such job"):
            ask()
    assert ann.predict(job, api_name="/result")[1]["request"]["prompt"] == "secret"


def test_a_guessed_address_gives_nothing(shared: Served, made: dict[str, Any]) -> None:
    jobs = shared.studio.jobs
    (png,) = (path for path in home(jobs.outputs, "ann").glob("*/*.png")
              if metadata.read_png(path).prompt == "ann's boat")
    frame = next(home(jobs.frames, "ann").glob("*/*.jpg"))
    steps = home(jobs.outputs, "ann") / made["trajectory"]
    index = home(jobs.outputs, "ann") / ".history" / "index.sqlite"
    around = jobs.outputs / "people" / "bob" / ".." / "ann" / png.relative_to(home(jobs.outputs, "ann"))
    twice = str(png).replace("/people/", "/%70eople/")
    (jobs.outputs / "loose.png").write_bytes(png.read_bytes())  # from before there were logins
    with visitor(shared, "ann") as ann, visitor(shared, "bob") as bob, visitor(shared, "") as nobody:
        for path in (png, frame, steps):
            for route in ("/gradio_api/file=", "/file=", "/gradio_api/file/", "/file/"):
                address = route + quote(str(path))
                assert bob.get(address).status_code in (403, 404) and nobody.get(address).status_code in (401, 403, 404)
            assert ann.get("/gradio_api/file=" + quote(str(path))).status_code == 200
        for path in (around, index, twice, jobs.outputs / "loose.png"):
            for route in ("/gradio_api/file=", "/gradio_api/file/"):
                assert bob.get(route + quote(str(path))).status_code in (403, 404)
        assert "ann's boat" not in bob.get("/config").text
        (jobs.frames / "model.jpg").write_bytes(frame.read_bytes())  # a model's picture is everybody's
        assert bob.get("/gradio_api/file=" + quote(str(jobs.frames / "model.jpg"))).status_code == 200


def test_who_has_not_logged_in_is_answered_nothing(shared: Served) -> None:
    with visitor(shared, "") as nobody:
        for path in ("/gradio_api/info", "/gradio_api/queue/status"):
            assert nobody.get(path).status_code == 401, path
        body = {"session_hash": "x", "component_id": 1, "fn_name": "look", "data": {}}
        for path, sent in (("/gradio_api/component_server", body), ("/gradio_api/run/txt2img", {"data": []}),
                           ("/gradio_api/queue/join", {"data": [], "fn_index": 0}),
                           ("/gradio_api/call/txt2img", {"data": []})):
            assert nobody.post(path, json=sent).status_code == 401, path
        assert nobody.post("/gradio_api/upload", files={"files": b"x"}).status_code == 401
        assert "components" not in nobody.get("/config").json()
        assert nobody.post("/login", data={"username": "ann", "password": "b-secret"}).status_code == 400


def test_components_answer_each_with_their_own(shared: Served, made: dict[str, Any]) -> None:
    looks = {name: asked(shared, name, "thumbs", "look", {"fresh": True}) for name in PASSWORDS}
    assert looks["ann"]["total"] >= 1 and looks["bob"]["total"] == 0
    mine = asked(shared, "ann", "branch", "runs", {})["runs"]
    assert any(row["prompt"] == "ann's boat" for row in mine)
    assert [row["now"] for row in asked(shared, "bob", "branch", "runs", {})["runs"]] == [True]
    run = next(row["run"] for row in mine if row["prompt"] == "ann's boat")
    for name in (run, made["trajectory"], f"../ann/{made['trajectory']}"):
        assert "not there any more" in asked(shared, "bob", "branch", "state", {"run": name})["error"]
    assert asked(shared, "ann", "branch", "state", {"run": run})["prompt"] == "ann's boat"


def test_comparisons_are_ones_own(shared: Served, ann: Client) -> None:
    ann.predict(prompt="ann's contest", samplers=["Euler"], steps=[2], width=64, height=64, api_name="/compare")
    contests = shared.studio.contests
    (entry,) = contests.recent("ann")
    assert contests.recent("bob") == [] and contests.recent("") == []
    assert contests.get(entry.id, "bob") is None and contests.known(entry.id, "bob") is None
    found = contests.get(entry.id, "ann")
    assert found and found.owner == "ann" and whose(found.folder, shared.studio.jobs.outputs) == "ann"


def test_runs_of_people_go_on_after_a_restart_in_their_own_folders(tmp_path: Path) -> None:
    logins = Logins.of(["ann:x"])
    with served(tmp_path, lambda: FakeRunner(0.2), logins=logins) as first:
        job = first.studio.jobs.submit(Request(prompt="later", steps=30, width=64, height=64), owner="ann",
                                       lasting=True)
    with served(tmp_path, lambda: FakeRunner(0), logins=logins) as second:
        again = second.studio.jobs.get(job.id)
        assert again and second.studio.jobs.wait(again, 60).state == "done" and again.owner == "ann"
        assert [whose(path, second.studio.jobs.outputs) for path in again.results] == ["ann"]


def test_pictures_of_the_folder_are_a_persons_when_they_are_moved_there(tmp_path: Path) -> None:
    metadata.save_png(np.zeros((8, 8, 3), np.uint8), tmp_path / "a.png", Request(prompt="old"))
    home(tmp_path, "ann").mkdir(parents=True)
    (tmp_path / "a.png").rename(home(tmp_path, "ann") / "a.png")
    found = of(home(tmp_path, "ann"))
    found.scan()
    assert [entry.prompt for entry in found.search()[1]] == ["old"]


# -- how much, how often


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Served]:
    """A studio whose budgets nobody has touched."""
    with served(tmp_path, lambda: FakeRunner(0), logins=Logins.of(["ann:a-secret"])) as studio:
        yield studio


def test_passwords_cannot_be_tried_for_ever(fresh: Served) -> None:
    with visitor(fresh, "") as stranger:
        answers = [stranger.post("/login", data={"username": "ann", "password": str(k)}) for k in range(12)]
    assert [answer.status_code for answer in answers[:10]] == [400] * 10
    assert answers[11].status_code == 429 and "wait ten seconds" in answers[11].text


def test_many_people_may_log_in_from_one_address(fresh: Served) -> None:
    for _ in range(14):
        with visitor(fresh, "ann") as ann:
            assert ann.get("/gradio_api/user").json() == "ann"


def test_questions_that_come_too_often_are_turned_away(fresh: Served) -> None:
    with visitor(fresh, "ann") as ann:
        codes = [ann.post("/gradio_api/component_server", json={}).status_code for _ in range(700)]
        assert 429 in codes and 429 not in codes[:500]


def test_what_is_too_large_is_refused_before_it_is_read(fresh: Served) -> None:
    with visitor(fresh, "ann") as ann:
        def drip() -> Iterator[bytes]:
            yield b"{}"

        for path in ("/gradio_api/call/txt2img", "/gradio_api/queue/join", "/gradio_api/component_server",
                     "/gradio_api/run/upload", "/gradio_api/call/upload"):
            answer = ann.post(path, content=b'{"data": ["' + 21_000_000 * b"a" + b'"]}')
            assert answer.status_code == 413 and "larger than 20 MB" in answer.text and answer.text.count("\n") == 0
            assert ann.post(path, content=drip()).status_code == 411
        answer = ann.post("/gradio_api/upload", files={"files": ("a.png", 41_000_000 * b"a")})
        assert answer.status_code == 413
    with pytest.raises(Exception, match="5,000"):
        client(fresh, "ann").predict(prompt=10_000 * "a ", api_name="/txt2img")


def test_a_length_that_is_not_the_bodys_is_not_believed(fresh: Served) -> None:
    address = httpx.URL(fresh.address)
    with socket.create_connection((address.host, address.port or 80), timeout=20) as line:
        line.sendall(b"POST /gradio_api/run/txt2img HTTP/1.1\r\nHost: loom\r\nContent-Type: application/json\r\n"
                     b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert line.recv(20).startswith(b"HTTP/1.1 411")


def test_a_budget_comes_back_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("ui.guard.time.monotonic", lambda: now[0])
    budget = Budget(2, 0.5)
    assert [budget.take("a") for _ in range(3)] == [True, True, False] and budget.take("b")
    now[0] = 2.0
    assert [budget.take("a") for _ in range(2)] == [True, False]
