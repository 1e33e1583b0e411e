"""What is read of a safetensors file before anything of it is mapped: whatever is wrong with it is one line."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from core.errors import ModelError
from core.models import header
from core.models.catalogue import Catalogue
from tests.lines import assert_one_line
from tests.originals import with_header

ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def two(**second: Any) -> dict[str, Any]:
    return {"a": ONE, "b": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16], **second}}


def pickled(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:  # as torch.save writes
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": {}}))
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


BROKEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty": (lambda p: written(p, b""), "is empty"),
    "five bytes": (lambda p: written(p, b"hello"), "cut off or no safetensors"),
    "pickled by torch": (pickled, "is a pickled checkpoint.*core convert"),
    "pickled of old": (lambda p: written(p, pickle.dumps({"a": [1.0] * 9})), "is a pickled checkpoint"),
    "a web page": (lambda p: written(p, b"<!DOCTYPE html><html>Log in</html>"), "is a web page"),
    "a pointer of Git LFS": (lambda p: written(p, b"version https://git-lfs.github.com/spec/v1\noid"), "git lfs pull"),
    "a header longer than the file": (lambda p: written(p, (10**6).to_bytes(8, "little") + b"{}"), "cut off"),
    "a header of no end": (lambda p: written(p, b"\xff" * 8 + b"{}"), "cut off"),
    "no JSON": (lambda p: with_header(p, b"{ this is not"), "no JSON"),
    "nested without end": (lambda p: with_header(p, b"[" * 100_000), "no JSON"),
    "no UTF-8": (lambda p: with_header(p, b'{"\xff\xfe": 1}'), "no JSON"),
    "a list": (lambda p: with_header(p, [1, 2]), "lists no tensors"),
    "a name twice": (lambda p: with_header(p, b'{"a": 1, "a": 2}'), "no JSON"),
    "notes that are numbers": (lambda p: with_header(p, {"__metadata__": {"a": 1}}), "no text"),
    "a tensor that is a word": (lambda p: with_header(p, {"a": "F32"}), "means nothing"),
    "offsets in words": (lambda p: with_header(p, two(data_offsets=["8", "16"]), bytes(16)), "means nothing"),
    "offsets below zero": (lambda p: with_header(p, two(data_offsets=[-8, 16]), bytes(16)), "means nothing"),
    "offsets backwards": (lambda p: with_header(p, two(data_offsets=[16, 8]), bytes(16)), "means nothing"),
    "a shape of fractions": (lambda p: with_header(p, two(shape=[2.0]), bytes(16)), "means nothing"),
    "a shape of truth": (lambda p: with_header(p, two(shape=[True, 2]), bytes(16)), "means nothing"),
    "a shape of a thousand sides": (lambda p: with_header(p, two(shape=[1] * 1000), bytes(16)), "means nothing"),
    "a size that overflows": (lambda p: with_header(p, two(shape=[2**62, 8]), bytes(16)), "another size"),
    "another size than its shape": (lambda p: with_header(p, two(shape=[3]), bytes(16)), "another size"),
    "an unknown kind of number": (lambda p: with_header(p, two(dtype="Q4_K"), bytes(16)), "'Q4_K', which is not"),
    "overlapping offsets": (lambda p: with_header(p, two(data_offsets=[4, 12]), bytes(16)), "overlap"),
    "the same place twice": (lambda p: with_header(p, two(data_offsets=[0, 8]), bytes(16)), "overlap"),
    "a hole": (lambda p: with_header(p, two(data_offsets=[12, 20]), bytes(20)), "hole"),
    "beyond the end": (lambda p: with_header(p, two(), bytes(12)), "cut off"),
    "more behind the end": (lambda p: with_header(p, two(), bytes(17)), "goes on"),
    "no tensors": (lambda p: with_header(p, {}), "no tensors"),
    "a name with line breaks": (lambda p: with_header(p, {"a\nb\x1b[2J": {**ONE, "shape": [3]}}, bytes(8)), "size"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_one_line_and_listed_with_it(what: str, tmp_path: Path) -> None:
    make, says = BROKEN[what]
    path = make(tmp_path / "mine.safetensors")
    with pytest.raises(ModelError, match=says) as told:
        Catalogue(tmp_path).get("mine")
    assert_one_line(told.value)
    assert "mine.safetensors" in str(told.value)
    row = next(row for row in Catalogue(tmp_path).rows() if row["name"] == "mine")
    assert row["error"] == str(told.value)
    assert path.exists()


def test_a_header_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "LONGEST", 1000)
    path = with_header(tmp_path / "mine.safetensors", b" " * 1001)
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ModelError, match="more than any model needs") as told:
        header.read(path)
    assert_one_line(told.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_good_file_is_read_as_safetensors_wrote_it(dtype: torch.dtype, tmp_path: Path) -> None:
    values = torch.tensor([[0.5, -2.0, 3.0]], dtype=dtype)
    save_file({"a": values, "empty": torch.zeros(0, 3), "b": torch.arange(4)}, tmp_path / "x.safetensors", {"k": "v"})
    found = header.read(tmp_path / "x.safetensors")
    assert found.shape("a") == (1, 3) and found.shape("nowhere") == () and found.metadata == {"k": "v"}
    assert np.array_equal(found.numbers("a"), values.float().numpy())


def test_a_file_that_changes_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    assert "a" in header.read(path).tensors
    save_file({"b": torch.zeros(2), "c": torch.zeros(1)}, path)
    assert "b" in header.read(path).tensors
