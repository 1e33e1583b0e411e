"""LoRAs together with what saves memory and time: offload, weights in 8 bits, compiled blocks, fused projections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.checks import check_in, least
from core.engine import Engine
from core.errors import BadRequest
from core.models import needs, tune
from core.models.catalogue import Catalogue
from core.tuning import Tuning
from tests.lines import assert_one_line
from tests.loras import kohya
from tests.originals import PROMPT, ask, finish, make_pipeline

FAMILIES = ("sd1", "sdxl")


@pytest.fixture(scope="module")
def shelf(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("tuned")
    for family in FAMILIES:
        (folder / f"{family}.safetensors").write_bytes((checkpoints / f"{family}-file.safetensors").read_bytes())
        kohya(make_pipeline(family), folder / "lora" / f"{family}-style.safetensors", convolutions=family == "sd1",
              sgm=family == "sdxl")
    yield folder


def painted(engine: Engine, family: str, scale: float | None = 0.8, **changes: object) -> np.ndarray:
    tag = "" if scale is None else f" <lora:{family}-style:{scale}>"
    return finish(engine, ask(family, prompt=PROMPT + tag, **changes)).latents


@pytest.mark.parametrize("offload", ["model", "sequential"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_offloaded_network_with_a_lora_paints_the_same_to_the_bit(shelf: Path, family: str, offload: str,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Engine(Catalogue(shelf), "cpu")
    wanted, without = painted(plain, family), painted(plain, family, None)
    monkeypatch.setattr("core.engine.verify", lambda *_, **__: offload)
    engine = Engine(Catalogue(shelf), "cpu")
    assert np.array_equal(painted(engine, family), wanted) and not np.array_equal(wanted, without)
    assert np.array_equal(painted(engine, family, None), without)
    assert np.array_equal(painted(engine, family), wanted)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_that_is_offloaded_in_mid_run_keeps_its_lora(shelf: Path, family: str) -> None:
    engine = Engine(Catalogue(shelf), "cpu")
    wanted = painted(engine, family)
    model = engine.load(family, "fp32")
    model.thrift.further = ["model", "sequential"]
    for _ in range(2):
        assert model.thrift.retreat()
        assert np.array_equal(painted(engine, family), wanted)


@pytest.mark.parametrize("storage", ["fp8", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_in_8_bits_take_a_lora_beside_them(shelf: Path, family: str, storage: str) -> None:
    plain, small = Engine(Catalogue(shelf), "cpu"), Engine(Catalogue(shelf), "cpu", Tuning(storage=storage))
    without, wanted = painted(plain, family, None), painted(plain, family)
    rough, found = painted(small, family, None), painted(small, family)
    # Networks of random weights make much of 8 bits; what the LoRA does is larger, and stays the same.
    assert np.abs(found - wanted).std() < 0.5 * np.abs(wanted - without).std()
    assert np.array_equal(painted(small, family, None), rough)
    kinds = {value.dtype for name, value in small.load(family, "fp32").unet.named_parameters() if ".lora_" in name}
    assert kinds == {torch.float32}  # its own matrices stay whole


@pytest.mark.parametrize("family", FAMILIES)
def test_compiled_and_fused_networks_take_a_lora(shelf: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and run by torch without a compiler's code, as in test_tune.py."""
    plain = Engine(Catalogue(shelf), "cpu")
    wanted, without, other = painted(plain, family), painted(plain, family, None), painted(plain, family, -0.5)
    monkeypatch.setattr(tune, "_try_compiler", lambda device: None)
    make = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **options: make(function, backend="eager"))
    engine = Engine(Catalogue(shelf), "cpu", Tuning(compile=True, fuse_qkv=True))
    for scale, expected in ((None, without), (0.8, wanted), (-0.5, other), (None, without), (0.8, wanted)):
        found = painted(engine, family, scale)
        assert np.abs(found - expected).max() < 1e-4 * expected.std(), scale


def test_the_memory_of_loras_is_counted_before_the_run(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = Catalogue(shelf)
    file = shelf / "lora" / "sd1-style.safetensors"
    held = needs.loras([file], "fp32")
    engine = Engine(catalogue, "cpu")
    painted(engine, "sd1")
    model = engine.load("sd1", "fp32")
    alive = sum(value.numel() * 4 for part in (model.unet, *model.encode_prompt.encoders)
                for name, value in part.named_parameters() if ".lora_" in name)
    assert alive <= held <= 1.01 * alive + 4096  # and one number for each layer's alpha
    request = ask("sd1", prompt="a <lora:sd1-style:1>")
    run = least(request, catalogue.get("sd1"))
    monkeypatch.setattr("core.checks.psutil.virtual_memory", lambda: SimpleNamespace(available=run + held // 4))
    check_in(ask("sd1", prompt="a"), catalogue)
    with pytest.raises(BadRequest, match="The LoRAs take about") as told:
        check_in(request, catalogue)
    assert told.value.field == "prompt"
    assert_one_line(told.value)
