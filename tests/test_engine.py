"""The one loop: same seed same picture, stop, errors in the middle, and what it leaves behind."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from core import previews, samplers
from core.engine import Engine
from core.errors import LoomError, ModelError, OutOfMemory, StartError
from core.models.device import pick_device
from core.request import DECODERS, MAX_SEED, Done, Preview, Request, Step
from core.samplers import SAMPLERS

NO_PREVIEW = Preview("none")


def run(engine: Engine, request: Request, preview: Preview = NO_PREVIEW,
        cancel: threading.Event | None = None) -> tuple[list[Step], Done]:
    *steps, done = engine.generate(request, preview, cancel)
    assert isinstance(done, Done) and all(isinstance(step, Step) for step in steps)
    return steps, done


@contextlib.contextmanager
def watched(engine: Engine, then: Callable[[int], None] = lambda call: None, model: str = "eps"
            ) -> Iterator[list[int]]:
    """The batch size of every forward of the network; `then` is called before each with its number, from 1."""
    forwards: list[int] = []

    def listen(module: object, inputs: Any) -> None:
        forwards.append(len(inputs[0]))
        then(len(forwards))

    hook = engine.load(model, "fp32").unet.register_forward_pre_hook(listen)
    try:
        yield forwards
    finally:
        hook.remove()


# -- same seed, same picture


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_picture_k_of_a_batch_is_the_single_picture_of_seed_plus_k(
        engine: Engine, request_eps: Request, sampler: str) -> None:
    request = request_eps.replace(sampler=sampler, steps=3, width=64, height=64)
    together = run(engine, request.replace(batch=3))[1].latents
    for k in (0, 2):
        alone = run(engine, request.replace(seed=request.seed + k))[1].latents
        assert np.array_equal(together[k], alone[0])  # bit for bit: each picture goes through the network by itself


def test_seeds_of_a_batch_go_on_from_zero_after_the_last(engine: Engine, request_eps: Request) -> None:
    request = request_eps.replace(steps=2, seed=MAX_SEED, batch=2)
    together = run(engine, request)[1].latents
    assert np.array_equal(together[1], run(engine, request.replace(seed=0, batch=1))[1].latents[0])


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "DPM++ SDE", "Euler a"])
def test_previews_leave_the_latents_alone(engine: Engine, request_eps: Request, sampler: str) -> None:
    request = request_eps.replace(sampler=sampler, steps=4)
    runs = {decoder: run(engine, request, Preview(decoder)) for decoder in DECODERS}
    for decoder, (steps, done) in runs.items():
        assert np.array_equal(done.latents, runs["none"][1].latents), decoder
        assert all(np.array_equal(a, b) for a, b in zip(done.pictures, runs["none"][1].pictures, strict=True)), decoder
        assert all(len(step.pictures) == (decoder != "none") for step in steps)


def test_another_seed_prompt_or_guidance_gives_another_picture(engine: Engine, request_eps: Request) -> None:
    here = run(engine, request_eps)[1].latents
    for change in ({"seed": 8}, {"prompt": "the blue sofa"}, {"guidance": 6}, {"negative_prompt": "sea"}):
        assert not np.array_equal(here, run(engine, request_eps.replace(**change))[1].latents), change


def test_at_guidance_1_the_negative_prompt_is_not_asked(engine: Engine, request_eps: Request) -> None:
    request = request_eps.replace(guidance=1)
    with watched(engine) as forwards:
        here = run(engine, request)[1].latents
        assert np.array_equal(here, run(engine, request.replace(negative_prompt="sea"))[1].latents)
    assert set(forwards) == {1}


def test_where_the_solver_wants_the_unguided_output_it_is_asked_at_any_guidance(
        engine: Engine, request_eps: Request) -> None:
    for guidance in (1, samplers.SAMPLERS["DDIM CFG++"].guidance_divisor):  # the latter is lambda 1
        request = request_eps.replace(sampler="DDIM CFG++", guidance=guidance)
        with watched(engine) as forwards:
            here = run(engine, request)[1].latents
        assert set(forwards) == {2} and len(forwards) == request.steps
        assert not np.array_equal(here, run(engine, request.replace(negative_prompt="sea"))[1].latents)


def test_the_run_starts_from_the_noise_of_torchs_cpu_generator(engine: Engine, request_eps: Request) -> None:
    steps, _ = run(engine, request_eps)  # DPM++ 2M starts from noise of variance 1, unscaled
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator("cpu").manual_seed(request_eps.seed))
    assert np.array_equal(steps[0].x_t, noise.numpy())


# -- what a step tells


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_steps_go_forward_in_time_and_down_in_noise(engine: Engine, request_eps: Request, sampler: str) -> None:
    request = request_eps.replace(sampler=sampler, steps=4, width=64, height=64, batch=2)
    steps, done = run(engine, request)
    assert [step.index for step in steps] == list(range(4)) and {step.total for step in steps} == {4}
    for before, after in itertools.pairwise(steps):
        assert before.timestep > after.timestep and before.sigma > after.sigma > 0
        assert before.seconds <= after.seconds <= done.seconds and before.evaluations < after.evaluations
    assert all(step.x_t.shape == step.x0.shape == (2, 4, 8, 8) for step in steps)
    assert all(step.x_t.dtype == step.x0.dtype == done.latents.dtype == np.float32 for step in steps)
    assert (done.steps, done.stopped, done.precision) == (4, False, "fp32")
    assert done.evaluations == steps[-1].evaluations
    assert [picture.shape for picture in done.pictures] == [(64, 64, 3)] * 2 and done.pictures[0].dtype == np.uint8


# Their last step goes to sigma 0, where x0 is all there is. The others end on the first training step (DDIM, PLMS,
# DEIS, TCD, DPM fast), mix in earlier slopes (LMS) or walk on before they end (Langevin).
ENDS_AT_ZERO = [label for label in SAMPLERS
                if label not in ("DDIM", "PLMS", "DEIS", "TCD", "DPM fast", "LMS", "Langevin")]


@pytest.mark.parametrize("sampler", ENDS_AT_ZERO)
def test_the_last_clean_estimate_is_the_result(engine: Engine, request_eps: Request, sampler: str) -> None:
    steps, done = run(engine, request_eps.replace(sampler=sampler, steps=4, width=64, height=64))
    # the solver computes it in another order: float32 rounding of values up to 200
    np.testing.assert_allclose(steps[-1].x0, done.latents, rtol=0, atol=1e-6 * max(1, np.abs(done.latents).max()))


@pytest.mark.parametrize("sampler", ["DDIM", "PLMS", "DEIS", "LMS", "DPM fast"])
def test_elsewhere_the_last_clean_estimate_is_near_the_result(
        engine: Engine, request_eps: Request, sampler: str) -> None:
    steps, done = run(engine, request_eps.replace(sampler=sampler, steps=4, width=64, height=64))
    # what remains is the noise of the first training step: sigma 0.029 of a network output below 2
    assert np.abs(steps[-1].x0 - done.latents).max() < 0.1


def test_kept_steps_are_not_overwritten_by_later_ones(engine: Engine, request_eps: Request) -> None:
    kept = []
    for event in engine.generate(request_eps.replace(sampler="Euler a"), NO_PREVIEW):
        if isinstance(event, Step):
            kept.append((event, event.x_t.copy(), event.x0.copy()))
    assert all(np.array_equal(step.x_t, x_t) and np.array_equal(step.x0, x0) for step, x_t, x0 in kept)


# -- stop


@pytest.mark.parametrize("sampler, call", [("DPM++ 2M", 3), ("Heun", 4), ("PLMS", 2)])
def test_stop_is_obeyed_within_one_network_call(
        engine: Engine, request_eps: Request, sampler: str, call: int) -> None:
    cancel = threading.Event()
    with watched(engine, lambda number: cancel.set() if number == call else None) as forwards:
        steps, done = run(engine, request_eps.replace(sampler=sampler, batch=2), Preview("linear"), cancel)
    assert len(forwards) == call  # the one under way ends, none begins
    assert done.stopped and done.steps == len(steps) < 6 and done.evaluations == 2 * call


def test_a_stopped_run_keeps_its_last_clean_estimate(engine: Engine, request_eps: Request) -> None:
    for preview in (NO_PREVIEW, Preview("vae")):
        cancel, steps = threading.Event(), []
        for event in engine.generate(request_eps, preview, cancel):
            steps.append(event)
            if len(steps) == 3:
                cancel.set()
        *before, done = steps
        assert isinstance(done, Done) and done.stopped and done.steps == len(before) == 3
        assert np.array_equal(done.latents, before[-1].x0)
        decoded = previews.to_pictures(engine.load("eps", "fp32").decode(torch.from_numpy(done.latents)))
        assert np.array_equal(done.pictures[0], decoded[0])


def test_stop_after_the_last_step_changes_nothing(engine: Engine, request_eps: Request) -> None:
    cancel = threading.Event()
    for event in engine.generate(request_eps, NO_PREVIEW, cancel):
        if isinstance(event, Step) and event.index == 5:
            cancel.set()
    assert isinstance(event, Done) and not event.stopped and event.steps == 6


def test_cancelled_before_it_starts_a_run_ends_without_pictures(engine: Engine, request_eps: Request) -> None:
    cancel = threading.Event()
    cancel.set()
    with watched(engine) as forwards:
        steps, done = run(engine, request_eps.replace(batch=2), Preview("vae"), cancel)
    assert forwards == [] and steps == [] and done.pictures == ()
    assert done.stopped and done.steps == 0 and done.latents.shape == (0, 4, 16, 16)


# -- what it leaves behind


def test_inference_mode_does_not_leak_to_whoever_reads_the_steps(engine: Engine, request_eps: Request) -> None:
    events = engine.generate(request_eps, NO_PREVIEW)
    for _ in range(2):
        next(events)
        assert not torch.is_inference_mode_enabled()
    events.close()  # type: ignore[attr-defined]
    assert not torch.is_inference_mode_enabled()
    assert run(engine, request_eps)[1].steps == 6


def test_two_runs_may_be_interleaved(engine: Engine, request_eps: Request) -> None:
    alone = [run(engine, request_eps.replace(seed=seed, sampler="Euler a"))[1].latents for seed in (1, 2)]
    first, second = (engine.generate(request_eps.replace(seed=seed, sampler="Euler a"), NO_PREVIEW) for seed in (1, 2))
    ends = list(zip(first, second, strict=True))[-1]
    for end, expected in zip(ends, alone, strict=True):
        assert isinstance(end, Done) and np.array_equal(end.latents, expected)


OUT_OF_MEMORY = [
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: "
                 "you tried to allocate 1099511627776 bytes. Error code 12 (Cannot allocate memory)"),
    RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    RuntimeError("Invalid buffer size: 64.00 GB"),  # Metal's way of saying it
    torch.OutOfMemoryError("CUDA out of memory."), MemoryError()]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_running_out_of_memory_is_one_line_for_people(
        engine: Engine, request_eps: Request, error: Exception) -> None:
    def fail(call: int) -> None:
        if call >= 3:
            raise error

    steps = []
    with watched(engine, fail), pytest.raises(OutOfMemory, match="128x128 pixels: try a smaller size") as told:
        for event in engine.generate(request_eps, NO_PREVIEW):
            steps.append(event)
    assert len(steps) == 2 and "\n" not in str(told.value) and told.value.field == "width"
    assert not torch.is_inference_mode_enabled()
    assert run(engine, request_eps)[1].steps == 6  # and the engine lives on


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_what_is_too_much_at_once_is_asked_one_by_one(engine: Engine, request_eps: Request, error: Exception) -> None:
    request = request_eps.replace(model="eps", steps=3)
    expected = run(engine, request)[1].latents
    def fail(module: object, inputs: Any) -> None:
        if len(inputs[0]) > 1:
            raise error

    with watched(engine) as forwards:
        hook = engine.load("eps", "fp32").unet.register_forward_pre_hook(fail)
        try:
            done = run(engine, request)[1]
        finally:
            hook.remove()
    assert forwards == [2] + [1] * 6 and done.evaluations == 6  # the pass that failed is not counted
    # the same sums in another order: float32 rounding, of latents up to 60 in a random network
    np.testing.assert_allclose(done.latents, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_another_error_in_the_network_is_not_called_a_lack_of_memory(engine: Engine, request_eps: Request) -> None:
    def fail(call: int) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with watched(engine, fail), pytest.raises(RuntimeError, match="mat1"):
        run(engine, request_eps)


# -- models, precision, devices


def test_models_may_be_switched_back_and_forth(engine: Engine, request_eps: Request) -> None:
    here = run(engine, request_eps)[1].latents
    there = run(engine, request_eps.replace(model="v"))[1].latents
    assert not np.array_equal(here, there)
    with pytest.raises(ModelError, match="No model named 'epps'"):
        run(engine, request_eps.replace(model="epps"))
    assert np.array_equal(here, run(engine, request_eps)[1].latents)
    assert engine.load("eps", "fp32") is engine.load("eps", "fp32")


def test_a_model_that_predicts_the_picture_itself_runs(engine: Engine, request_eps: Request) -> None:
    for sampler in SAMPLERS:
        steps, done = run(engine, request_eps.replace(model="sample", sampler=sampler, steps=3, width=64, height=64))
        # such a network says about the same picture at every noise level, so nothing may grow
        assert np.abs(done.latents).max() < 20 and np.abs(steps[0].x0).max() < 20, sampler


def test_bf16_is_near_fp32_and_tells_what_it_was(engine: Engine, request_eps: Request) -> None:
    exact, rough = (run(engine, request_eps.replace(model="v", precision=p))[1] for p in ("fp32", "bf16"))
    assert (exact.precision, rough.precision) == ("fp32", "bf16")
    # 8 bits of mantissa: 0.4 % per layer, a few layers, five times by guidance; latents have unit variance here
    assert 0 < np.abs(exact.latents - rough.latents).mean() < 0.1


@pytest.mark.parametrize("change, preview, field", [
    ({"precision": "fp16"}, "none", "precision"), ({"model": "v"}, "tiny", "preview"),
    ({"width": 100}, "none", "width"), ({"height": 56}, "none", "height"), ({"sampler": "dpmpp2m"}, "none", "sampler"),
    ({"schedule": "Karas"}, "none", "schedule"), ({"sampler": "DDIM", "schedule": "Karras"}, "none", "schedule"),
    ({"sampler": "Heun", "steps": 2}, "none", "steps"), ({"model": "nowhere"}, "none", "model")])
def test_what_cannot_be_done_is_said_before_the_first_step(
        engine: Engine, request_eps: Request, change: dict[str, Any], preview: str, field: str) -> None:
    with pytest.raises(LoomError) as told:
        next(iter(engine.generate(request_eps.replace(**change), Preview(preview))))
    assert told.value.field == field and "\n" not in str(told.value)


def test_a_device_this_machine_lacks_is_refused_in_one_line() -> None:
    missing = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(StartError, match="choose auto or cpu"):
        pick_device(missing)
    with pytest.raises(StartError, match="choose auto, cpu, cuda or mps"):
        pick_device("tpu")
    assert pick_device("cpu").type == "cpu"
