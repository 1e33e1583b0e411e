"""ui.inspection and the answers of the Live preview tab, on real runs of a small checkpoint."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core import metadata
from core.engine import Engine
from core.errors import BadRequest
from core.export import KINDS, ORDERS, SOURCES
from core.jobs import Job, Jobs
from core.models.catalogue import Catalogue
from core.request import Preview, Region, Request
from core.views import VIEWS, Told
from tests.lines import assert_one_line
from ui import composition
from ui.inspection import NOW, OPEN_RUNS, Inspection, empty, sentence, told
from ui.languages import table
from ui.tabs.live_preview import Answers

STEPS = 5


@pytest.fixture
def jobs(tmp_path: Path, catalogue: Catalogue) -> Iterator[Jobs]:
    made = Jobs(lambda: Engine(catalogue, "cpu"), tmp_path / "outputs", tmp_path / "frames")
    yield made
    made.close()


@pytest.fixture
def inspection(jobs: Jobs) -> Inspection:
    return Inspection(jobs)


@pytest.fixture
def answers(inspection: Inspection) -> Answers:
    return Answers(inspection)


def small(**changes: Any) -> Request:
    return Request(**{"prompt": "a boat", "model": "eps", "steps": STEPS, "width": 64, "height": 64, "seed": 5,
                      "precision": "fp32"} | changes)


def finished(jobs: Jobs, request: Request | None = None, preview: str = "vae") -> Job:
    job = jobs.wait(jobs.submit(request or small(), Preview(preview)), 60)
    assert job.state == "done", job.error
    return job


def ask(answer: Awaitable[Any]) -> Any:
    return asyncio.run(_awaited(answer))


async def _awaited(answer: Awaitable[Any]) -> Any:
    return await answer


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def place(address: str) -> Path:
    return Path(address.removeprefix("gradio_api/file="))


def test_a_finished_run_is_told_whole_with_numbers_and_a_sentence_for_each_step(
        jobs: Jobs, inspection: Inspection) -> None:
    job = finished(jobs, small(batch=2))
    state = inspection.state(inspection.find(job.id))
    assert json.loads(json.dumps(state)) == state
    assert (state["state"], state["kept"], state["total"], state["batch"]) == ("done", True, STEPS, 2)
    sigmas = [row[0] for row in state["steps"]]
    assert len(sigmas) == STEPS and sigmas == sorted(sigmas, reverse=True)
    assert state["steps"][0][3] is None and all(row[3] > 0 for row in state["steps"][1:])  # change of x0
    assert all(row[4] > 0 for row in state["steps"])  # guided against unguided
    assert "100 % of its whole way" in state["steps"][-1][6]
    assert state["frames"] and state["decoder"] == "vae" and not state["resumable"] and state["parent"] is None
    assert place(state["latents"]).is_file()
    assert state["asked"] == {"prompt": "a boat", "negative_prompt": "", "guidance": "5", "seed": "5",
                              "sampler": "DPM++ 2M"}


def test_a_follower_sees_the_run_grow_and_now_goes_over_to_the_next_one(jobs: Jobs, inspection: Inspection) -> None:
    async def watch() -> list[dict[str, Any]]:
        seen = []
        async for state in inspection.follow("page", NOW):
            seen.append(state)
            if len(seen) == 1:
                jobs.submit(small(steps=12))
            if state["state"] == "done" and state["total"] == 12:
                jobs.submit(small(steps=3))
            if state["state"] == "done" and state["total"] == 3:
                break
        return seen

    seen = asyncio.run(asyncio.wait_for(watch(), 60))
    assert seen[0] == {**empty(), "of": "now"}
    counts = [len(state["steps"]) for state in seen if state.get("total") == 12]
    assert counts == sorted(counts) and counts[-1] == 12
    assert len(seen[-1]["steps"]) == 3


def test_a_later_follower_of_the_page_takes_over_and_a_finished_run_ends_its_own(
        jobs: Jobs, inspection: Inspection) -> None:
    job = finished(jobs)

    async def both() -> tuple[list[Any], list[Any]]:
        first = asyncio.create_task(_all(inspection.follow("page", NOW)))
        await asyncio.sleep(0.2)
        return await _all(inspection.follow("page", job.id)), await asyncio.wait_for(first, 5)

    second, first = asyncio.run(both())
    assert [state["run"] for state in first] == [state["run"] for state in second] == [job.id]
    assert inspection._turn == {}


async def _all(states: Any) -> list[Any]:
    return [state async for state in states]


def test_pictures_are_decoded_once_and_x_t_is_noisier_than_x0(jobs: Jobs, inspection: Inspection) -> None:
    found = inspection.find(finished(jobs, preview="none").id)
    x0 = ask(inspection.frame(found, 0, "x0", 0, "vae"))
    x_t = ask(inspection.frame(found, 0, "xt", 0, "vae"))
    written = x_t.stat().st_mtime_ns
    assert ask(inspection.frame(found, 0, "xt", 0, "vae")).stat().st_mtime_ns == written
    assert np.abs(picture(x0) - picture(x_t)).mean() > 1
    runner = jobs.runner
    assert isinstance(runner, Engine) and found.open is not None
    [own] = runner.decode(found.open.kept.x0(0), found.open.kept.request, "vae")
    assert np.abs(picture(x0) - own).mean() < 6  # JPEG


def test_the_list_holds_the_newest_first_with_pictures(jobs: Jobs, answers: Answers) -> None:
    first, second = finished(jobs), finished(jobs, small(prompt="a tree", seed=6))
    rows = ask(answers.runs({}))["runs"]
    assert [row["run"] for row in rows] == [NOW, second.id, first.id]
    assert [row["prompt"] for row in rows[1:]] == ["a tree", "a boat"]
    assert all(picture(place(row["thumb"])).max() > 0 for row in rows[1:])
    assert "seed 6" in rows[1]["words"]
    assert json.loads(json.dumps(rows)) == rows


def test_runs_of_an_earlier_studio_open_with_everything(
        jobs: Jobs, tmp_path: Path, catalogue: Catalogue) -> None:
    finished(jobs)
    jobs.close()
    later = Jobs(lambda: Engine(catalogue, "cpu"), tmp_path / "outputs", tmp_path / "frames")
    try:
        inspection = Inspection(later)
        later.warm("eps")
        [state] = asyncio.run(_first(inspection.follow("page", NOW), 1))
        assert state["run"].endswith(".safetensors") and (state["state"], len(state["steps"])) == ("done", STEPS)
        assert state["frames"] == ""  # they are asked for
        urls = ask(Answers(inspection).frames({"run": state["run"], "source": "x0", "picture": 0, "steps": [1, 5]}))
        assert [place(url).is_file() for url in urls["urls"]] == [True, True]
        [again] = asyncio.run(_all(inspection.follow("page", "a-job-nobody-knows", state["place"])))
        assert again["run"] == state["run"]
    finally:
        later.close()


async def _first(states: Any, count: int) -> list[Any]:
    seen = []
    async for state in states:
        seen.append(state)
        if len(seen) == count:
            break
    await states.aclose()
    return seen


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_can_be_looked_at(jobs: Jobs, answers: Answers, view: str) -> None:
    regions = (Region(name="boat", prompt="a boat", box=(0, 0, 0.5, 1)),)
    job = finished(jobs, small(regions=regions, prompt="sea"))
    seen = ask(answers.look({"run": job.id, "step": 3, "picture": 0, "view": view}))
    if view == "guidance" and "error" in seen:
        assert_one_line(seen["error"])
        return
    assert seen["words"] and seen["pictures"]
    assert all(picture(place(made["url"])).ndim == 3 for made in seen["pictures"])


def test_a_kept_step_is_a_png_with_its_settings(jobs: Jobs, answers: Answers) -> None:
    job = finished(jobs, small(batch=2))
    kept = ask(answers.keep({"run": job.id, "step": 3, "picture": 1}))
    assert metadata.read_png(place(kept["url"])).seed == 6
    assert place(kept["url"]).name == kept["name"]


def test_a_branch_shares_its_parents_steps_and_names_it(
        jobs: Jobs, inspection: Inspection, answers: Answers) -> None:
    job = finished(jobs)
    started = ask(answers.branch({"run": job.id, "step": 2, "changes": {"prompt": "a tree", "guidance": "7.5"}}))
    branch = jobs.get(started["run"])
    assert branch and jobs.wait(branch, 60).state == "done", branch and branch.error
    mine, parents = (inspection.state(inspection.find(name)) for name in (branch.id, job.id))
    assert mine["parent"] == {"run": job.id, "step": 2}
    assert mine["asked"]["prompt"] == "a tree" and mine["asked"]["guidance"] == "7.5"
    assert [row[3] for row in mine["steps"][:2]] == [row[3] for row in parents["steps"][:2]]
    assert mine["steps"][2][3] != parents["steps"][2][3]


def test_a_branch_takes_the_regions_that_are_painted_now_or_drops_its_parents(jobs: Jobs, answers: Answers) -> None:
    painted = small(regions=(Region(name="sofa", prompt="a red sofa", box=(0.25, 0.5, 0.75, 1)),))
    canvas = composition.canvas_of(painted)
    started = ask(answers.branch({"run": finished(jobs).id, "step": 2, "changes": {"canvas": canvas}}))
    branch = jobs.get(started["run"])
    assert branch and jobs.wait(branch, 60).state == "done", branch and branch.error
    (region,) = branch.request.regions
    assert (region.name, region.prompt) == ("sofa", "a red sofa")
    assert region.mask and region.mask.to_array().mean() == 0.25
    bare = ask(answers.branch({"run": branch.id, "step": 3, "changes": {"regions": []}}))
    dropped = jobs.get(bare["run"])
    assert dropped and jobs.wait(dropped, 60).state == "done" and dropped.request.regions == ()


def test_a_branch_that_waits_names_its_parent_already(
        jobs: Jobs, inspection: Inspection, answers: Answers) -> None:
    job = finished(jobs)
    busy = jobs.submit(small(steps=100), Preview("none"))
    started = ask(answers.branch({"run": job.id, "step": 2, "changes": {"prompt": "a tree"}}))
    state = inspection.state(inspection.find(started["run"]))
    assert state["state"] == "waiting" and state["parent"] == {"run": job.id, "step": 2}
    for running in (started["run"], busy.id):
        jobs.stop(running)


def test_a_stopped_run_goes_on(jobs: Jobs, inspection: Inspection, answers: Answers) -> None:
    job = jobs.submit(small(steps=60), Preview("none"))
    while not job.steps:
        pass
    jobs.stop(job.id)
    jobs.wait(job, 60)
    state = inspection.state(inspection.find(job.id))
    assert state["state"] == "stopped" and state["resumable"]
    resumed = jobs.get(ask(answers.resume({"run": job.id}))["run"])
    assert resumed and jobs.wait(resumed, 60).state == "done"
    assert len(inspection.state(inspection.find(resumed.id))["steps"]) == 60


@pytest.mark.parametrize("kind", ["webp", "gif", "mp4", "sheet"])
def test_a_run_can_be_exported(jobs: Jobs, answers: Answers, kind: str) -> None:
    job = finished(jobs, small(steps=3))
    made = ask(answers.export({"run": job.id, "picture": 0, "kind": kind, "source": "both", "order": "loop",
                               "seconds": "2", "side": "0"}))
    assert place(made["url"]).stat().st_size > 0 and made["name"].startswith(place(made["url"]).stem)


@pytest.mark.parametrize("name, question, line", [
    ("state", {"run": "nobody"}, "not there any more"), ("state", {"run": "../../etc/passwd"}, "not there any more"),
    ("state", {"run": "../frames/x.safetensors"}, "not there any more"), ("state", None, "reload the page"),
    ("frames", {"run": "JOB", "source": "x0", "picture": 0, "steps": [99]}, "no step 99"),
    ("frames", {"run": "JOB", "source": "x0", "picture": 3, "steps": [1]}, "no picture 4"),
    ("frames", {"run": "JOB", "source": "../x", "picture": 0, "steps": [1]}, "No source"),
    ("frames", {"run": "JOB"}, "reload the page"),
    ("look", {"run": "JOB", "step": 1, "picture": 0, "view": "change"}, "Nothing comes before"),
    ("look", {"run": "JOB", "step": 1, "picture": 0, "view": "../x"}, "No view named"),
    ("branch", {"run": "JOB", "step": 2, "changes": {"guidance": "lots"}}, "guidance must be a number"),
    ("branch", {"run": "JOB", "step": 2, "changes": {"colour": "red"}}, "no field"),
    ("branch", {"run": "JOB", "step": 99, "changes": {}}, "step"),
    ("branch", {"run": "JOB", "step": 2, "changes": {"canvas": {"width": 96, "height": 64, "regions": []}}},
     "painted at 96x64 pixels, this run is 64x64"),
    ("branch", {"run": "JOB", "step": 2, "changes": {"canvas": {"width": 64, "height": 64, "regions": []}}},
     "Nothing is painted"),
    ("branch", {"run": "JOB", "step": 2, "changes": {"canvas": "64x64"}}, "reload the page"),
    ("export", {"run": "JOB", "picture": 0, "kind": "avi", "source": "x0", "order": "loop", "seconds": "2",
                "side": "0"}, "No kind of export"),
])
def test_what_cannot_be_is_told_in_one_line(jobs: Jobs, answers: Answers, name: str, question: Any, line: str) -> None:
    job = finished(jobs, small(steps=3))
    if isinstance(question, dict) and question["run"] == "JOB":
        question = question | {"run": job.id}
    answer = ask(getattr(answers, name)(question))
    assert line in answer["error"]
    assert_one_line(answer["error"])


def test_a_run_without_steps_yet_says_so(inspection: Inspection, jobs: Jobs) -> None:
    job = jobs.submit(small(prompt="x" * 10, steps=3))
    jobs.stop(job.id)
    jobs.wait(job, 30)
    found = inspection.find(job.id)
    if found.open is None:  # stopped before its first step
        assert not inspection.state(found)["kept"]
        with pytest.raises(BadRequest, match="keeps no steps"):
            _ = found.kept


def test_only_so_many_runs_keep_their_pictures(jobs: Jobs, inspection: Inspection) -> None:
    job = finished(jobs, small(steps=2))
    found = inspection.find(job.id)
    assert found.open is not None
    ask(inspection.frame(found, 0, "xt", 0, "vae"))
    assert found.open.folder.is_dir()
    source = found.open.kept.path
    for k in range(OPEN_RUNS):
        copy = source.with_name(f"copy{k}.safetensors")
        copy.write_bytes(source.read_bytes())
        inspection.look_into(copy)
    assert not found.open.folder.exists()


def test_what_is_seen_at_a_step_is_a_sentence() -> None:
    said = sentence(Told("deciding"), Told("changed-of", {"change": "12 %", "way": "64 %"}))
    assert said == ("The network decides what goes where: large shapes still move. "
                    "x0 changed by 12 %; 64 % of its whole way is done.")
    assert sentence(Told("only"), None) == "One step has to do everything."
    assert told(Told("x0-at", {"step": "3"})) == "x0 at step 3" and told("boat") == "boat"


def test_what_can_be_chosen_has_a_name() -> None:
    words = table("en")
    for name in VIEWS:
        assert words[f"inspector.views.{name}"] and words[f"inspector.about-views.{name}"]
        assert words[f"inspector.seen.{name}"]
    for group, names in (("films", KINDS), ("inspector.sources", SOURCES), ("inspector.orders", ORDERS)):
        assert all(words[f"{group}.{name}"] for name in names)
