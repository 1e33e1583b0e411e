"""Fixtures shared by all tests: small real checkpoints, and engines on them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from safetensors.torch import load_file, save_file

from core.engine import Engine
from core.models.catalogue import Catalogue
from core.request import Request
from tests.checkpoints import make_stable_diffusion
from tests.originals import FAMILIES, make_pipeline, write_original

# the same examples every time, however slow the machine: what fails here fails for everybody
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("same")
torch.set_num_threads(1)  # the networks here are so small that a second thread only waits


def pytest_collection_finish() -> None:
    """What is there before the first test stays to the end: no collection need look at it again (0.3 s each time)."""
    gc.freeze()


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


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with each family by both doors: sd1-folder, sd1-file, ..."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for family, prediction in FAMILIES.items():
        pipe = make_pipeline(family, prediction)
        pipe.save_pretrained(folder / f"{family}-folder")
        write_original(pipe, folder / f"{family}-file.safetensors",
                       extra={"v_pred": torch.zeros(1)} if family == "sd2" else None)
    return folder


@pytest.fixture
def mine(checkpoints: Path, tmp_path: Path) -> Callable[..., Path]:
    """A file of its own to break: mine(family, change) rewrites its tensors. Its name is `mine`."""
    def make(family: str = "sd1", change: Callable[[dict[str, Any]], Any] = lambda weights: None,
             notes: dict[str, str] | None = None) -> Path:
        weights = load_file(checkpoints / f"{family}-file.safetensors")
        change(weights)
        save_file(weights, tmp_path / "mine.safetensors", notes)
        return tmp_path / "mine.safetensors"

    return make
