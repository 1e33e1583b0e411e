"""A pickled checkpoint becomes a safetensors file without running anything that it holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core.__main__ import main
from core.errors import ModelError
from core.models.catalogue import Catalogue
from core.models.convert import read_pickled
from tests.lines import assert_one_line


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> object:
        return os.system, (f"touch {self.path}",)


def test_the_weights_come_over_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weight = torch.randn(3, 2)
    torch.save({"state_dict": {"a": weight, "shared": weight, "b": weight.T.half(), "step": 7}, "epoch": 3},
               tmp_path / "old.ckpt")
    assert main(["convert", str(tmp_path / "old.ckpt")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "old.safetensors")
    found = load_file(tmp_path / "old.safetensors")
    assert set(found) == {"a", "shared", "b"} and torch.equal(found["a"], weight)
    assert found["b"].dtype == torch.float16 and torch.equal(found["b"], weight.T.half())
    assert main(["convert", str(tmp_path / "old.ckpt")]) == 2 and "is there already" in capsys.readouterr().err


def test_what_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(2)}, "x": Hostile(tmp_path / "run")}, tmp_path / "evil.ckpt")
    with pytest.raises(ModelError, match="which opening it would run .*system") as told:
        read_pickled(tmp_path / "evil.ckpt")
    assert_one_line(told.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04"])
def test_what_is_no_checkpoint_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    for path in (tmp_path / "x.pt", tmp_path / "nowhere.pt"):
        with pytest.raises(ModelError) as told:
            read_pickled(path)
        assert_one_line(told.value)


@pytest.mark.parametrize("name", ["old.ckpt", "old.pt", "old.pth", "old.bin", "OLD.CKPT", "sorted/old.ckpt"])
def test_a_pickled_checkpoint_is_listed_as_refused_with_the_command_that_converts_it(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    torch.save({"a": torch.zeros(2)}, tmp_path / name)
    catalogue = Catalogue(tmp_path)
    assert catalogue.names()[-1] == name
    row = catalogue.rows()[-1]
    assert "could run any code" in row["error"] and "python -m core convert" in row["error"]
    with pytest.raises(ModelError) as told:
        catalogue.get(name)
    assert_one_line(told.value)
    with pytest.raises(ModelError, match="core convert"):  # named on the command line, too
        Catalogue(extra=str(tmp_path / name)).get(str(tmp_path / name))
