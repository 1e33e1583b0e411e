"""Each region's own estimate, decoded on request while the run goes on and after it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.board import KEPT_ESTIMATES
from core.errors import BadRequest
from core.jobs import Jobs
from core.request import Region, Request
from tests.fakes import FakeRunner

REQUEST = Request(prompt="a room", steps=4, width=64, height=64, regions=(
    Region(name="a", prompt="x", box=(0, 0, 0.5, 1)), Region(name="b", prompt="y", box=(0.5, 0, 1, 1))))


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with contextlib.closing(Jobs(lambda: FakeRunner(pause=0.02), tmp_path / "outputs", tmp_path / "frames")) as jobs:
        yield jobs


def test_a_regions_own_estimate_is_shown_at_any_step_taken(jobs: Jobs):
    job = jobs.wait(jobs.submit(REQUEST), timeout=20)
    path = asyncio.run(jobs.show_region(job, index=2, region=2))
    assert np.asarray(Image.open(path)).mean() == pytest.approx(80, abs=2)  # the fake's shade of region 2, as JPEG
    assert asyncio.run(jobs.show_region(job, index=2, region=2)) == path


def test_it_is_shown_in_mid_run_between_two_steps(tmp_path: Path):
    with contextlib.closing(Jobs(lambda: FakeRunner(pause=0.1), tmp_path / "outputs", tmp_path / "frames")) as jobs:
        job = jobs.submit(REQUEST.replace(steps=30))

        async def first_step() -> Path:
            async for now in jobs.watch(job):
                if now.steps:
                    return await jobs.show_region(job, index=0, region=1)
            raise AssertionError

        assert asyncio.run(first_step()).exists()
        assert not job.over


@pytest.mark.parametrize(("index", "region"), [(4, 0), (-1, 0), (0, 3), (0, -1)])
def test_a_step_or_region_that_has_none_says_so(jobs: Jobs, index, region):
    job = jobs.wait(jobs.submit(REQUEST), timeout=20)
    with pytest.raises(BadRequest, match="no estimate"):
        asyncio.run(jobs.show_region(job, index, region))


def test_estimates_of_older_runs_are_let_go(jobs: Jobs):
    runs = [jobs.wait(jobs.submit(REQUEST.replace(steps=1)), timeout=20) for _ in range(KEPT_ESTIMATES + 3)]
    assert [bool(job.own_x0) for job in runs][:2] == [False, False]
    assert runs[-1].own_x0
