"""Models that are missing, broken or unknown: one line each, before and while they are loaded."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from core.engine import Engine
from core.errors import ModelError
from core.models import catalogue as catalogue_module
from core.models.catalogue import STORYBOOK, Catalogue, describe
from tests.lines import assert_one_line


@pytest.fixture
def folder(models_dir: Path, tmp_path: Path) -> Path:
    """A copy of the epsilon checkpoint, to be broken; its name is 'mine'."""
    shutil.copytree(models_dir / "eps", tmp_path / "models" / "mine")
    return tmp_path / "models" / "mine"


def write(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_is_described_without_loading_it(models_dir: Path) -> None:
    info = Catalogue(models_dir).get("eps")
    assert (info.name, info.family, info.width, info.height, info.multiple) == ("eps", "sd", 128, 128, 8)
    assert info.tokens == 77 and info.tiny and 0.1 < info.megabytes < 20 and not info.is_storybook
    assert not Catalogue(models_dir).get("v").tiny


def test_storybook_comes_first_then_the_one_given_then_those_of_the_folder(models_dir: Path) -> None:
    assert Catalogue(models_dir).names() == ["storybook", "eps", "sample", "v"]
    assert Catalogue(models_dir, extra="a/b").names() == ["storybook", "a/b", "eps", "sample", "v"]
    assert Catalogue(models_dir, extra="eps").names() == Catalogue(models_dir, extra="storybook").names()
    assert Catalogue(models_dir / "nowhere").names() == ["storybook"]


def test_storybook_is_here_or_its_absence_is_one_line() -> None:
    try:
        info = Catalogue().get("storybook")
    except ModelError as error:
        assert not (STORYBOOK / "model_index.json").exists()
        assert_one_line(error)
    else:
        assert info.is_storybook and info.family == "sd" and info.multiple == 8


def test_a_clone_without_storybooks_weights_says_so_in_one_line(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalogue_module, "STORYBOOK", tmp_path / "weights")
    with pytest.raises(ModelError) as told:
        Catalogue(tmp_path).get("storybook")
    assert_one_line(told.value)
    (row,) = Catalogue(tmp_path).rows()
    assert row["name"] == "storybook" and row["error"] == str(told.value)


@pytest.mark.parametrize("name, says", [
    ("epps", "Did you mean 'eps'"), ("Storybok", "Did you mean 'storybook'"), ("zzz", "Known: storybook, eps"),
    ("../eps", "Did you mean|Known"), ("", "No model"), ("x" * 500, "No model"), ("a\nb", "No model")])
def test_an_unknown_name_gives_the_nearest_one(models_dir: Path, name: str, says: str) -> None:
    with pytest.raises(ModelError, match=says) as told:
        Catalogue(models_dir).get(name)
    assert told.value.field == "model"
    assert_one_line(told.value)


@pytest.mark.parametrize("path", ["nowhere", "/nowhere/at/all", "./nowhere", "x" * 300, "a/" + "b" * 300, "new\nline",
                                  "~/nowhere", "a/b/c"])
def test_a_path_that_is_not_there_is_one_line(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch)
    with pytest.raises(ModelError) as told:
        Catalogue(extra=path).get(path)
    assert_one_line(told.value, longest=600)


BREAKS: dict[str, Callable[[Path], object]] = {
    "no model_index.json": lambda f: (f / "model_index.json").unlink(),
    "empty model_index.json": lambda f: (f / "model_index.json").write_text(""),
    "model_index.json is a list": lambda f: (f / "model_index.json").write_text("[1]"),
    "model_index.json nests without end": lambda f: (f / "model_index.json").write_text("[" * 100_000),
    "model_index.json is no text": lambda f: (f / "model_index.json").write_bytes(b"\xff\xfe\x00\x80"),
    "model_index.json is a folder": lambda f: ((f / "model_index.json").unlink(), (f / "model_index.json").mkdir()),
    "another pipeline": lambda f: write(f / "model_index.json", _class_name="FluxPipeline"),
    "a pipeline without a name": lambda f: write(f / "model_index.json", _class_name=None),
    "a pipeline named by a list": lambda f: write(f / "model_index.json", _class_name=["StableDiffusionPipeline"]),
    "no unet": lambda f: shutil.rmtree(f / "unet"),
    "no vae": lambda f: shutil.rmtree(f / "vae"),
    "no text encoder": lambda f: shutil.rmtree(f / "text_encoder"),
    "half a unet config": lambda f: (f / "unet/config.json").write_text('{"sample_size": 16, '),
    "unet without a size": lambda f: (f / "unet/config.json").write_text("{}"),
    "vae without blocks": lambda f: write(f / "vae/config.json", block_out_channels=5),
    "vae with no blocks": lambda f: write(f / "vae/config.json", block_out_channels=[]),
    "tokens in words": lambda f: write(f / "text_encoder/config.json", max_position_embeddings="many"),
    "a size of nothing": lambda f: write(f / "unet/config.json", sample_size=None),
    "no weights": lambda f: (f / "unet/diffusion_pytorch_model.safetensors").unlink(),
    "pickled weights": lambda f: (f / "vae/diffusion_pytorch_model.safetensors").rename(
        f / "vae/diffusion_pytorch_model.bin"),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_broken_folder_is_one_line_and_does_not_hide_the_others(folder: Path, what: str) -> None:
    shutil.copytree(folder, folder.parent / "good")
    BREAKS[what](folder)
    with pytest.raises(ModelError) as told:
        describe("mine", folder)
    assert_one_line(told.value)
    rows = {row["name"]: row for row in Catalogue(folder.parent).rows()}
    assert "error" not in rows["good"]
    assert "mine" not in rows or rows["mine"]["error"] == str(told.value)  # without model_index.json it is not listed


LOAD_BREAKS: dict[str, Callable[[Path], object]] = {
    "half the unet's weights": lambda f: halve(f / "unet/diffusion_pytorch_model.safetensors"),
    "half the vae's weights": lambda f: halve(f / "vae/diffusion_pytorch_model.safetensors"),
    "half the text encoder's weights": lambda f: halve(f / "text_encoder/model.safetensors"),
    "weights that are no weights": lambda f: (f / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"hello"),
    "empty weights": lambda f: (f / "unet/diffusion_pytorch_model.safetensors").write_bytes(b""),
    "weights of another shape": lambda f: write(f / "unet/config.json", block_out_channels=[32, 128]),
    "weights of another network": lambda f: shutil.copy(f / "vae/diffusion_pytorch_model.safetensors",
                                                        f / "unet/diffusion_pytorch_model.safetensors"),
    "no tokenizer": lambda f: shutil.rmtree(f / "tokenizer"),
    "a broken tokenizer": lambda f: [p.write_text("{") for p in (f / "tokenizer").glob("*.json")],
    "no scheduler": lambda f: shutil.rmtree(f / "scheduler"),
    "a broken scheduler": lambda f: (f / "scheduler/scheduler_config.json").write_text("{"),
    "an unknown prediction": lambda f: write(f / "scheduler/scheduler_config.json", prediction_type="flow"),
    "an unknown beta schedule": lambda f: write(f / "scheduler/scheduler_config.json", beta_schedule="wavy"),
    "betas in words": lambda f: write(f / "scheduler/scheduler_config.json", beta_start="small"),
    "an unknown block": lambda f: write(f / "unet/config.json", down_block_types=["NoBlock", "DownBlock2D"]),
}


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("what", LOAD_BREAKS)
def test_what_only_loading_shows_is_one_line_too(
        folder: Path, what: str, caplog: pytest.LogCaptureFixture) -> None:
    LOAD_BREAKS[what](folder)
    engine = Engine(Catalogue(folder.parent), "cpu")
    with pytest.raises(ModelError) as told:
        engine.load("mine", "fp32")
    assert_one_line(told.value)
    assert "mine" in str(told.value)
    # nor is there a traceback on the terminal, where Python shows warnings and worse when nobody set up logging
    assert not [record for record in caplog.records if record.exc_info and record.levelno >= logging.WARNING]


# -- hub ids: never the real network


def offline(monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = []

    def snapshot(name: str, **options: Any) -> str:
        asked.append({"name": name, **options})
        raise LocalEntryNotFoundError("not here") if options.get("local_files_only") or error is None else error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return asked


@pytest.mark.parametrize("error", [
    httpx.ConnectError("[Errno -3] Temporary failure in name resolution\nMore of it"), OSError("no route"),
    HfHubHTTPError("404 Client Error\n\nRepository Not Found", response=httpx.Response(404, request=httpx.Request(
        "GET", "https://huggingface.co"))), LocalEntryNotFoundError("and no network")])
def test_a_hub_id_without_network_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    asked = offline(monkeypatch, error)
    with pytest.raises(ModelError, match="some/model could not be fetched from the hub.*by hand") as told:
        Catalogue(extra="some/model").get("some/model")
    assert_one_line(told.value)
    assert [a.get("local_files_only", False) for a in asked] == [True, False]  # the cache first


def test_a_hub_id_in_the_cache_needs_no_network(monkeypatch: pytest.MonkeyPatch, models_dir: Path) -> None:
    def cached(name: str, **options: Any) -> str:
        assert options["local_files_only"]
        return str(models_dir / "eps")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    assert Catalogue(extra="some/model").get("some/model").path == str(models_dir / "eps")


def test_pickled_weights_are_never_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = offline(monkeypatch)
    with pytest.raises(ModelError):
        Catalogue(extra="some/model").get("some/model")
    assert not any(".bin" in pattern or ".ckpt" in pattern or pattern.endswith("*")
                   for options in asked for pattern in options["allow_patterns"])


def test_a_name_that_was_not_given_at_the_start_is_never_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = offline(monkeypatch)
    for name in ("some/model", "/etc", "../.."):  # a request from the page cannot reach the network or the disk
        with pytest.raises(ModelError):
            Catalogue().get(name)
    assert asked == []
