"""The command line: exit statuses, what it writes, and one line on stderr for everything that cannot be done."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core import metadata
from core.__main__ import main
from core.engine import Engine
from core.request import MAX_SEED, Preview, Request
from core.samplers import SAMPLERS
from tests.lines import assert_one_line

ROOT = Path(__file__).parent.parent
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def small(models_dir: Path) -> list[str]:
    """Options of a quick run on the fixture's checkpoint."""
    return ["--models-dir", str(models_dir), "--model", "eps", "--width", "64", "--height", "64", "--steps", "4",
            "--precision", "fp32", "--device", "cpu"]


def refused(captured: Captured, *argv: str) -> str:
    """The one line that a refused command prints."""
    try:
        status = main(list(argv))
    except SystemExit as left:  # argparse's own way out
        status = int(left.code or 0)
    out, err = captured.readouterr()
    assert status == 2 and out == "", (status, out)
    assert_one_line(err.removesuffix("\n"), longest=500)
    return err


def command(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


# -- generate


def test_generate_writes_the_picture_the_engine_makes_and_says_where(
        tmp_path: Path, small: list[str], engine: Engine, capsys: Captured) -> None:
    assert main(["generate", "a red boat", "--out", str(tmp_path / "a.png"), "--seed", "3", *small]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a.png'}\n"
    request = metadata.read_png(tmp_path / "a.png")
    assert request == Request(prompt="a red boat", model="eps", width=64, height=64, steps=4, precision="fp32", seed=3)
    *_, done = engine.generate(request, Preview("none"))
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), done.pictures[0])


def test_every_option_reaches_the_request(tmp_path: Path, small: list[str]) -> None:
    assert main(["generate", "a", "--out", str(tmp_path / "a.png"), *small, "--negative", "fog", "--sampler", "Euler a",
                 "--schedule", "SGM Uniform", "--guidance", "3.5", "--seed", "9", "--height", "128"]) == 0
    request = metadata.read_png(tmp_path / "a.png")
    assert (request.negative_prompt, request.sampler, request.schedule) == ("fog", "Euler a", "SGM Uniform")
    assert (request.guidance, request.seed, request.height) == (3.5, 9, 128)


def test_without_a_size_the_model_chooses_its_own(tmp_path: Path, models_dir: Path) -> None:
    assert main(["generate", "a", "--out", str(tmp_path / "a.png"), "--models-dir", str(models_dir), "--model",
                 str(models_dir / "v"), "--steps", "1", "--precision", "fp32", "--device", "cpu"]) == 0
    assert (metadata.read_png(tmp_path / "a.png").width, metadata.read_png(tmp_path / "a.png").height) == (128, 128)


def test_a_batch_is_numbered_and_each_picture_knows_its_seed(
        tmp_path: Path, small: list[str], capsys: Captured) -> None:
    assert main(["generate", "a", "--out", str(tmp_path / "a.png"), "--batch", "3", "--seed", str(MAX_SEED - 1),
                 *small]) == 0
    paths = [tmp_path / name for name in ("a.png", "a-2.png", "a-3.png")]
    assert capsys.readouterr().out.split() == [str(path) for path in paths]
    assert [metadata.read_png(path).seed for path in paths] == [MAX_SEED - 1, MAX_SEED, 0]
    assert all(metadata.read_png(path).batch == 1 for path in paths)


@pytest.mark.parametrize("decoder", ["linear", "tiny", "vae"])
def test_frames_hold_every_steps_picture_beside_its_figures(tmp_path: Path, small: list[str], decoder: str) -> None:
    frames = tmp_path / "new" / "frames"
    assert main(["generate", "a", "--out", str(tmp_path / "a.png"), "--frames", str(frames), "--preview", decoder,
                 "--batch", "2", *small]) == 0
    names = [f"{i:03d}{k}.jpg" for i in range(4) for k in ("-2", "")]
    assert sorted(p.name for p in frames.iterdir()) == [*names, "steps.json"]
    steps = json.loads((frames / "steps.json").read_text())
    assert [set(step) for step in steps] == [{"index", "total", "timestep", "sigma", "seconds", "evaluations"}] * 4
    assert [step["index"] for step in steps] == [0, 1, 2, 3] and steps[-1]["evaluations"] == 2 * 2 * 4
    with Image.open(frames / "003.jpg") as image:
        assert image.size == (64, 64)


def test_without_previews_the_frames_folder_holds_the_figures_alone(tmp_path: Path, small: list[str]) -> None:
    assert main(["generate", "a", "--out", str(tmp_path / "a.png"), "--frames", str(tmp_path / "f"), "--preview",
                 "none", *small]) == 0
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["steps.json"]


def test_stop_after_keeps_the_partial_picture_and_exits_130(tmp_path: Path, small: list[str]) -> None:
    assert main(["generate", "a", "--out", str(tmp_path / "a.png"), "--frames", str(tmp_path / "f"), "--stop-after",
                 "2", *small]) == 130
    assert len(json.loads((tmp_path / "f" / "steps.json").read_text())) == 2
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["parameters"].endswith("Stopped after: 2")
    whole = ["generate", "a", "--out", str(tmp_path / "b.png"), "--stop-after", "4", *small]
    assert main(whole) == 0  # that is all of it: nothing was stopped


def test_notes_go_to_stderr_and_the_run_goes_on(tmp_path: Path, small: list[str], capsys: Captured) -> None:
    assert main(["generate", "", "--out", str(tmp_path / "a.png"), *small]) == 0
    out, err = capsys.readouterr()
    assert "unconditional" in err and out == f"{tmp_path / 'a.png'}\n"


# -- what cannot be done


@pytest.mark.parametrize("option, value, says", [
    ("--steps", "0", "1 to 150"), ("--steps", "10000", "1 to 150"), ("--steps", "-1", "1 to 150"),
    ("--steps", "many", "whole number"), ("--steps", "2.5", "whole number"), ("--steps", "1" + "0" * 400, "1 to 150"),
    ("--steps", "9" * 5000, "whole number"), ("--steps", "", "whole number"), ("--guidance", "nan", "1 to 30"),
    ("--guidance", "inf", "1 to 30"), ("--guidance", "0", "1 "), ("--guidance", "9" * 400, "1 "),
    ("--seed", "-5", "0 to"), ("--seed", "4294967296", "0 to"), ("--width", "100", "try 96x64"),
    ("--width", "0", "8 to 4096"), ("--height", "99999", "8 to 4096"), ("--batch", "0", "1 to 16"),
    ("--sampler", "dpmpp2m", "Did you mean 'DPM\\+\\+ 2M'"), ("--schedule", "karas", "Did you mean 'Karras'"),
    ("--precision", "fp23", "Did you mean 'fp32'"), ("--precision", "fp16", "choose auto, bf16 or fp32"),
    ("--preview", "full", "No preview decoder"), ("--model", "epps", "epps"), ("--model", "", "model"),
    ("--negative", "a\x07", r"U\+0007"), ("--stop-after", "0", "1 or more"), ("--stop-after", "x", "invalid int"),
    ("--device", "tpu", "invalid choice"), ("--no-such-option", "1", "unrecognized"),
    ("--out", "", "must name a file"), ("--out", ".", "must name a file"), ("--out", "/", "must name a file")])
def test_a_bad_option_is_one_line_and_exit_2(
        tmp_path: Path, small: list[str], capsys: Captured, option: str, value: str, says: str) -> None:
    line = refused(capsys, "generate", "a", "--out", str(tmp_path / "a.png"), *small, option, value)
    assert re.search(says, line), line
    assert list(tmp_path.glob("*.png")) == []


@pytest.mark.parametrize("prompt", ["x" * 10_000, "bell\x07", "\udcff"])
def test_a_bad_prompt_is_one_line_and_exit_2(
        tmp_path: Path, small: list[str], capsys: Captured, prompt: str) -> None:
    assert "The prompt " in refused(capsys, "generate", prompt, "--out", str(tmp_path / "a.png"), *small)


@pytest.mark.parametrize("argv", [[], ["paint"], ["generate"], ["generate", "a"], ["models", "--jason"]])
def test_a_command_that_is_not_one_points_to_help(capsys: Captured, argv: list[str]) -> None:
    assert "--help" in refused(capsys, *argv)


def test_a_place_that_cannot_be_written_is_one_line_before_anything_is_computed(
        tmp_path: Path, small: list[str], capsys: Captured) -> None:
    (tmp_path / "file").write_text("")
    for option in (["--out", str(tmp_path / "file" / "a.png")],
                   ["--out", str(tmp_path / "a.png"), "--frames", str(tmp_path / "file")]):
        assert "cannot be written" in refused(capsys, "generate", "a", *option, *small)


# -- lists


def test_the_lists_can_be_read_by_people_and_programs(models_dir: Path, capsys: Captured) -> None:
    assert main(["samplers", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(SAMPLERS)
    assert main(["samplers"]) == 0
    text = capsys.readouterr().out
    assert all(label in text for label in SAMPLERS)
    assert main(["models", "--json", "--models-dir", str(models_dir)]) == 0
    models = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(models) == {"storybook", "eps", "v", "sample"} and models["eps"]["width"] == 128
    assert main(["models", "--models-dir", str(models_dir)]) == 0
    assert "eps" in capsys.readouterr().out


# -- as a program of its own


def test_as_a_program_it_lists_without_loading_torch_and_survives_a_closed_pipe() -> None:
    listed = command(f"{sys.executable} -m core samplers --json")
    assert listed.returncode == 0 and listed.stderr == "" and len(json.loads(listed.stdout)) == len(SAMPLERS)
    piped = command(f"{sys.executable} -m core samplers | head -1")
    assert "DPM++ 2M" in piped.stdout and piped.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_interrupted_it_keeps_what_there_is_and_exits_130(tmp_path: Path, small: list[str]) -> None:
    frames = tmp_path / "frames"
    run = subprocess.Popen([sys.executable, "-m", "core", "generate", "a", "--out", str(tmp_path / "a.png"), "--frames",
                            str(frames), *small, "--steps", "150", "--sampler", "DPM++ SDE", "--preview", "tiny"],
                           cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        while run.poll() is None and not (frames / "000.jpg").exists():
            time.sleep(0.02)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
    finally:
        run.kill()
    assert (run.returncode, err) == (130, "")  # nor do the libraries below chatter
    with Image.open(out.strip()) as image:
        assert "Stopped after: " in image.info["parameters"]
