"""Storage in 8 bits, attention, compiled blocks: the same picture within what each rounds; refusals in one line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import app
from core.__main__ import _parser, main
from core.engine import Engine
from core.errors import StartError
from core.models import tune
from core.models.catalogue import Catalogue
from core.models.parts import weight
from core.options import add_engine_options
from core.request import Request
from core.tuning import Tuning
from tests.lines import assert_one_line
from tests.originals import ask, finish

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def pictures_of(models: Path | None, request: Request, tuning: Tuning) -> tuple[np.ndarray, np.ndarray, Engine]:
    engine = Engine(Catalogue(models) if models else None, "cpu", tuning)
    done = finish(engine, request)
    return done.latents, done.pictures[0].astype(float), engine


@pytest.mark.parametrize("storage, nearest", [("fp8", 6.0), ("int8", 1.5)])
def test_weights_in_8_bits_paint_nearly_the_same_picture_in_less_memory(storage: str, nearest: float) -> None:
    """Storybook, whose weights are trained. Of 255, on average; measured 2.8 (fp8) and 0.7 (int8)."""
    request = Request(prompt="a red boat on the sea", steps=8, seed=3, width=128, height=128, precision="fp32")
    _, plain, before = pictures_of(None, request, Tuning())
    _, found, after = pictures_of(None, request, Tuning(storage=storage))
    assert 0 < np.abs(found - plain).mean() < nearest
    held = [weight([engine.load("storybook", "fp32").unet], CPU) for engine in (before, after)]
    assert held[1] < (0.3 if storage == "fp8" else 0.8) * held[0]
    assert after.tuned == f"{storage} weights"


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_fp8_keeps_norms_and_the_first_and_last_layers_whole(checkpoints: Path, family: str) -> None:
    unet = Engine(Catalogue(checkpoints), "cpu", Tuning(storage="fp8")).load(f"{family}-file", "bf16").unet
    kinds = {name: value.dtype for name, value in unet.named_parameters()}
    assert set(kinds.values()) == {torch.bfloat16, torch.float8_e4m3fn}
    whole = {name.split(".")[0] for name, kind in kinds.items() if kind == torch.bfloat16 and "norm" not in name}
    assert whole == {"conv_in", "conv_out", "time_embedding", *(["add_embedding"] if family == "sdxl" else [])}


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_fused_projections_paint_the_same_picture(checkpoints: Path, family: str) -> None:
    latents, picture, _ = pictures_of(checkpoints, ask(f"{family}-file"), Tuning())
    fused, seen, engine = pictures_of(checkpoints, ask(f"{family}-file"), Tuning(fuse_qkv=True))
    processors = {type(p).__name__ for p in engine.load(f"{family}-file", "fp32").unet.attn_processors.values()}
    assert processors == {"FusedAttnProcessor2_0"}
    assert np.abs(fused - latents).max() < 1e-4 * latents.std()  # one product instead of three, summed as it likes
    assert np.abs(seen - picture).max() <= 1
    engine.load(f"{family}-file", "fp32").unet.peft_config = {"lora1": object()}  # as when LoRAs are put in
    assert np.array_equal(finish(engine, ask(f"{family}-file")).latents, latents)


def test_compiled_blocks_paint_the_same_picture(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and run by torch without a compiler's code, which takes a minute to be made; that is test_gpu's."""
    latents, _, _ = pictures_of(checkpoints, ask("sd1-file"), Tuning())
    monkeypatch.setattr(tune, "_try_compiler", lambda device: None)
    make, made = torch.compile, []

    def traced(function: object, **options: object) -> object:
        made.append(function)
        return make(function, backend="eager")

    monkeypatch.setattr(torch, "compile", traced)
    compiled, _, engine = pictures_of(checkpoints, ask("sd1-file"), Tuning(compile=True))
    assert len(made) == 7 and engine.tuned == "compiled"  # blocks of two levels: 2 down, 1 between, 4 up
    assert np.abs(compiled - latents).max() < 1e-4 * latents.std()


# -- attention


def test_on_a_processor_attention_is_torchs_and_nothing_else_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "_installed", lambda package: (_ for _ in ()).throw(AssertionError(package)))
    assert tune.choose_attention("auto", CPU, torch.float32) == "sdpa"


@pytest.mark.parametrize("seconds, wins", [({"sdpa": 1.0, "xformers": 0.9}, "xformers"),
                                           ({"sdpa": 1.0, "xformers": 0.97}, "sdpa"), ({"sdpa": 1.0}, "sdpa")])
def test_xformers_is_taken_where_it_is_clearly_faster_and_measured_once(
        monkeypatch: pytest.MonkeyPatch, seconds: dict[str, float], wins: str) -> None:
    asked: list[str] = []

    def measured(name: str, dtype: torch.dtype) -> float:
        asked.append(name)
        return seconds[name]  # KeyError: it cannot be used here

    monkeypatch.setattr(tune, "_installed", lambda package: package == "xformers")
    monkeypatch.setattr(tune, "seconds_of", measured)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card of {seconds}")
    for _ in range(2):
        assert tune.choose_attention("auto", CUDA, torch.float16) == wins
    assert asked == ["sdpa", "xformers"]
    assert tune.choose_attention("sdpa", CUDA, torch.float16) == "sdpa"


# -- what is refused


@pytest.mark.parametrize("tuning, device, says", [
    ({"offload": "model"}, CPU, "runs on cpu: leave it out"), ({"offload": "sequential"}, CPU, "a GPU's memory"),
    ({"attention": "xformers"}, CPU, "take sdpa"), ({"storage": "int8"}, CPU, "pip install torchao"),
    ({"storage": "int8", "offload": "sequential"}, CUDA, "take --storage fp8"),
    ({"compile": True, "offload": "sequential"}, CUDA, "leave out --compile")])
def test_what_cannot_be_is_one_line_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tuning: dict[str, object],
                                                     device: torch.device, says: str) -> None:
    monkeypatch.setattr(tune, "_installed", lambda package: False)
    with pytest.raises(StartError, match=says) as told:
        tune.check(Tuning(**tuning), device)  # type: ignore[arg-type]
    assert_one_line(told.value)


def test_a_compiler_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(function: object) -> object:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found in\n g++")

    tune._try_compiler.cache_clear()
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(StartError, match="No working C.. compiler found in g.*install a C.. compiler") as told:
        tune.check(Tuning(compile=True), CPU)
    assert_one_line(told.value)


# -- the command line and the studio ask for them by the same names


def test_the_options_make_a_tuning(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_engine_options(parser)
    assert Tuning.of(parser.parse_args([])) == Tuning() and Tuning().words == ""
    words = ["--storage", "fp8", "--offload", "model", "--attention", "sdpa", "--vae-tiling", "on", "--compile",
             "--fuse-qkv"]
    wanted = Tuning("fp8", "model", "sdpa", "on", True, True)
    assert Tuning.of(parser.parse_args(words)) == Tuning.of(app.options(words)) == wanted
    assert wanted.words == "fp8 weights, model offload, VAE in tiles, compiled, fused projections"
    for command in (["generate", "a"], ["compose", "a.json"], ["compare", "a.json"], ["resume", "a"], ["bench"],
                    ["fork", "a", "--at", "1"], ["decode", "a", "--step", "1"]):
        out = [] if command[0] == "bench" else ["--out", "b"]
        assert Tuning.of(_parser().parse_args([*command, *out, *words])) == wanted
    assert main(["generate", "a", "--out", str(tmp_path / "a.png"), "--device", "cpu", "--offload", "model"]) == 2
    assert_one_line(StartError(capsys.readouterr().err.strip()))
    assert app.main(["--device", "cpu", "--offload", "model", "--outputs", str(tmp_path), "--port", "0"]) == 2
    assert "leave it out" in capsys.readouterr().err


def test_nothing_but_torch_is_needed_without_them() -> None:
    Engine(device="cpu")
    assert "xformers" not in sys.modules
