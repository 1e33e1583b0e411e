"""The command line's trajectories: kept, resumed after a kill, forked, decoded."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core import metadata, recorder
from core.__main__ import main
from core.engine import Engine
from core.errors import TrajectoryError
from core.models.catalogue import STORYBOOK
from core.request import Preview
from core.trajectory import Trajectory
from tests.test_main import ROOT, Captured, refused, small  # noqa: F401 (a fixture)


@pytest.fixture
def here(models_dir: Path) -> list[str]:
    return ["--models-dir", str(models_dir), "--device", "cpu"]


@pytest.fixture
def kept(tmp_path: Path, small: list[str]) -> Path:  # noqa: F811
    """The trajectory of a whole run of 4 steps, its picture beside it."""
    path = tmp_path / "run.safetensors"
    assert main(["generate", "a red boat", "--out", str(tmp_path / "whole.png"), "--seed", "3", "--batch", "2",
                 "--trajectory", str(path), *small]) == 0
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def text(path: Path) -> str:
    with Image.open(path) as image:
        return str(image.info["parameters"])


def test_a_stopped_run_is_resumed_to_the_same_picture(
        tmp_path: Path, kept: Path, here: list[str], small: list[str]) -> None:  # noqa: F811
    path = tmp_path / "stopped.safetensors"
    assert main(["generate", "a red boat", "--out", str(tmp_path / "a.png"), "--seed", "3", "--batch", "2",
                 "--trajectory", str(path), "--stop-after", "2", *small]) == 130
    assert main(["resume", str(path), "--out", str(tmp_path / "b.png"), "--stop-after", "3", *here]) == 130
    assert Trajectory(path).taken == 3 and "Stopped after: 3" in text(tmp_path / "b.png")
    assert main(["resume", str(path), "--out", str(tmp_path / "c.png"), "--frames", str(tmp_path / "f"), *here]) == 0
    for name in ("", "-2"):
        assert np.array_equal(pixels(tmp_path / f"c{name}.png"), pixels(tmp_path / f"whole{name}.png"))
        assert text(tmp_path / f"c{name}.png") == text(tmp_path / f"whole{name}.png")
    steps = json.loads((tmp_path / "f" / "steps.json").read_text())
    assert [step["evaluations"] for step in steps] == [4, 8, 12, 16]


def test_a_fork_changes_what_is_given_and_names_its_parent(
        tmp_path: Path, kept: Path, here: list[str], capsys: Captured) -> None:
    child = tmp_path / "child.safetensors"
    capsys.readouterr()
    assert main(["fork", str(kept), "--at", "2", "--prompt", "the blue sea", "--guidance", "3", "--sampler", "Euler a",
                 "--seed", "8", "--out", str(tmp_path / "b.png"), "--trajectory", str(child), *here]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "b.png"), str(tmp_path / "b-2.png")]
    fork = Trajectory(child)
    assert fork.parent is not None and (fork.parent.file, fork.parent.step) == ("run.safetensors", 2)
    request = metadata.read_png(tmp_path / "b-2.png")
    assert (request.prompt, request.guidance, request.sampler, request.seed) == ("the blue sea", 3, "Euler a", 9)
    assert "Forked from: run.safetensors, Forked at: 2" in text(tmp_path / "b.png")
    assert np.array_equal(fork.x0(1), Trajectory(kept).x0(1))
    assert main(["fork", str(kept), "--at", "1", "--out", str(tmp_path / "c.png"), *here]) == 0  # nothing is changed
    assert np.array_equal(pixels(tmp_path / "c.png"), pixels(tmp_path / "whole.png"))


def test_regions_come_into_a_fork_by_a_layout(tmp_path: Path, kept: Path, here: list[str]) -> None:
    layout = tmp_path / "layout.json"
    layout.write_text(json.dumps({"regions": [{"prompt": "a sofa", "box": [0, 0, 0.5, 1]}]}))
    assert main(["fork", str(kept), "--at", "1", "--layout", str(layout), "--out", str(tmp_path / "b.png"),
                 "--trajectory", str(tmp_path / "b.safetensors"), *here]) == 0
    child = Trajectory(tmp_path / "b.safetensors")
    assert list(child.regions_x0(3)) == [0, 1] and child.request.regions[0].prompt == "a sofa"


@pytest.mark.parametrize("source", ["x0", "xt"])
def test_any_step_is_decoded_at_full_quality(
        tmp_path: Path, kept: Path, here: list[str], engine: Engine, source: str) -> None:
    assert main(["decode", str(kept), "--step", "2", "--source", source, "--out", str(tmp_path / "c.png"), *here]) == 0
    request = Trajectory(kept).request
    step = [event for event in engine.generate(request, Preview("vae"))][2]
    if source == "x0":
        assert np.array_equal(pixels(tmp_path / "c-2.png"), step.pictures[1])
        assert "Stopped after: 3" in text(tmp_path / "c.png")
    else:
        assert np.array_equal(pixels(tmp_path / "c-2.png"), engine.decode(step.x_t, request, "vae")[1])


def test_a_full_disk_is_told_and_the_picture_is_made(
        tmp_path: Path, small: list[str], capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(recorder.os, "write", full)
    assert main(["generate", "a", "--out", str(tmp_path / "a.png"), "--trajectory", str(tmp_path / "a.safetensors"),
                 *small]) == 0
    assert capsys.readouterr().err.count("steps are not kept. The steps of the run cannot be written") == 1
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize("argv, says", [
    (["resume", "nowhere.safetensors"], "cannot be read"), (["resume", __file__], "is not a trajectory"),
    (["fork", "{run}", "--at", "4"], "from 0 to 3"), (["fork", "{run}", "--at", "-1"], "from 0 to 3"),
    (["fork", "{run}"], "--at"), (["fork", "{run}", "--at", "1", "--width", "128"], "keeps its parent's width"),
    (["fork", "{run}", "--at", "1", "--model", "v"], "keeps its parent's model"),
    (["fork", "{run}", "--at", "1", "--batch", "1"], "keeps its parent's batch"),
    (["fork", "{run}", "--at", "1", "--guidance", "99"], "1 "),
    (["fork", "{run}", "--at", "1", "--trajectory", "{run}"], "would overwrite the parent"),
    (["fork", "{run}", "--at", "1", "--seed", "4"], "draws no noise"),
    (["decode", "{run}", "--step", "4"], "it holds 0 to 3"), (["decode", "{run}", "--step", "-1"], "it holds 0 to 3"),
    (["decode", "{run}", "--step", "0", "--source", "noise"], "choose x0"),
    (["decode", "{run}", "--step", "0", "--out", "/"], "must name a file")])
def test_what_cannot_be_done_is_one_line_and_exit_2(
        tmp_path: Path, kept: Path, here: list[str], capsys: Captured, argv: list[str], says: str) -> None:
    capsys.readouterr()
    argv = [part.format(run=kept) for part in argv]
    assert says in refused(capsys, argv[0], *here, "--out", str(tmp_path / "b.png"), *argv[1:])
    assert not (tmp_path / "b.png").exists()


def test_a_model_that_is_another_by_now_is_refused(
        tmp_path: Path, kept: Path, models_dir: Path, capsys: Captured) -> None:
    (tmp_path / "models").mkdir()
    shutil.copytree(models_dir / "v", tmp_path / "models" / "eps")
    capsys.readouterr()
    for argv in (["resume"], ["fork", "--at", "1"], ["decode", "--step", "1"]):
        line = refused(capsys, *argv, str(kept), "--out", str(tmp_path / "b.png"), "--models-dir",
                       str(tmp_path / "models"), "--device", "cpu")
        assert "other weights" in line


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_in_mid_run_and_resumed_it_is_the_picture_of_an_uninterrupted_run(tmp_path: Path) -> None:
    """kill -9 on a process of its own, with Storybook and a sampler that remembers and draws noise."""
    if not (STORYBOOK / "model_index.json").is_file():
        pytest.skip("Storybook has no weights here")
    path = tmp_path / "run.safetensors"
    options = ["a red boat on the sea", "--sampler", "DPM++ 3M SDE", "--steps", "14", "--seed", "5", "--device", "cpu",
               "--precision", "fp32"]
    run = subprocess.Popen([sys.executable, "-m", "core", "generate", *options, "--out", str(tmp_path / "a.png"),
                            "--trajectory", str(path), "--frames", str(tmp_path / "frames")],
                           cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        while run.poll() is None and taken(path) < 3:
            time.sleep(0.005)
        run.send_signal(signal.SIGKILL)
        assert run.wait(60) == -signal.SIGKILL
    finally:
        run.kill()
        run.wait()
    assert 3 <= taken(path) < 14 and not (tmp_path / "a.png").exists()
    assert main(["resume", str(path), "--out", str(tmp_path / "b.png"), "--device", "cpu"]) == 0
    assert main(["generate", *options, "--out", str(tmp_path / "c.png")]) == 0
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "c.png").read_bytes()


def taken(path: Path) -> Any:
    try:
        return Trajectory(path).taken
    except TrajectoryError:
        return 0  # not there yet
