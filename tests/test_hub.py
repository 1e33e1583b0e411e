"""Downloads into the models folder, with a hub that lies on this disk: never the real network."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from core.errors import ModelError
from core.models.catalogue import Catalogue
from core.models.hub import OFFERED, Downloads, Stopped, download
from tests.lines import assert_one_line


@pytest.fixture
def hub(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of this hub's only repository, eps, as far as files were asked for."""
    asked: list[str] = []
    files = {path.relative_to(models_dir / "eps").as_posix(): path.stat().st_size
             for path in (models_dir / "eps").rglob("*") if path.is_file()}
    files |= {"evil.py": 1, "unet/../../x.json": 1, "safety_checker/model.safetensors": 9, "unet/model.bin": 9}

    def fetch(name: str, file: str, local_dir: Path, tqdm_class: Any, **_: Any) -> None:
        asked.append(file)
        with tqdm_class(total=files[file], initial=0) as bar:
            (local_dir / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(models_dir / "eps" / file, local_dir / file)
            bar.update(files[file])

    siblings = [SimpleNamespace(rfilename=name, size=size) for name, size in files.items()]
    about = SimpleNamespace(siblings=siblings, sha="1")
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, **__: about)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    return asked


def test_a_download_becomes_a_model_and_says_how_far_it_is(hub: list[str], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    download("some/eps", tmp_path, lambda *now: told.append(now), threading.Event())
    assert Catalogue(tmp_path).names() == ["storybook", "eps"] and Catalogue(tmp_path).get("eps").family == "sd"
    assert told == sorted(told) and told[-1][0] == told[-1][1] > 10**6
    assert not any("evil" in name or ".." in name or "safety" in name or name.endswith(".bin") for name in hub)
    assert not hub[0].endswith(".safetensors")
    with pytest.raises(ModelError, match="is there already"):
        download("some/eps", tmp_path, lambda *now: None, threading.Event())


def test_a_download_can_be_stopped_and_leaves_nothing_in_the_list(hub: list[str], tmp_path: Path) -> None:
    cancel = threading.Event()
    with pytest.raises(Stopped):
        download("some/eps", tmp_path, lambda *now: cancel.set(), cancel)
    assert Catalogue(tmp_path).names() == ["storybook"]


def test_without_a_network_it_says_how_to_place_files_by_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no route\nto host")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", fail)
    with pytest.raises(ModelError, match="place it by hand: its folder") as told:
        download("some/eps", tmp_path, lambda *now: None, threading.Event())
    assert_one_line(told.value, longest=600)


def test_only_ids_that_were_offered_are_asked_for(hub: list[str], tmp_path: Path) -> None:
    downloads = Downloads(tmp_path, ["some/eps"])
    assert downloads.offered() == ["some/eps", *OFFERED]
    for name in ("other/eps", "../eps", "https://example.org/a", ""):
        with pytest.raises(ModelError, match="not among the models"):
            downloads.start(name)
    assert not hub
