"""What only a GPU can show: `python -m pytest -m gpu`. Previews on a stream of their own change no bit of a run;
networks that wait elsewhere paint the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from core.engine import Engine
from core.files import save_jpeg
from core.jobs import Job, Jobs
from core.models import tune
from core.models.catalogue import Catalogue
from core.request import Preview, Request
from core.samplers import SAMPLERS
from core.tuning import Tuning
from tests.test_course import PLAIN, resumed, run, same_run

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

DEVICE = "cuda"


@pytest.fixture(scope="module")
def gpu(catalogue: Catalogue) -> Engine:
    return Engine(catalogue, DEVICE)


@pytest.fixture
def jobs(gpu: Engine, tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(lambda: gpu, tmp_path / "outputs", tmp_path / "frames")
    with contextlib.closing(made):
        yield made


def finished(jobs: Jobs, request: Request, decoder: str) -> Job:
    job = jobs.wait(jobs.submit(request, Preview(decoder)), 120)
    assert job.state == "done", job.error
    if job.previewer:
        assert job.previewer.wait(60)
    return job


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_stopped_and_resumed_a_run_ends_in_the_same_bits(gpu: Engine, tmp_path: Path, sampler: str) -> None:
    request = PLAIN.replace(sampler=sampler)
    whole = run(gpu, request)
    run(gpu, request, tmp_path / "run.safetensors", stop_after=2)
    same_run(resumed(gpu, tmp_path / "run.safetensors"), whole)


def test_the_same_picture_as_on_the_processor(gpu: Engine, engine: Engine) -> None:
    # Float32 sums are taken in another order there; a chaotic network would drift, five steps of this one do not.
    there, here = (run(one, PLAIN)[1].latents for one in (gpu, engine))
    assert np.abs(there - here).max() < 2e-2 * np.abs(here).max()


@pytest.mark.parametrize("decoder", ["linear", "tiny", "vae", "auto"])
def test_previews_on_their_own_stream_change_no_bit_and_show_every_step(jobs: Jobs, decoder: str) -> None:
    request = PLAIN.replace(steps=12, width=256, height=256)
    plain, shown = finished(jobs, request, "none"), finished(jobs, request, decoder)
    assert plain.latents is not None and np.array_equal(plain.latents, shown.latents)
    assert not shown.without_frame and all(shown.frame(k).is_file() for k in range(12))


def test_frames_decoded_beside_the_loop_are_those_decoded_after_it(gpu: Engine, jobs: Jobs, tmp_path: Path) -> None:
    job = finished(jobs, PLAIN.replace(steps=12, width=256, height=256), "vae")
    steps, _ = run(gpu, job.request)
    for step in steps:
        (after,) = gpu.decode(step.x0, job.request, "vae")
        save_jpeg(after, tmp_path / "after.jpg")
        # kernels chosen anew may round differently: a colour value here and there, never a picture
        assert np.abs(_pixels(job.frame(step.index)) - _pixels(tmp_path / "after.jpg")).mean() < 0.5


@pytest.mark.parametrize("tuning", [
    Tuning(offload="model"), Tuning(offload="sequential"), Tuning(fuse_qkv=True), Tuning(storage="fp8"),
    Tuning(storage="fp8", offload="model"), Tuning(compile=True), Tuning(vae_tiling="on")], ids=str)
def test_however_memory_is_used_the_picture_is_the_same_within_rounding(gpu: Engine, catalogue: Catalogue,
                                                                         tuning: Tuning) -> None:
    plain, other = (run(one, PLAIN)[1].latents for one in (gpu, Engine(catalogue, DEVICE, tuning)))
    # eight bits of a random network's weights change its answers by a tenth, everything else by rounding only
    assert np.abs(plain - other).max() < (0.5 if tuning.storage == "fp8" else 2e-2) * np.abs(plain).max()


def test_offloaded_networks_leave_the_device_and_their_memory(catalogue: Catalogue) -> None:
    engine = Engine(catalogue, DEVICE, Tuning(offload="sequential"))
    run(engine, PLAIN)
    model = engine.load(PLAIN.model, PLAIN.precision)
    assert {weight.device.type for weight in model.unet.parameters()} == {"meta"} and model.bytes < 2**20


def test_a_run_that_outgrows_the_memory_goes_on_offloaded(catalogue: Catalogue,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(catalogue, DEVICE)
    model = engine.load(PLAIN.model, PLAIN.precision)
    forward, failed = model.unet.forward, []

    def once(*args: Any, **options: Any) -> Any:
        if len(failed) < 2:  # two pictures, then one
            failed.append(len(args[0]))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(*args, **options)

    monkeypatch.setattr(model.unet, "forward", once)
    _, done = run(engine, PLAIN)
    assert failed == [2, 1] and model.thrift.offload == "model" and "machine's memory" in done.note


def test_the_measured_attention_is_one_that_runs() -> None:
    for name in tune.attentions():
        assert tune.seconds_of(name, torch.float16) > 0
    assert tune.choose_attention("auto", torch.device(DEVICE), torch.float16) in tune.attentions()


def _pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), float)
