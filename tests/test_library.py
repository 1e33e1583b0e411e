"""The list of models: facts, hashes, licences and pictures, and what of it is kept for the next start."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from core.__main__ import main
from core.models import about, header
from core.models.catalogue import Catalogue
from core.models.kept import NAME, Kept
from core.models.library import Library

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Library]:
    outputs = tmp_path_factory.mktemp("outputs")
    return lambda folder: Library(Catalogue(folder), Kept(outputs))


def read(library: Library) -> dict[str, dict[str, Any]]:
    library.look()
    library.wait()
    return {row["name"]: row for row in library.state()["rows"]}


def test_a_row_says_what_a_model_is(mine: Callable[..., Path], make: Callable[[Path], Library]) -> None:
    def halve(weights: dict[str, Any]) -> None:
        weights.update({name: value.to(torch.bfloat16) for name, value in weights.items() if value.is_floating_point()})

    path = mine("sd2", halve, {"modelspec.license": f"Open RAIL {EVIL}", "modelspec.title": "Lightning 4step"})
    (path.parent / "old.ckpt").write_bytes(b"PK\x03\x04")
    rows = read(make(path.parent))
    row = rows["mine"]
    assert (row["kind"], row["prediction"], row["precision"]) == ("Stable Diffusion 2", "v_prediction", "bf16")
    assert row["bytes"] == pytest.approx(path.stat().st_size, abs=2**17)  # megabytes are rounded to a tenth
    assert row["recommended"]["words"] == "Lightning" and row["licence"] == f"Open RAIL {EVIL}" and row["hash"] == ""
    assert "python -m core convert" in rows["old.ckpt"]["error"]
    assert rows["storybook"]["prediction"] == "v_prediction" and rows["storybook"]["precision"] == "fp16"


def test_a_hash_is_the_files_sha256_taken_once_and_anew_when_the_file_changes(
        mine: Callable[..., Path], make: Callable[[Path], Library]) -> None:
    path = mine()
    library = make(path.parent)
    assert read(library)["mine"]["hashable"]
    for name in ("mine", "storybook", "nobody"):
        library.hash(name)
    library.wait()
    rows = {row["name"]: row for row in library.state()["rows"]}
    assert rows["mine"]["hash"] == hashlib.sha256(path.read_bytes()).hexdigest()[:10]
    assert not rows["storybook"].get("hash") and "hashing" not in rows["mine"]
    again = make(path.parent)
    assert read(again)["mine"]["hash"] == rows["mine"]["hash"]
    mine("sd1", lambda weights: weights.update(more=torch.zeros(3)))
    assert read(again)["mine"]["hash"] == ""


def test_what_was_read_is_not_read_again_after_a_restart(
        mine: Callable[..., Path], make: Callable[[Path], Library], monkeypatch: pytest.MonkeyPatch) -> None:
    path = mine()
    first = read(make(path.parent))["mine"]
    asked: list[Path] = []
    monkeypatch.setattr(header, "read", asked.append)
    assert {**read(make(path.parent))["mine"], "serial": 0} == {**first, "serial": 0} and not asked


def test_only_what_changed_is_told(mine: Callable[..., Path], make: Callable[[Path], Library]) -> None:
    path = mine()
    library = make(path.parent)
    read(library)
    state = library.state()
    library.look()
    quiet = library.state(state["epoch"], state["serial"])
    assert quiet["rows"] == [] and quiet["names"] is None and quiet["waiting"] == 0
    shutil.copy(path, path.with_name("other.safetensors"))
    library.look()
    library.wait()
    news = library.state(state["epoch"], state["serial"])
    assert news["names"] == ["storybook", "mine", "other"]
    assert next(row for row in news["rows"] if row["name"] == "other")["kind"] == "Stable Diffusion 1"


@pytest.mark.parametrize("held", ["", "[]", '{"chosen": 5, "hashes": [1], "read": {"a": 3}}', "{" * 5000])
def test_a_broken_memory_is_begun_anew(held: str, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(held)
    kept = Kept(tmp_path)
    kept.choose("a+b")
    assert Kept(tmp_path).chosen == "a+b" and json.loads((tmp_path / NAME).read_text())["hashes"] == {}


def test_licences_come_from_notes_files_and_front_matter_in_that_order(mine: Callable[..., Path],
                                                                       models_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(models_dir / "eps", tmp_path / "models" / "mine")
    catalogue = Catalogue(tmp_path / "models")

    def told() -> tuple[str, str]:
        return about.licence(catalogue.get("mine"), catalogue.folders.roots)

    assert told() == ("", "")
    (folder / "README.md").write_text("---\ntags: [a]\nlicense: other\nlicense_name: 'my-own'\n---\nlicense: no")
    assert told() == ("my-own", "my-own")
    (folder / "LICENSE").write_text(f"# The licence\n\nof {EVIL}\x1b[31m\x00")
    assert told() == ("my-own", f"# The licence\n\nof {EVIL}[31m")
    path = mine()
    assert about.licence(Catalogue(path.parent).get("mine"), [path.parent]) == ("", "")
    path.with_name("mine.license.txt").write_text("Mine alone")
    assert about.licence(Catalogue(path.parent).get("mine"), [path.parent])[0] == "Mine alone"


def test_nothing_outside_of_the_folders_is_opened(mine: Callable[..., Path], tmp_path: Path,
                                                  make: Callable[[Path], Library]) -> None:
    root = tmp_path / "models"
    root.mkdir()
    path = Path(shutil.move(mine(), root / "mine.safetensors"))
    Image.new("RGB", (600, 400), "red").save(tmp_path / "secret.png")
    (tmp_path / "secret.txt").write_text("secret")
    (root / "mine.png").symlink_to(tmp_path / "secret.png")
    (root / "mine.license.txt").symlink_to(tmp_path / "secret.txt")
    library, out = make(root), tmp_path / "frames"
    assert read(library)["mine"]["licence"] == "" and library.licence("mine") == ""
    assert library.thumbnail("mine", out) is None
    (root / "mine.png").unlink()
    shutil.copy(tmp_path / "secret.png", root / "mine.preview.png")
    made = library.thumbnail("mine", out)
    assert made and made.parent == out
    with Image.open(made) as image:
        assert image.size == (256, 171)
    for name in ("../secret", str(path), "secret.png", "", "storybook"):
        assert library.thumbnail(name, out) is None


@pytest.mark.parametrize("data", [b"", b"no picture", b"<svg/>", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_passed_over(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(data)
    assert not about.shrink(tmp_path / "a.png", tmp_path / "out.jpg") and not (tmp_path / "out.jpg").exists()


def test_the_command_line_prints_the_same_facts(mine: Callable[..., Path], capsys: pytest.CaptureFixture[str],
                                                tmp_path: Path) -> None:
    path = mine("sdxl", notes={"modelspec.license": "RAIL"})
    where = ["--models-dir", str(path.parent), "--outputs", str(tmp_path / "out"), "--hash"]
    assert main(["models", "--json", *where]) == 0
    row = next(row for row in json.loads(capsys.readouterr().out) if row["name"] == "mine")
    assert row["precision"] == "fp32" and row["licence"] == "RAIL"
    assert row["hash"] == hashlib.sha256(path.read_bytes()).hexdigest()[:10]
    assert main(["models", *where]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("mine "))
    assert all(part in line for part in ("Stable Diffusion XL", "1024x1024", "fp32", f"hash {row['hash']}", "RAIL"))
