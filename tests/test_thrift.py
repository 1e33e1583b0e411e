"""Little memory: tiles, offload, and runs that go on when the memory ends, and say so."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from core.__main__ import main
from core.engine import Engine
from core.errors import ModelError, OutOfMemory
from core.jobs import Jobs
from core.models import parts
from core.models.catalogue import Catalogue
from core.models.sd import StableDiffusion
from core.models.thrift import Thrift, _starts, in_tiles
from core.request import Preview, Request
from core.tuning import Tuning
from tests.lines import assert_one_line
from tests.originals import ask, finish

CPU = torch.device("cpu")


@pytest.fixture
def own(checkpoints: Path) -> Engine:
    """An engine whose model nobody else has."""
    return Engine(Catalogue(checkpoints), "cpu")


@pytest.fixture
def small(models_dir: Path) -> Engine:
    return Engine(Catalogue(models_dir), "cpu")


@pytest.fixture(scope="module")
def painted() -> Iterator[tuple[StableDiffusion, Tensor]]:
    """Storybook, whose decoder is trained, and latents of a picture larger than it was trained at."""
    engine = Engine(device="cpu")
    request = Request(prompt="a red boat on the sea", width=512, height=384, steps=6, seed=3, precision="fp32")
    yield engine.load("storybook", "fp32"), torch.from_numpy(finish(engine, request).latents)


def full(*_: Any, **__: Any) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


# -- tiles


@pytest.mark.parametrize("tile", [32, 24])
def test_a_picture_in_tiles_is_near_the_one_decoded_at_once(painted: tuple[StableDiffusion, Tensor],
                                                            tile: int) -> None:
    model, latents = painted
    with torch.inference_mode():
        whole = model.decode(latents)
        tiled = in_tiles(model._decode, latents / model.vae.config.scaling_factor, tile).clamp(-1, 1)
        model.vae.tile_sample_min_size, model.vae.tile_latent_min_size = 8 * tile, tile
        theirs = model.vae.tiled_decode(latents / model.vae.config.scaling_factor).sample.clamp(-1, 1)
    ours, diffusers_own = ((one - whole).abs().mean() * 127.5 for one in (tiled, theirs))
    # Of 255: measured 1.5 and 1.8, diffusers' own 1.9. Each tile is normalised by itself, which shifts its colours.
    assert tiled.shape == whole.shape and 0 < ours < 2.5
    assert ours < 1.1 * diffusers_own


def test_tiles_of_a_decoder_that_sees_only_its_cell_are_the_picture() -> None:
    latents = torch.randn(2, 4, 50, 37, generator=torch.Generator().manual_seed(0))

    def decode(z: Tensor) -> Tensor:
        assert max(z.shape[-2:]) <= 16
        return z[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3)

    tiled = in_tiles(decode, latents, 16)
    assert tiled.shape == (2, 3, 400, 296)
    # the shares of each pixel are divided by their sum: float32 rounding is left
    assert torch.allclose(tiled, latents[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3), atol=1e-5)


@pytest.mark.parametrize("side", [1, 16, 17, 28, 29, 64, 511])
def test_tiles_cover_every_cell_and_overlap(side: int) -> None:
    starts = _starts(side, 16)
    assert starts[0] == 0 and starts[-1] + 16 == max(side, 16)
    assert all(b - a <= 12 for a, b in zip(starts, starts[1:], strict=False))


def test_tiling_by_choice_never_or_by_need() -> None:
    on, off, auto = (Thrift(CPU, None, [None], tiling=tiling) for tiling in ("on", "off", "auto"))
    assert [t.tile(128, 96) for t in (on, off, auto)] == [64, None, None]
    assert [t.tile(64, 64) for t in (on, off, auto)] == [None] * 3
    assert not off.shrink(128, 96) and not off.take_notes()
    assert auto.shrink(128, 96) and auto.tile(128, 96) == 64 and auto.tile(64, 64) is None
    assert auto.shrink(128, 96) and auto.tile(128, 96) == auto.tile(64, 64) == 32
    assert not auto.shrink(128, 96)
    (note,) = auto.take_notes()
    assert "decoded in tiles" in note and not auto.take_notes()
    assert on.shrink(128, 96) and on.tile(128, 96) == 32


def test_what_would_not_fit_is_decoded_in_tiles_from_the_start(small: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    request = ask("eps", width=512, height=512, steps=2)
    seen = shapes_decoded(small.load("eps", "fp32"), monkeypatch)
    assert not finish(small, request).note and seen == [(64, 64)]
    monkeypatch.setattr("core.models.sd.free_memory", lambda device: 2**20)
    done = finish(small, request)
    assert set(seen[1:]) == {(32, 32)} and "decoded in tiles" in done.note
    assert_one_line(ModelError(done.note))


def shapes_decoded(model: StableDiffusion, monkeypatch: pytest.MonkeyPatch, most: int = 10**9) -> list[Any]:
    """(h, w) of what the VAE is given from now on. most: cells it can take at once."""
    seen: list[Any] = []
    decode = model.vae.decode

    def watched(z: Tensor, **options: Any) -> Any:
        seen.append(tuple(z.shape[-2:]))
        if z.shape[-1] * z.shape[-2] > most:
            full()
        return decode(z, **options)

    monkeypatch.setattr(model.vae, "decode", watched)
    return seen


# -- the memory ends


def test_when_decoding_does_not_fit_it_goes_on_in_tiles_and_says_so(small: Engine,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    request = ask("eps", width=768, height=512, steps=2)
    whole = finish(small, request)
    seen = shapes_decoded(small.load("eps", "fp32"), monkeypatch, most=1500)
    done = finish(small, request)
    assert seen[:2] == [(64, 96), (64, 64)] and set(seen[2:]) == {(32, 32)}
    assert "decoded in tiles" in done.note and done.note.count("tiles") == 1
    assert np.array_equal(done.latents, whole.latents) and done.pictures[0].shape == whole.pictures[0].shape
    assert finish(small, request.replace(width=256, height=256)).note == ""  # small ones are decoded at once again


def test_a_decoder_that_never_fits_is_one_line_and_the_model_stays_usable(own: Engine,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    model = own.load("sd1-file", "fp32")
    with monkeypatch.context() as patched:
        shapes_decoded(model, patched, most=0)
        with pytest.raises(OutOfMemory, match="did not suffice for decoding") as told:
            finish(own, ask("sd1-file"))
    assert_one_line(told.value)
    assert finish(own, ask("sd1-file")).pictures


def limit_batches(model: StableDiffusion, monkeypatch: pytest.MonkeyPatch, most: Callable[[], int]) -> list[int]:
    """The U-Net runs out of memory with more than most() pictures; the sizes it was asked with."""
    seen: list[int] = []
    forward = model.unet.forward

    def limited(latents: Tensor, *args: Any, **options: Any) -> Any:
        seen.append(len(latents))
        if len(latents) > most():
            full()
        return forward(latents, *args, **options)

    monkeypatch.setattr(model.unet, "forward", limited)
    return seen


def test_smaller_batches_make_the_same_picture_and_say_so(own: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = finish(own, ask("sd1-file"))
    seen = limit_batches(own.load("sd1-file", "fp32"), monkeypatch, lambda: 1)
    done = finish(own, ask("sd1-file"))
    assert seen == [2] + [1] * 8 and "asked 1 at a time" in done.note
    # float32 sums of one picture and of two are taken in another order
    assert np.abs(done.latents - whole.latents).max() < 1e-4 * whole.latents.std()


def test_the_job_and_the_command_line_say_so_too(checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine(Catalogue(checkpoints), "cpu")
    limit_batches(engine.load("sd1-file", "fp32"), monkeypatch, lambda: 1)
    jobs = Jobs(lambda: engine, tmp_path / "outputs", tmp_path / "frames")
    job = jobs.wait(jobs.submit(ask("sd1-file"), Preview("none")), 60)
    jobs.close()
    assert job.state == "done" and "asked 1 at a time" in job.note and job.trajectory and job.results
    monkeypatch.setattr("core.models.sd.free_memory", lambda device: 2**10)
    assert main(["generate", "a boat", "--model", "sd1-file", "--models-dir", str(checkpoints), "--device", "cpu",
                 "--out", str(tmp_path / "a.png"), "--steps", "2", "--width", "512", "--height", "512"]) == 0
    assert "decoded in tiles" in capsys.readouterr().err


# -- offload: its hooks work on a processor too, where nothing is far away


@pytest.mark.parametrize("offload", ["model", "sequential"])
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_offloaded_networks_make_the_same_picture_to_the_bit(checkpoints: Path, family: str, offload: str,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(Catalogue(checkpoints), "cpu")
    request = ask(f"{family}-file", steps=2)
    plain = finish(engine, request)
    monkeypatch.setattr("core.engine.verify", lambda *_: offload)
    hooked = Engine(Catalogue(checkpoints), "cpu")
    done = finish(hooked, request)
    again = finish(hooked, request.replace(prompt="a green tree"))
    assert np.array_equal(done.latents, plain.latents) and np.array_equal(done.pictures[0], plain.pictures[0])
    assert not np.array_equal(again.latents, done.latents) and hooked.tuned == f"{offload} offload"
    unet = hooked.load(request.model, "fp32").unet
    assert {weight.device.type for weight in unet.parameters()} == {"meta" if offload == "sequential" else "cpu"}


def test_when_not_even_one_fits_networks_are_offloaded_and_the_run_goes_on(own: Engine,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    whole = finish(own, ask("sd1-file", guidance=1.0))
    model = own.load("sd1-file", "fp32")
    model.thrift.further = ["model", "sequential"]  # as on a GPU
    left = itertools.chain([0, 1, 0], itertools.repeat(1))  # the second step does not fit either
    seen = limit_batches(model, monkeypatch, lambda: next(left))
    done = finish(own, ask("sd1-file", guidance=1.0))
    assert seen[:2] == [1, 1] and model.thrift.offload == "sequential" and own.tuned == "sequential offload"
    assert "much slower" in done.note and np.array_equal(done.latents, whole.latents)
    model.thrift.further = []
    assert not finish(own, ask("sd1-file", guidance=1.0)).note


def test_only_the_models_own_thread_moves_networks() -> None:
    thrift = Thrift(CPU, None, [None], further=["model"])
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(thrift.retreat()))
    thread.start()
    thread.join()
    assert found == [False] and thrift.offload == "none"


GIB = 2**30


@pytest.mark.parametrize("tuning, free, device, offload", [
    (Tuning(), 1.0, "cuda", "none"), (Tuning(), 0.032, "cuda", "model"), (Tuning(), 0.001, "cuda", "sequential"),
    (Tuning(offload="model"), 1.0, "cuda", "model"), (Tuning(offload="sequential"), 0.001, "cuda", "sequential"),
    (Tuning(offload="none"), 0.001, "cuda", None), (Tuning(storage="int8"), 0.001, "cuda", None),
    (Tuning(), 0.001, "cpu", None), (Tuning(), 1.0, "cpu", "none")])
def test_a_model_is_offloaded_as_far_as_the_memory_asks(checkpoints: Path, monkeypatch: pytest.MonkeyPatch,
                                                        tuning: Tuning, free: float, device: str,
                                                        offload: str | None) -> None:
    """sdxl-file: 29 MiB in bf16, 17 of them the U-Net, and a pass of 1024x1024 pixels."""
    monkeypatch.setattr(parts, "free_memory", lambda device: free * GIB)
    monkeypatch.setattr(parts.needs, "network", lambda *_: 0)
    info = Catalogue(checkpoints).get("sdxl-file")
    if offload is None:
        with pytest.raises(OutOfMemory, match="are free: choose a smaller model") as told:
            parts.verify(info, torch.device(device), "bf16", tuning)
        assert_one_line(told.value)
    else:
        assert parts.verify(info, torch.device(device), "bf16", tuning) == offload


def test_an_offloaded_vae_that_overflows_goes_on_in_float32(checkpoints: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.engine.verify", lambda *_: "model")
    model = Engine(Catalogue(checkpoints), "cpu").load("sd1-file", "fp32")
    before = model.vae
    model.vae = model.thrift.upcast(before)
    assert model.thrift.others[-1] is model.vae is not before and hasattr(model.vae, "_hf_hook")
    with torch.inference_mode():
        assert torch.isfinite(model.decode(torch.zeros(1, 4, 8, 8))).all()


# -- switching


def test_twenty_switches_leave_nothing_behind(models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine(Catalogue(models_dir), "cpu")
    names = ["eps", "v", "sample", "eps+v"]
    counts, gone = [], []
    for k in range(20):
        model = engine.load(names[k % 4], "fp32")
        finish(engine, ask(names[k % 4], steps=2, guidance=1.0))
        gone.append(weakref.ref(model.unet))
        del model
        if k in (7, 11, 19):  # the same model each time, and none for the first time
            gc.collect()
            counts.append(sum(issubclass(type(thing), Tensor) for thing in gc.get_objects()))
            with capsys.disabled():
                print(f"\n{k + 1} switches: {psutil.Process().memory_info().rss / 2**20:.0f} MiB of the process")
    assert [ref() is None for ref in gone] == [True] * 19 + [False]
    assert len(set(counts)) == 1  # as many tensors are alive
