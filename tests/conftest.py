"""Fixtures shared by all tests: small real checkpoints, and engines on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from core.engine import Engine
from core.models.catalogue import Catalogue
from core.request import Request
from tests.checkpoints import make_stable_diffusion

torch.set_num_threads(1)  # the networks here are so small that a second thread only waits


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with one small random checkpoint per prediction type."""
    folder = tmp_path_factory.mktemp("models")
    make_stable_diffusion(folder / "eps", "epsilon", tiny=True)
    make_stable_diffusion(folder / "v", "v_prediction")
    make_stable_diffusion(folder / "sample", "sample")
    return folder


@pytest.fixture(scope="session")
def catalogue(models_dir: Path) -> Catalogue:
    return Catalogue(models_dir)


@pytest.fixture(scope="session")
def engine(catalogue: Catalogue) -> Engine:
    return Engine(catalogue, device="cpu")


@pytest.fixture(scope="session")
def request_eps() -> Request:
    """A small quick request on the epsilon checkpoint, in full precision."""
    return Request(prompt="a red boat", model="eps", width=128, height=128, steps=6, precision="fp32", seed=7)
