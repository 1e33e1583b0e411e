"""For those who operate the studio: events as lines of JSON, health, and figures."""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from core import log
from core.errors import OutputError, StartError
from core.jobs import Jobs
from core.telemetry import Telemetry, health
from tests.fakes import FakeRunner
from tests.serving import THIRD_PARTY, served
from tests.test_jobs import PATIENCE, ask
from tests.test_jobs import until as until_true
from ui import operating

SECRET = "a secret garden"


@pytest.fixture
def queue(tmp_path: Path):  # type: ignore[no-untyped-def]
    jobs = Jobs(lambda: FakeRunner(0), tmp_path / "outputs", tmp_path / "frames")
    yield jobs
    jobs.close()


def written(tmp_path: Path, jobs: Jobs, prompts: bool = False) -> tuple[str, list[dict[str, Any]]]:
    """The log of a run that succeeds, one that fails with a message that quotes, and a warning that does."""
    handler = log.write(str(tmp_path / "log.jsonl"), prompts)
    try:
        for prompt in (SECRET, "fail at step 2"):
            jobs.wait(jobs.submit(ask(prompt), owner="ada"), PATIENCE)
        logging.getLogger("core.test").warning("forever ends: %s", SECRET)
        logging.getLogger("library").warning(f"cannot read {SECRET}")
    finally:
        log.end(handler)
    text = (tmp_path / "log.jsonl").read_text()
    return text, [json.loads(line) for line in text.splitlines()]


def test_each_event_is_a_line_of_json_without_the_prompt(queue: Jobs, tmp_path: Path) -> None:
    text, lines = written(tmp_path, queue)
    assert [line["event"] for line in lines] == ["queued", "running", "done", "queued", "running", "failed", "warning",
                                                 "warning"]
    done, failed = lines[2], lines[5]
    assert done["owner"] == "ada" and done["model"] == "storybook" and done["steps"] == 3 and done["pictures"] == 1
    assert done["evaluations"] == 6 and done["seconds"] >= 0 and len(done["job"]) > 6 and done["time"].endswith("Z")
    assert failed["error"] == "LoomError" and "garden" not in text and "fail at" not in text


def test_prompts_are_written_where_somebody_asked_for_them(queue: Jobs, tmp_path: Path) -> None:
    text, lines = written(tmp_path, queue, prompts=True)
    assert lines[2]["prompt"] == SECRET and "cannot read a secret garden" in text


def test_a_log_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="choose another file"):
        log.write(str(tmp_path / "none" / "log"))


def test_the_terminal_stays_quiet_without_a_log(queue: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    queue.wait(queue.submit(ask(SECRET)), PATIENCE)
    assert capsys.readouterr() == ("", "")


def test_health_sees_a_dead_worker_and_outputs_that_refuse(queue: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    well, about = health(queue)
    assert well and about["status"] == "ok" and about["queue"] == 0 and about["disk_free"] > 0

    def refuse(folder: Path) -> None:
        raise OutputError("no")

    with monkeypatch.context() as patch:
        patch.setattr("core.telemetry.writable", refuse)
        assert health(queue)[0] is False and health(queue)[1]["outputs"] == "unwritable"
    queue.close()
    assert health(queue)[0] is False and health(queue)[1]["worker"] == "dead"


def figures(text: str) -> dict[str, float]:
    return {sample.name + "".join(sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text) for sample in family.samples}


def test_what_was_made_is_counted(queue: Jobs) -> None:
    telemetry = Telemetry(queue)
    for prompt in ("a", "fail at step 2"):
        queue.wait(queue.submit(ask(prompt)), PATIENCE)
    until_true(lambda: queue.queue_length() == 0)
    found = figures(telemetry.text().decode())
    assert found["latent_loom_steps_total"] == 4 == found["latent_loom_step_seconds_count"]
    assert found["latent_loom_evaluations_total"] == 8 and found["latent_loom_pictures_saved_total"] == 1
    assert found["latent_loom_jobsdone"] == 1 and found["latent_loom_jobsfailed"] == 1
    assert found["latent_loom_failures_totalLoomError"] == 1 and found["latent_loom_queue_length"] == 0
    assert found["latent_loom_memory_bytes"] > 1e6 and found["latent_loom_worker_up"] == 1


def answer(address: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.filterwarnings(*THIRD_PARTY)
def test_the_addresses_answer_beside_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path) as (address, studio):
        code, text = answer(f"{address}healthz")
        assert code == 200 and json.loads(text)["status"] == "ok"
        code, text = answer(f"{address}metrics")
        assert code == 200 and figures(text)["latent_loom_queue_length"] == 0
        assert answer(f"{address}metrics", **{"X-Forwarded-For": "203.0.113.9"})[0] == 403
        assert answer(address)[0] == 200
        near: Callable[[Any], bool] = lambda request: False  # noqa: E731
        monkeypatch.setattr(operating, "_is_near", near)
        assert answer(f"{address}metrics")[0] == 403 and answer(f"{address}healthz")[0] == 200
        studio.jobs.close()
        assert answer(f"{address}healthz")[0] == 503


@pytest.mark.filterwarnings(*THIRD_PARTY)
def test_gradios_own_figures_are_for_nobody(tmp_path: Path) -> None:
    with served(tmp_path) as (address, _):
        for path in ("monitoring", "monitoring/", "monitoring/summary", "monitoring/key", "gradio_api/monitoring",
                     "gradio_api/monitoring/summary", "monitoring/key/dashboard/"):
            code, text = answer(address + path)
            assert code in (403, 404) and "functions" not in text, (path, text)
