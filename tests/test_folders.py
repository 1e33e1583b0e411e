"""Where models are found: our own folder at any depth, and those of other studios by their layouts."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from core.errors import ModelError
from core.models.catalogue import Catalogue
from core.models.folders import Folders
from tests.lines import assert_one_line


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


# What each studio makes, as its own documentation draws it: checkpoints by the names they get here, VAEs, and what is
# neither.
STUDIOS = {
    "Automatic1111": (["models/Stable-diffusion/a.safetensors", "models/Stable-diffusion/XL/b.safetensors",
                       "models/VAE/v.safetensors", "models/Lora/l.safetensors", "models/ESRGAN/up.pth",
                       "models/Stable-diffusion/old.ckpt", "embeddings/word.pt"], ["XL/b", "a"], ["old.ckpt"]),
    "ComfyUI": (["models/checkpoints/a.safetensors", "models/checkpoints/XL/b.safetensors", "models/vae/v.safetensors",
                 "models/loras/l.safetensors", "models/upscale_models/up.pth", "models/checkpoints/old.ckpt",
                 "models/vae_approx/taesd_decoder.safetensors"], ["XL/b", "a"], ["old.ckpt"]),
    "InvokeAI": (["models/sd-1/main/a.safetensors", "models/sdxl/main/b/model_index.json",
                  "models/any/vae/v.safetensors",
                  "models/sd-1/lora/l.safetensors", "models/core/up.pth", "models/sd-2/main/old.ckpt"], ["a", "b"],
                 ["old.ckpt"]),
}


@pytest.mark.parametrize("below", ["", "models"])
@pytest.mark.parametrize("studio", STUDIOS)
def test_the_folder_of_another_studio_is_known_by_its_layout(studio: str, below: str, tmp_path: Path) -> None:
    files, models, refused = STUDIOS[studio]
    root = touch(tmp_path / "other", *files)
    found = Folders(tmp_path / "models", [root / below]).scan()
    assert list(found.models) == models and list(found.refused) == refused and list(found.vaes) == ["v"]
    assert not found.links


def test_a_plain_folder_is_searched_at_any_depth_but_not_where_other_things_lie(tmp_path: Path) -> None:
    root = touch(tmp_path / "models", "a.safetensors", "x/y/z/b.safetensors", "lora/no.safetensors",
                 "ESRGAN/no.pth", ".hidden/no.safetensors", "XL/vae/sharp.safetensors", "m/model_index.json",
                 "m/unet/no.safetensors", "m.safetensors", "a.vae.safetensors", "taesd_decoder.safetensors")
    found = Folders(root).scan()
    assert list(found.models) == ["a", "m", "m.safetensors", "x/y/z/b"]
    assert list(found.vaes) == ["sharp"] and not found.refused
    assert Folders(tmp_path / "nowhere", [tmp_path / "nor here"]).scan().models == {}


def test_two_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for place in ("models", "one/checkpoints", "two/checkpoints"):
        touch(tmp_path / place, "a.safetensors")
    found = Folders(tmp_path / "models", [tmp_path / "one", tmp_path / "two"]).scan()
    assert {name: path.parent.parent.name for name, path in found.models.items()} == \
        {"a": tmp_path.name, "a.safetensors": "one", "two/a": "two"}
    assert Folders(tmp_path / "models", [tmp_path / "one"]).home(tmp_path / "one/checkpoints/a.safetensors") == "one"


def test_new_files_appear_and_old_ones_go_without_being_asked(tmp_path: Path) -> None:
    root = touch(tmp_path / "models", "a.safetensors", "deep/er/b.safetensors")
    folders = Folders(root)
    assert list(folders.scan().models) == ["a", "deep/er/b"]
    touch(root, "deep/er/c.safetensors")
    (root / "a.safetensors").unlink()
    assert list(folders.scan().models) == ["deep/er/b", "deep/er/c"]


def test_folders_that_have_not_changed_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = touch(tmp_path / "models", "deep/b.safetensors")
    for folder in (root, root / "deep"):
        os.utime(folder, (time.time() - 60,) * 2)
    folders = Folders(root)
    first = folders.scan()
    listed: list[object] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (listed.append(path), real(path))[1])
    assert folders.scan() is first and not listed
    assert folders.scan(again=True).models == first.models and len(listed) >= 2


def test_a_linked_folder_is_shown_and_not_entered(tmp_path: Path) -> None:
    outside = touch(tmp_path / "outside", "secret.safetensors")
    root = touch(tmp_path / "models", "sorted/a.safetensors")
    (root / "away").symlink_to(outside)
    (root / "round").symlink_to(root)
    catalogue = Catalogue(root)
    assert catalogue.names() == ["storybook", "sorted/a", "away"]
    with pytest.raises(ModelError, match="leads out of the models folder.*--also-models") as told:
        catalogue.get("away")
    assert_one_line(told.value, longest=600)
    assert "secret" in Catalogue(root, also=[outside]).names()


def test_models_of_another_studio_are_described_and_may_be_linked_between_the_folders(
        checkpoints: Path, tmp_path: Path) -> None:
    other = tmp_path / "webui/models/Stable-diffusion"
    other.mkdir(parents=True)
    shutil.copy(checkpoints / "sd1-file.safetensors", other / "theirs.safetensors")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "alias.safetensors").symlink_to(other / "theirs.safetensors")
    catalogue = Catalogue(tmp_path / "models", also=[tmp_path / "webui"])
    assert catalogue.names() == ["storybook", "alias", "theirs"]
    assert catalogue.get("theirs").kind == catalogue.get("alias").kind == "Stable Diffusion 1"
    with pytest.raises(ModelError, match="is a link that leads out"):
        Catalogue(tmp_path / "models").get("alias")
