"""Other weights, another fingerprint; the same weights elsewhere, the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from core.models.catalogue import Catalogue, describe
from core.models.fingerprint import fingerprint
from tests.checkpoints import make_stable_diffusion


def test_a_copy_has_the_same_fingerprint_and_every_other_model_another(models_dir: Path, tmp_path: Path) -> None:
    catalogue = Catalogue(models_dir)
    known = {name: fingerprint(catalogue.get(name)) for name in ("eps", "v", "sample")}
    assert len(set(known.values())) == 3  # the same network with the same weights, but another prediction
    shutil.copytree(models_dir / "eps", tmp_path / "copy")
    assert fingerprint(describe("copy", tmp_path / "copy")) == known["eps"]
    make_stable_diffusion(tmp_path / "other", "epsilon", seed=1)
    assert fingerprint(describe("other", tmp_path / "other")) != known["eps"]


def test_weights_that_change_in_place_change_it(models_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(models_dir / "eps", tmp_path / "m")
    before = fingerprint(describe("m", folder))
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    os.utime(weights, (1e9, 1e9))
    assert fingerprint(describe("m", folder)) != before
