"""What a model and a run will need, known before anything is loaded, against what they turn out to hold."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from core.__main__ import main
from core.engine import Engine
from core.models import needs
from core.models.catalogue import Catalogue, ModelInfo
from core.tuning import Tuning
from tests.fakes import FakeRunner
from tests.originals import FAMILIES
from tests.test_checkpoints import OFFICIAL
from ui.components.bar import bar_state


@pytest.mark.parametrize("storage", ["full", "fp8"])
@pytest.mark.parametrize("door", ["folder", "file"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_weights_are_as_many_bytes_as_loading_takes(checkpoints: Path, family: str, door: str,
                                                        storage: str) -> None:
    catalogue = Catalogue(checkpoints)
    model = Engine(catalogue, "cpu", Tuning(storage=storage)).load(f"{family}-{door}", "bf16")
    found = needs.weights(catalogue.get(f"{family}-{door}"), "bf16", storage)
    texts = sum(p.numel() * p.element_size() for network in model.thrift.others[:-1] for p in network.parameters())
    held = sum(p.numel() * p.element_size() for p in model.unet.parameters())
    assert found.unet == held
    assert found.vae == sum(p.numel() * p.element_size() for p in model.vae.parameters())
    assert texts <= found.texts <= 1.35 * texts  # a file of SD 2 holds a layer that nobody asks
    assert found.largest == max(found.unet, found.vae, found.texts)


def test_int8_halves_matrices_only(checkpoints: Path) -> None:
    info = Catalogue(checkpoints).get("sdxl-file")
    full, fine = needs.weights(info, "bf16"), needs.weights(info, "bf16", "int8")
    assert fine.vae == full.vae and 0.5 * full.unet < fine.unet < 0.9 * full.unet
    assert needs.weights(info, "fp16").vae == needs.weights(info, "fp32").vae  # SDXL's VAE overflows in fp16


def test_the_need_is_told_in_words_the_list_and_the_bar(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = Catalogue(checkpoints).get("sd1-file")
    assert needs.words(info, "fp32") == "about 22 MiB and 390 MiB more to paint 512x512 in fp32"
    assert " in bf16 (" in needs.words(info) and needs.words(info).endswith("in fp32)")
    assert main(["models", "--json", "--models-dir", str(checkpoints)]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["sd1-file"]["memory_mib"]["fp32"] == round(sum(needs.weights(info, "fp32")) / 2**20, 1)
    runner = FakeRunner()
    runner.tuned = "fp8 weights"
    jobs = SimpleNamespace(runner=runner, warming=False, queue_length=lambda: 0)
    studio: Any = SimpleNamespace(info=Catalogue(checkpoints).get, jobs=jobs)
    assert bar_state(studio, "sd1-file")["title"] == f"Memory: {needs.words(info, 'fp32')}. fp8 weights"


class Alive(TorchDispatchMode):
    """Adds up the bytes of the tensors that are alive; the highest sum is `peak`."""

    def __init__(self, weights: Any):
        super().__init__()
        self.now = self.peak = 0
        self.seen: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()
        for weight in weights:
            self.seen[weight.untyped_storage()] = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage()) not in self.seen:
                size = storage.nbytes()
                self.seen[storage] = True
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self.gone, size)
        return out

    def gone(self, size: int) -> None:
        self.now -= size


def peak_of(make: Callable[[], Any], ask: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes beside the weights, of a network without numbers: shapes are enough."""
    # with shapes alone torch would take the attention that writes out all scores
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", lambda q, *_, **__: torch.empty_like(q))
    with torch.device("meta"):
        network = make().requires_grad_(False).eval().to(torch.bfloat16)
        with torch.no_grad(), Alive(network.parameters()) as alive:
            ask(network)
    return alive.peak


@pytest.mark.parametrize("family, kind", [("sd1", "sd"), ("sdxl", "sdxl"), ("refiner", "refiner")])
def test_a_pass_of_the_published_networks_needs_what_is_said_and_not_half_as_much(
        family: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(network: Any) -> Any:
        more = {"text_embeds": torch.empty(2, 1280, dtype=torch.bfloat16),
                "time_ids": torch.empty(2, 6 if kind == "sdxl" else 5)}
        return network(torch.empty(2, 4, 64, 48, dtype=torch.bfloat16), torch.empty(2),
                       torch.empty(2, 77, OFFICIAL[family]["cross_attention_dim"], dtype=torch.bfloat16),
                       added_cond_kwargs=more if kind != "sd" else None)

    peak = peak_of(lambda: diffusers.UNet2DConditionModel(**OFFICIAL[family]), ask, monkeypatch)
    info = ModelInfo("m", "/nowhere", kind, 512, 512, 8, 77, False, 1.0)
    said = needs.network(info, 384, 512, 2, "bf16")
    assert said / 2 < peak < said
    assert needs.network(info, 384, 512, 1, "bf16") == said // 2
    assert needs.network(info, 512, 512, 100, "bf16") == needs.network(info, 512, 512, 8, "bf16")  # batches are bounded


def test_decoding_needs_what_is_said_and_tiles_bound_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoder() -> Any:
        return diffusers.AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2,
                                       down_block_types=("DownEncoderBlock2D",) * 4,
                                       up_block_types=("UpDecoderBlock2D",) * 4)

    peak = peak_of(decoder, lambda vae: vae.decode(torch.empty(1, 4, 64, 64, dtype=torch.bfloat16)), monkeypatch)
    info = ModelInfo("m", "/nowhere", "sd", 512, 512, 8, 77, False, 1.0)
    assert needs.decode(info, 512, 512, "bf16") / 2.1 < peak < needs.decode(info, 512, 512, "bf16")
    whole, tiled = (needs.decode(info, 4096, 4096, "bf16", tile) for tile in (None, 64))
    assert tiled < 0.06 * whole
    assert needs.decode(info, 256, 256, "bf16", 64) == needs.decode(info, 256, 256, "bf16")
