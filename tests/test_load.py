"""The queue under load and under `kill -9`, in small; `tests/load` holds the scripts, which do more by hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.load import queue_faults, queue_load
from tests.serving import THIRD_PARTY

pytestmark = [pytest.mark.filterwarnings(line) for line in THIRD_PARTY]


def test_every_picture_is_made_once_though_the_queue_is_killed_and_killed_again(tmp_path: Path) -> None:
    figures = queue_faults.harass(tmp_path, kills=2, seed=5)
    assert figures["wrong"] == [] and figures["pictures"] == figures["runs"] > 3


@pytest.mark.skipif(sys.platform != "linux" or not os.path.isdir("/proc"), reason="its size is read from /proc")
def test_people_who_stop_reload_and_hang_up_lose_nothing_and_leave_nothing(tmp_path: Path) -> None:
    figures = queue_load.press(tmp_path, people=2, runs=4, warm=1)
    assert figures["wrong"] == [] and figures["runs"] == 8 and figures["MB warm"] > 0
