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


def linked(folder: Path, place: Path, whole: bool) -> Path:
    """`place` as a link to a diffusers folder, or as a folder whose files are links."""
    if whole:
        place.symlink_to(folder)
        return place
    for path in (path for path in folder.rglob("*") if path.is_file()):
        (place / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        (place / path.relative_to(folder)).symlink_to(path)
    return place


@pytest.mark.parametrize("way", ["whole", "files", "part", "weights"])
def test_a_diffusers_folder_that_leads_out_is_one_line(checkpoints: Path, tmp_path: Path, way: str) -> None:
    (tmp_path / "models").mkdir()
    mine, theirs = tmp_path / "models" / "mine", checkpoints / "sd1-folder"
    if way in ("whole", "files"):
        linked(theirs, mine, way == "whole")
    else:
        shutil.copytree(theirs, mine)
        part = mine / "unet" if way == "part" else next((mine / "unet").glob("*.safetensors"))
        shutil.rmtree(part) if part.is_dir() else part.unlink()
        part.symlink_to(theirs / part.relative_to(mine))
    catalogue = Catalogue(tmp_path / "models")
    assert "mine" in catalogue.names()
    with pytest.raises(ModelError, match="is a link that leads out of the models folder") as told:
        catalogue.get("mine")
    assert_one_line(told.value)
    assert "leads out" in catalogue.row("mine")["error"]
    assert Catalogue(tmp_path / "models", also=[checkpoints]).get("mine").family == "sd"  # where that is a folder too
    assert Catalogue(tmp_path / "models", str(mine)).get(str(mine)).family == "sd"  # whoever starts it may name it


@pytest.mark.parametrize("root", ["", "models--a--b", "models--a--b/snapshots"])
def test_the_snapshots_of_hugging_faces_cache_are_links_to_its_blobs(checkpoints: Path, tmp_path: Path,
                                                                     root: str) -> None:
    cache = tmp_path / "hub" / "models--a--b"
    snapshot, blobs = cache / "snapshots" / "0123abc", cache / "blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(p for p in (checkpoints / "sd1-folder").rglob("*") if p.is_file()):
        shutil.copy(path, blobs / str(number))
        place = snapshot / path.relative_to(checkpoints / "sd1-folder")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(os.path.relpath(blobs / str(number), place.parent))
    catalogue = Catalogue(tmp_path / "models", also=[tmp_path / "hub" / root])
    name = next(name for name in catalogue.names() if name.endswith("0123abc"))
    assert catalogue.get(name).family == "sd"
    elsewhere = tmp_path / "elsewhere.json"
    shutil.copy(snapshot / "unet" / "config.json", elsewhere)
    (snapshot / "unet" / "config.json").unlink()
    (snapshot / "unet" / "config.json").symlink_to(elsewhere)
    with pytest.raises(ModelError, match="leads out"):
        catalogue.get(name)


def test_what_lies_beside_a_file_does_not_lead_out_either(checkpoints: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    shutil.copy(checkpoints / "sd1-file.safetensors", tmp_path / "models" / "a.safetensors")
    (tmp_path / "models" / "a.vae.safetensors").symlink_to(checkpoints / "sd1-file.safetensors")
    with pytest.raises(ModelError, match="a.vae.safetensors is a link that leads out") as told:
        Catalogue(tmp_path / "models").get("a")
    assert_one_line(told.value)
