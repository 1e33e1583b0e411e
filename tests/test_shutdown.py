"""The studio's end as a process: asked once it closes in order and goes on at the next start, asked twice it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client

import app
from core import metadata, trajectory
from tests.serving import THIRD_PARTY
from tests.test_jobs import until
from tests.test_jobs_steps import pixels

ROOT = Path(app.__file__).parent
pytestmark = [pytest.mark.skipif(os.name != "posix", reason="signals"),
              *(pytest.mark.filterwarnings(line) for line in THIRD_PARTY)]


@contextlib.contextmanager
def studio(outputs: Path, models_dir: Path) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """A process of its own, and a client of it."""
    program = [sys.executable, "app.py", "--port", "0", "--model", "eps", "--models-dir", str(models_dir), "--outputs",
               str(outputs), "--device", "cpu"]
    with subprocess.Popen(program, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as running:
        try:
            assert running.stdout
            yield running, Client(running.stdout.readline().split()[-1], verbose=False)
        finally:
            running.kill()


def test_a_run_in_the_midst_of_which_the_system_ends_the_studio_goes_on_to_the_same_picture(
        tmp_path: Path, models_dir: Path) -> None:
    outputs = tmp_path / "outputs"
    asked = {"prompt": "a red boat", "model": "eps", "width": 128, "height": 128, "steps": 50, "sampler": "Heun",
             "seed": 7, "precision": "fp32"}
    with studio(outputs, models_dir) as (running, client):
        job = client.predict(request=asked, api_name="/enqueue")
        until(lambda: [run for run in trajectory.unfinished(outputs) if run.taken >= 3])
        running.send_signal(signal.SIGTERM)
        said, _ = running.communicate(timeout=60)
        assert running.returncode == 0 and "go on when the studio is started again" in said
    kept = trajectory.unfinished(outputs)[0]
    assert 3 <= kept.taken < 50 and not list(outputs.glob("*/*.png"))
    with studio(outputs, models_dir) as (_, client):
        pictures, about = client.predict(job=job, api_name="/result")
        whole, _ = client.predict(**asked, api_name="/txt2img")
    assert not about["stopped"] and metadata.read_png(pictures[0]).seed == 7
    assert np.array_equal(pixels(Path(pictures[0])), pixels(Path(whole[0])))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once_and_leaves_no_previews(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "previews").mkdir()
    code = ("import app, time\n"
            f"app._heed_signals({str(tmp_path / 'previews')!r})\n"
            "try:\n    print('open', flush=True)\n    time.sleep(600)\n"
            "except KeyboardInterrupt:\n    print('closing', flush=True)\n    time.sleep(600)\n")
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as running:
        try:
            assert running.stdout
            for word in ("open", "closing"):
                assert running.stdout.readline().strip() == word
                running.send_signal(number)
            _, said = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 128 + number and said.count("\n") == 1 and "Ended at once" in said
    assert not (tmp_path / "previews").exists()
