"""ui.stream: what the stage is told, for every state of a job."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core import metadata
from core.jobs import Job, Jobs
from core.request import MAX_SEED, Preview, Region, Request
from tests.fakes import FakeRunner
from ui.stream import Desk, empty, settings_line, state_of, turn_after


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(lambda: FakeRunner(0.02), tmp_path / "outputs", tmp_path / "frames")
    yield made
    made.close()


def small(**changes: Any) -> Request:
    return Request(**{"prompt": "a boat", "steps": 4, "width": 64, "height": 64, "seed": 5} | changes)


def finished(jobs: Jobs, request: Request, preview: Preview | None = None) -> Job:
    return jobs.wait(jobs.submit(request, preview), 20)


async def followed(desk: Desk, page: str) -> list[dict[str, Any]]:
    return [state async for state in desk.follow(page)]


def test_a_finished_run_shows_its_results_and_every_step(jobs: Jobs) -> None:
    job = finished(jobs, small(batch=2))
    state = state_of(job, jobs)
    assert state["state"] == "done"
    assert len(state["steps"]) == state["total"] == 4
    assert state["results"][0].startswith("gradio_api/file=") and len(state["results"]) == 2
    assert state["names"][1].endswith("-6.png")  # the second picture bears its own seed
    assert all(job.frame(index, k).is_file() for index in range(4) for k in range(2))
    assert state["left"] is None and state["error"] == ""
    assert "Steps: 4" in state["text"]
    assert json.loads(json.dumps(state)) == state


def test_a_finished_run_tells_what_its_previews_cost(jobs: Jobs) -> None:
    job = finished(jobs, small(), Preview("tiny"))
    line = state_of(job, jobs)["previews"]
    assert re.fullmatch(r"previews by the small decoder: \d+\.\d\d s beside the run, which waited \d+\.\d\d s", line)
    assert job.previewer and f"{job.previewer.spent:.2f} s beside" in line
    assert state_of(finished(jobs, small(), Preview("none")), jobs)["previews"] == ""


def test_regions_are_told_with_how_sure_their_things_are_there(jobs: Jobs) -> None:
    request = small(batch=2, regions=(Region(name="sofa", prompt="a red sofa", box=(0, 0, 0.5, 1)),
                                      Region(name="cat", prompt="a cat", box=(0.5, 0, 1, 1))))
    job = finished(jobs, request)
    job.scores = [{1: 0.934, 2: 0.2}, {2: 0.5}]
    assert state_of(job, jobs)["found"] == [[["sofa", "a red sofa", 0.93], ["cat", "a cat", 0.2]],
                                            [["cat", "a cat", 0.5]]]
    job.scores = []
    assert state_of(job, jobs)["found"] == []


def test_a_batch_counts_on_from_zero_after_the_last_seed(jobs: Jobs) -> None:
    job = finished(jobs, small(seed=MAX_SEED, batch=2))
    assert [metadata.read_png(path).seed for path in job.results] == [MAX_SEED, 0]


def test_a_run_without_previews_has_no_address_for_frames(jobs: Jobs) -> None:
    assert state_of(finished(jobs, small(), Preview("none")), jobs)["frames"] == ""


def test_a_failed_run_shows_its_line_and_the_steps_before_it(jobs: Jobs) -> None:
    state = state_of(finished(jobs, small(prompt="fail at step 3")), jobs)
    assert (state["state"], len(state["steps"])) == ("failed", 2)
    assert state["error"] == "The network gave no numbers at this step: try another sampler."
    assert state["results"] == []


def test_a_waiting_run_tells_its_place_and_a_stopped_one_says_so(jobs: Jobs) -> None:
    first, second = jobs.submit(small(steps=100)), jobs.submit(small())
    state = state_of(second, jobs)
    assert (state["state"], state["ahead"], state["steps"]) == ("waiting", 1, [])
    jobs.stop(second.id)
    assert state_of(second, jobs)["state"] == "stopped"
    while len(first.steps) < 3:
        pass
    running = state_of(first, jobs)
    assert running["state"] == "running" and running["left"] > 0 and running["results"] == []
    jobs.stop(first.id)
    jobs.wait(first, 20)
    stopped = state_of(first, jobs)
    assert stopped["state"] == "stopped" and len(stopped["results"]) == 1


def test_states_are_small(jobs: Jobs) -> None:
    assert len(json.dumps(state_of(finished(jobs, small(steps=150)), jobs))) < 5_000


def test_following_gives_growing_whole_states_and_ends(jobs: Jobs) -> None:
    desk = Desk(jobs)
    desk.add("page", jobs.submit(small()))
    states = asyncio.run(followed(desk, "page"))
    counts = [len(state["steps"]) for state in states]
    assert counts == sorted(counts) and counts[-1] == 4
    assert states[-1]["state"] == "done"
    assert asyncio.run(followed(desk, "page")) == []


def test_runs_of_a_page_follow_each_other_and_other_pages_see_nothing(jobs: Jobs) -> None:
    desk = Desk(jobs)
    first, second = jobs.submit(small()), jobs.submit(small(steps=3))
    desk.add("page", first)
    desk.add("page", second)
    states = asyncio.run(followed(desk, "page"))
    order = list(dict.fromkeys(state["job"] for state in states))
    assert order == [first.id, second.id]
    assert states[0]["behind"] == [second.id]
    assert asyncio.run(followed(desk, "other")) == []


def test_a_later_follower_takes_over(jobs: Jobs) -> None:
    desk = Desk(jobs)
    desk.add("page", jobs.submit(small(steps=20)))

    async def both() -> tuple[list[Any], list[Any]]:
        first = asyncio.create_task(followed(desk, "page"))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(followed(desk, "page"))
        return await first, await second

    first, second = asyncio.run(both())
    assert first[-1]["state"] == "running"
    assert second[-1]["state"] == "done"


def test_forever_that_ends_between_two_runs_is_told(jobs: Jobs) -> None:
    desk = Desk(jobs)
    job = finished(jobs, small())
    jobs.go_on_forever(job.owner, "")  # without a run to follow: nothing comes
    desk.add("page", job)

    async def ended() -> list[dict[str, Any]]:
        states = []
        async for state in desk.follow("page"):
            states.append(state)
            jobs.end_forever(job.owner)  # as from the queue's panel, after the run's last change
        return states

    assert [state["forever"] for state in asyncio.run(ended())] == [True, False]


def test_leaving_while_waiting_lets_go_of_the_job(jobs: Jobs) -> None:
    desk = Desk(jobs)
    job = jobs.submit(small(steps=30))
    desk.add("page", job)

    async def leave() -> None:
        following = desk.follow("page")
        await anext(following)
        await following.aclose()  # type: ignore[attr-defined]

    asyncio.run(leave())
    assert not jobs._listeners.get(job.id)
    jobs.stop(job.id)


def test_a_reloaded_page_comes_back_to_its_runs_and_is_told_of_lost_ones(jobs: Jobs) -> None:
    desk = Desk(jobs)
    job = finished(jobs, small())
    assert desk.attach("new", [job.id, "unknown", None]) is job
    assert not desk.lost("new")
    assert asyncio.run(followed(desk, "new"))[-1]["state"] == "done"
    assert desk.attach("other", ["unknown"]) is None
    assert desk.lost("other") and not desk.lost("other")


def test_the_settings_line_names_the_schedule_that_automatic_stands_for() -> None:
    line = settings_line(Request(seed=11, batch=2))
    assert line == "seed 11 · DPM++ 2M Karras · 20 steps · guidance 5 · 256×256 px · 2 pictures · storybook"
    assert "1 step ·" in settings_line(Request(steps=1))
    assert settings_line(Request(refiner="XL/refiner", refiner_from=0.7)).endswith(" · storybook · refiner from 0.7")


def test_the_empty_stage_offers_its_examples() -> None:
    assert empty(["a", "b", "c"])["examples"] == ["a", "b", "c"]


def test_a_pages_followers_are_numbered_upward_also_after_a_new_start() -> None:
    first = turn_after(0)
    assert turn_after(first) > first and turn_after(first + 10**6) == first + 10**6 + 1
    assert abs(turn_after(0) - time.time() * 1000) < 60_000  # so that a studio started anew goes on above
