"""Runs that are resumed and forked: the bits of the run that was never stopped, and the parent's steps untouched."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.course import DdimMove
from core.engine import Engine
from core.errors import BadRequest, TrajectoryError
from core.estimates import as_epsilon, clean_estimate
from core.layout import layout_of
from core.recorder import Recorder
from core.request import Done, Preview, Region, Request, Step
from core.samplers import SAMPLERS, resolve
from core.samplers.build import build, first_levels, last_steps, noise_levels, solver_scale
from core.trajectory import Past, Trajectory
from tests.lines import assert_one_line
from tests.test_engine import watched

MODELS = ["eps", "v", "sample"]
STEPS = 5  # one more than the longest memory (LMS keeps 4 steps)
PLAIN = Request(prompt="a red boat", model="eps", width=64, height=64, steps=STEPS, precision="fp32", seed=7)
SOFT = (Region(name="sofa", prompt="a sofa", box=(0, 0, 0.45, 0.9), feather=6),
        Region(name="sea", prompt="blue sea", box=(0.3, 0.3, 1, 1), feather=3))
ENDS_AT_ZERO = [label for label in SAMPLERS  # see test_engine
                if label not in ("DDIM", "PLMS", "DEIS", "TCD", "DPM fast", "LMS", "Langevin")]
TRAINING = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
            "prediction_type": "epsilon"}


def run(engine: Engine, request: Request, path: Path | None = None, past: Past | None = None,
        stop_after: int | None = None) -> tuple[list[Step], Done]:
    """A run, kept at `path`; the file of a run that is resumed is gone on with."""
    cancel, steps = threading.Event(), []
    recorder = Recorder(path, go_on=past is not None) if path else None
    for event in engine.generate(request, Preview("none"), cancel, past):
        if isinstance(event, Done):
            break
        steps.append(event)
        if recorder:
            recorder.add(event)
        if event.index + 1 == stop_after:
            cancel.set()
    if recorder:
        recorder.close()
    return steps, event


def resumed(engine: Engine, path: Path) -> tuple[list[Step], Done]:
    past = Past.resume(Trajectory(path))
    return run(engine, past.request, path, past)


def forked(engine: Engine, path: Path, at: int, out: Path | None = None, **changes: Any) -> tuple[list[Step], Done]:
    past = Past.fork(Trajectory(path), at, changes)
    return run(engine, past.request, out, past)


def same_run(one: tuple[list[Step], Done], other: tuple[list[Step], Done]) -> None:
    """Every bit of every step and of the end, and the count of evaluations."""
    for a, b in zip(one[0], other[0], strict=True):
        assert np.array_equal(a.x_t, b.x_t) and np.array_equal(a.x0, b.x0), a.index
        assert (a.sigma, a.timestep, a.evaluations, a.total) == (b.sigma, b.timestep, b.evaluations, b.total)
    assert np.array_equal(one[1].latents, other[1].latents)
    assert (one[1].steps, one[1].evaluations) == (other[1].steps, other[1].evaluations)


def same_file(one: Path, other: Path) -> None:
    a, b = Trajectory(one), Trajectory(other)
    assert a.outline == b.outline and a.taken == b.taken
    for k in range(a.taken):
        for x, y in zip(a.recorded(k)[:3], b.recorded(k)[:3], strict=True):
            assert (x is None and y is None) or np.array_equal(x, y)
        for name, own in a.regions_x0(k).items():
            assert np.array_equal(own, b.regions_x0(k)[name])


# -- resume


@pytest.mark.parametrize("number, sampler", list(enumerate(SAMPLERS)), ids=list(SAMPLERS))
def test_stopped_anywhere_and_resumed_a_run_ends_in_the_same_bits(
        engine: Engine, tmp_path: Path, number: int, sampler: str) -> None:
    request = PLAIN.replace(sampler=sampler, model=MODELS[number % 3], batch=2, seed=number)
    whole = run(engine, request, tmp_path / "whole.safetensors")
    at = random.Random(number).randrange(1, STEPS)
    path = tmp_path / "run.safetensors"
    run(engine, request, path, stop_after=at)
    assert Trajectory(path).taken == at
    with watched(engine, model=request.model) as forwards:
        same_run(whole, resumed(engine, path))
    assert sum(forwards) == whole[1].evaluations - whole[0][at - 1].evaluations  # only what was missing is asked
    same_file(path, tmp_path / "whole.safetensors")
    same_run(whole, forked(engine, path, at))  # nor does a fork that changes nothing change anything


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "DPM++ SDE", "Euler a", "PLMS", "LMS", "UniPC", "DDIM CFG++",
                                     "DPM fast"])
@pytest.mark.parametrize("at", [1, 3])
def test_regions_with_soft_masks_are_resumed_within_and_after_bootstrapping(
        engine: Engine, tmp_path: Path, sampler: str, at: int) -> None:
    request = PLAIN.replace(sampler=sampler, regions=SOFT, bootstrap=0.4)
    whole = run(engine, request, tmp_path / "whole.safetensors")
    path = tmp_path / "run.safetensors"
    run(engine, request, path, stop_after=at)
    same_run(whole, resumed(engine, path))
    same_file(path, tmp_path / "whole.safetensors")


@pytest.mark.parametrize("sampler", ["Heun", "DDIM CFG++"])
@pytest.mark.parametrize("masks", ["area", "paper"])
def test_hard_masks_and_windows_are_resumed(engine: Engine, tmp_path: Path, masks: str, sampler: str) -> None:
    request = PLAIN.replace(width=192, panorama="smooth", stride=64, regions=SOFT, masks=masks, bootstrap=0.4, steps=4,
                            sampler=sampler)
    whole = run(engine, request)
    run(engine, request, tmp_path / "a.safetensors", stop_after=2)
    same_run(whole, resumed(engine, tmp_path / "a.safetensors"))


def test_a_run_can_be_resumed_again_and_again(engine: Engine, tmp_path: Path) -> None:
    request, path = PLAIN.replace(sampler="DPM++ 3M SDE"), tmp_path / "a.safetensors"
    run(engine, request, path, stop_after=1)
    for stop in (2, 4):
        past = Past.resume(Trajectory(path))
        run(engine, past.request, path, past, stop_after=stop)
        assert Trajectory(path).taken == stop
    same_run(run(engine, request), resumed(engine, path))
    with watched(engine) as forwards:  # a whole one ends at once
        same_run(run(engine, request), resumed(engine, path))
    assert sum(forwards) == 2 * STEPS


def test_seconds_count_on(engine: Engine, tmp_path: Path) -> None:
    first, _ = run(engine, PLAIN, tmp_path / "a.safetensors", stop_after=3)
    steps, done = resumed(engine, tmp_path / "a.safetensors")
    assert [s.seconds for s in steps[:3]] == [pytest.approx(s.seconds) for s in first]
    assert steps[2].seconds < steps[3].seconds < steps[4].seconds <= done.seconds


# -- what a file says of its run


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_file_holds_what_the_steps_told(engine: Engine, tmp_path: Path, sampler: str) -> None:
    request = PLAIN.replace(sampler=sampler, steps=4)
    steps, done = run(engine, request, tmp_path / "a.safetensors")
    kept = Trajectory(tmp_path / "a.safetensors")
    for k, step in enumerate(steps):
        assert np.array_equal(kept.x_t(k), step.x_t)
        assert np.array_equal(kept.x0(k), step.x0)
        assert (kept.steps[k].evaluations, kept.sigma(k)) == (step.evaluations, step.sigma)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator("cpu").manual_seed(request.seed)).numpy()
    # as the network sees it: solvers that work in sigma start at sigma_max times noise, 0.2 % short of variance 1
    assert float(np.abs(kept.x_t(0) / noise).mean()) == pytest.approx(1, abs=0.003)
    assert np.corrcoef(kept.x_t(0).ravel(), noise.ravel())[0, 1] > 1 - 1e-6
    if sampler in ENDS_AT_ZERO:  # the others end on the first training step, or mix in earlier slopes
        np.testing.assert_allclose(kept.x0(3), done.latents, rtol=0, atol=1e-6 * max(1, np.abs(done.latents).max()))


def test_guided_is_unguided_and_the_prompts_pull(engine: Engine, tmp_path: Path) -> None:
    run(engine, PLAIN.replace(guidance=3), tmp_path / "a.safetensors")
    run(engine, PLAIN.replace(guidance=1), tmp_path / "one.safetensors")
    guided, alone = Trajectory(tmp_path / "a.safetensors"), Trajectory(tmp_path / "one.safetensors")
    assert alone.unguided_x0(0) is None
    away = guided.unguided_x0(0)
    assert away is not None  # at step 0 both see the same noise: x0 is linear in the output
    np.testing.assert_allclose(guided.x0(0), away + 3 * (alone.x0(0) - away), rtol=0, atol=1e-4 * np.abs(away).max())


@pytest.mark.parametrize("bootstrap", [0, 0.4])
def test_the_fused_x0_is_the_weighted_sum_of_the_regions(engine: Engine, tmp_path: Path, bootstrap: float) -> None:
    request = PLAIN.replace(regions=SOFT, bootstrap=bootstrap)
    run(engine, request, tmp_path / "a.safetensors")
    kept, weights = Trajectory(tmp_path / "a.safetensors"), layout_of(request, 8).weights
    for k in range(STEPS):
        fused = sum(weights[name] * own for name, own in kept.regions_x0(k).items())
        np.testing.assert_allclose(kept.x0(k), fused, rtol=0, atol=2**-10 * np.abs(fused).max())  # kept as float16


def test_without_a_trajectory_nothing_of_a_step_is_fetched(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.engine.Record", None)
    assert len(run(engine, PLAIN)[0]) == STEPS


# -- fork


@pytest.mark.parametrize("change", [
    {"prompt": "the blue sofa"}, {"negative_prompt": "sea"}, {"guidance": 2.5}, {"guidance": 1.0},
    {"regions": [SOFT[0].to_dict()]}, {"sampler": "Euler"}, {"sampler": "Heun"}, {"schedule": "Uniform"},
    {"steps": 9}, {"sampler": "Euler a", "seed": 99}])
def test_a_change_at_step_k_leaves_the_steps_before_and_changes_those_after(
        engine: Engine, tmp_path: Path, change: dict[str, Any]) -> None:
    parent, at = tmp_path / "parent.safetensors", 2
    before = run(engine, PLAIN, parent)
    steps, done = forked(engine, parent, at, tmp_path / "child.safetensors", **change)
    child = Trajectory(tmp_path / "child.safetensors")
    assert child.parent is not None and (child.parent.file, child.parent.step) == (parent.name, at)
    assert child.parent.changes == change and child.request == Trajectory(parent).outline.changed(change)
    assert child.whole and done.steps == child.total == len(steps) and not done.stopped
    for k in range(at):
        assert np.array_equal(steps[k].x_t, before[0][k].x_t) and np.array_equal(child.x0(k), before[0][k].x0)
        assert (steps[k].sigma, steps[k].evaluations) == (before[0][k].sigma, before[0][k].evaluations)
    assert np.array_equal(steps[at].x_t, before[0][at].x_t)  # x_k is where they part
    assert not np.array_equal(done.latents, before[1].latents)
    assert all(a.sigma > b.sigma for a, b in zip(steps, steps[1:], strict=False))
    same_run((steps, done), resumed(engine, tmp_path / "child.safetensors"))  # and a fork is a run like any other


def test_a_fork_from_the_beginning_is_a_new_run(engine: Engine, tmp_path: Path) -> None:
    run(engine, PLAIN, tmp_path / "a.safetensors")
    change = {"prompt": "the sea", "sampler": "DPM2 a", "seed": 12}
    same_run(forked(engine, tmp_path / "a.safetensors", 0, **change), run(engine, PLAIN.replace(**change)))


@pytest.mark.parametrize("sampler", [label for label, entry in SAMPLERS.items() if entry.stochastic])
def test_another_seed_changes_the_noise_that_is_still_to_come(engine: Engine, tmp_path: Path, sampler: str) -> None:
    parent = tmp_path / "a.safetensors"
    before, _ = run(engine, PLAIN.replace(sampler=sampler, batch=2), parent)
    steps, _ = forked(engine, parent, 2, tmp_path / "b.safetensors", seed=99)
    for k in range(3):  # x_2 was made by the noise of step 1
        assert np.array_equal(steps[k].x_t, before[k].x_t)
    assert not np.array_equal(steps[3].x_t, before[3].x_t)
    assert not np.array_equal(*steps[4].x_t)  # each picture of the batch has noise of its own
    alone, _ = forked(engine, parent, 2, seed=99)
    assert np.array_equal(steps[4].x_t, alone[4].x_t)  # and it is the same every time


def test_regions_added_in_mid_run_are_kept_from_there_on(engine: Engine, tmp_path: Path) -> None:
    run(engine, PLAIN.replace(guidance=1), tmp_path / "a.safetensors")
    forked(engine, tmp_path / "a.safetensors", 3, tmp_path / "b.safetensors", guidance=4.0,
           regions=[region.to_dict() for region in SOFT])
    child = Trajectory(tmp_path / "b.safetensors")
    assert [list(child.regions_x0(k)) for k in range(STEPS)] == [[], [], [], [0, 1, 2], [0, 1, 2]]
    assert [child.unguided_x0(k) is not None for k in range(STEPS)] == [False, False, False, True, True]


@pytest.mark.parametrize("changes, says", [
    ({"width": 128}, "keeps its parent's width"), ({"batch": 3}, "keeps its parent's batch"),
    ({"model": "v"}, "keeps its parent's model"), ({"sampler": "Eulr"}, "Did you mean 'Euler'"),
    ({"seed": 8}, "draws no noise after the first"), ({"colour": 1}, "no field 'colour'"),
    ({"regions": [{"name": "a"}]}, "has no prompt"), ({"steps": 1}, "fork earlier, or take more steps")])
def test_a_fork_that_cannot_be_is_one_line(
        engine: Engine, tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    run(engine, PLAIN, tmp_path / "a.safetensors")
    with pytest.raises(BadRequest, match=says) as refused:
        forked(engine, tmp_path / "a.safetensors", 3, **changes)
    assert_one_line(refused.value)


@pytest.mark.parametrize("taken, at, says", [(5, 5, "from 0 to 4"), (5, -1, "from 0 to 4"), (2, 3, "from 0 to 2")])
def test_a_fork_where_no_step_is_names_the_range(
        engine: Engine, tmp_path: Path, taken: int, at: int, says: str) -> None:
    run(engine, PLAIN, tmp_path / "a.safetensors", stop_after=taken)
    with pytest.raises(BadRequest, match=says) as refused:
        forked(engine, tmp_path / "a.safetensors", at)
    assert_one_line(refused.value)


def test_another_model_of_that_name_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    run(engine, PLAIN, path, stop_after=2)
    kept = Trajectory(path)
    object.__setattr__(kept.outline, "model", "0" * 16)
    for past in (Past.resume(kept), Past.fork(kept, 1, {"prompt": "b"})):
        with pytest.raises(TrajectoryError, match="made with other weights") as refused:
            run(engine, past.request, None, past)
        assert_one_line(refused.value)
    with pytest.raises(TrajectoryError, match="made with other weights"):
        engine.decode(kept.x0(0), kept.request, "vae", weights=kept.outline.model)


# -- how one solver takes over from another


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_takes_over_from_every_kind(engine: Engine, tmp_path: Path, sampler: str) -> None:
    """From a sampler in sigma space and one that is not; the picture stays near that of the parent's sampler."""
    for parent in ("Euler", "DPM++ 2M"):
        path = tmp_path / f"{parent}.safetensors"
        _, before = run(engine, PLAIN.replace(sampler=parent, steps=10, schedule="Uniform", guidance=1), path)
        schedule = "Uniform" if "Uniform" in SAMPLERS[sampler].schedules else "Automatic"
        steps, done = forked(engine, path, 6, tmp_path / "b.safetensors", sampler=sampler, schedule=schedule)
        child = Trajectory(tmp_path / "b.safetensors")
        assert child.total == len(steps) and child.outline.legs[-1].start == 6 * (sampler != parent)
        # the same network from the same x_6, sigma about 1.5: nothing that explodes or starts from another level
        apart = np.std(done.latents - before.latents) / np.std(before.latents)
        assert apart < 0.6, (parent, apart)
        same_run((steps, done), resumed(engine, tmp_path / "b.safetensors"))


def test_a_fork_to_cfgpp_and_back_weighs_the_guidance_as_each_solver_does(engine: Engine, tmp_path: Path) -> None:
    """The step of its DDIM move puts back unguided noise too; all is resumed in the same bits."""
    paths = [tmp_path / f"{k}.safetensors" for k in range(3)]
    run(engine, PLAIN.replace(guidance=5.0, steps=6), paths[0])
    there = forked(engine, paths[0], 2, paths[1], sampler="DDIM CFG++")
    back = forked(engine, paths[1], 4, paths[2], sampler="Euler", guidance=1.0)
    scales = []
    for path, at in ((paths[0], 1), (paths[1], 2), (paths[1], 3)):
        one = Trajectory(path)
        away, output = one.recorded(at).unguided, one.output(at)
        scales.append(float(np.abs(output - away).mean()))
    assert scales[0] > 5 * scales[1] and scales[0] > 5 * scales[2]  # 5 and 5 / 12.5 times the pull of the prompt
    child = Trajectory(paths[1])
    assert child.outline.legs[1].moved and child.outline.guided
    moved = child.recorded(2)
    x0, free = (clean_estimate(moved.samples[0], output, child.sigma(2), "epsilon")
                for output in (moved.outputs[0], moved.unguided))
    after = child.sigma(3)
    expected = (x0 + after * as_epsilon(moved.samples[0], free, child.sigma(2))) / (1 + after**2) ** 0.5
    np.testing.assert_allclose(child.x_t(3), expected, rtol=0, atol=2e-3 * np.abs(expected).max())  # sigmas: 5 digits
    assert [Trajectory(paths[2]).unguided_x0(k) is None for k in range(6)] == [False] * 4 + [True] * 2
    same_run(there, resumed(engine, paths[1]))
    same_run(back, resumed(engine, paths[2]))


def test_forks_of_forks_keep_their_whole_history(engine: Engine, tmp_path: Path) -> None:
    paths = [tmp_path / f"{k}.safetensors" for k in range(5)]
    run(engine, PLAIN.replace(sampler="Euler a", steps=8), paths[0])
    forked(engine, paths[0], 2, paths[1], sampler="PLMS")
    forked(engine, paths[1], 3, paths[2], sampler="DPM++ SDE", prompt="sea")  # right after PLMS was moved to
    forked(engine, paths[2], 4, paths[3], seed=4)
    last = forked(engine, paths[3], 5, paths[4], sampler="DPM++ 2M SDE", seed=5)
    for parent, child, at in zip(paths, paths[1:], (2, 3, 4, 5), strict=False):
        a, b = Trajectory(parent), Trajectory(child)
        assert all(np.array_equal(a.recorded(k).outputs, b.recorded(k).outputs) for k in range(at))
    same_run(last, resumed(engine, paths[4]))


@pytest.mark.parametrize("sampler", ["Euler", "DDIM", "DDIM CFG++", "DDPM", "Heun", "DPM2", "LCM", "Restart", "PC VP"])
def test_solvers_without_memory_end_alike_when_their_last_steps_are_a_run_of_their_own(
        engine: Engine, sampler: str) -> None:
    entry, schedule = resolve(sampler, "Automatic", 6)
    torch_noise = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(1))

    def finish(scheduler: Any, x: torch.Tensor, first: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(first)
        options = {"generator": generator} if entry.stochastic else {}
        counts = entry.call_counts(6)
        for call in range(sum(counts[:first]), sum(counts)):
            t = whole.timesteps[call]
            seen = scheduler.scale_model_input(x, t)
            x = scheduler.step(torch.tanh(seen), t, x, return_dict=False, **options)[0]
        return x

    whole = build(entry, schedule, 6, TRAINING, 0)
    for call in range(sum(entry.call_counts(6)[:2])):
        t = whole.timesteps[call]
        options = {"generator": torch.Generator().manual_seed(call)} if entry.stochastic else {}
        torch_noise = whole.step(torch.tanh(whole.scale_model_input(torch_noise, t)), t, torch_noise,
                                 return_dict=False, **options)[0]
    rest = last_steps(build(entry, schedule, 6, TRAINING, 0), entry, 6, 2)
    assert len(rest.timesteps) == sum(entry.call_counts(6)[2:])
    assert first_levels(whole, entry, 6)[2:] == pytest.approx(first_levels(rest, entry, 6, 2), rel=1e-6)
    assert torch.equal(finish(rest, torch_noise, 2), finish(whole, torch_noise, 2))


@pytest.mark.parametrize("sampler, once", [*((name, False) for name in SAMPLERS), ("PLMS", True)])
def test_the_last_steps_alone_denoise_a_gaussian(sampler: str, once: bool) -> None:
    """Data N(0, 1/4), x_k drawn exactly: what comes out must have its spread, whoever starts without memory there."""
    entry, schedule = resolve(sampler, "Uniform" if "Uniform" in SAMPLERS[sampler].schedules else "Automatic", 40)
    scheduler = last_steps(build(entry, schedule, 40, TRAINING, 5), entry, 40, 20, once)
    assert len(scheduler.timesteps) == sum(entry.call_counts(40)[20:] if once else entry.last_counts(40, 20))
    sigmas = noise_levels(scheduler)
    generator = torch.Generator().manual_seed(2)
    clean, noise = torch.randn(2, 1, 4, 64, 64, generator=generator)
    x = (0.5 * clean + sigmas[0] * noise) / (1 + sigmas[0] ** 2) ** 0.5 * solver_scale(scheduler, sigmas[0])
    options = {"generator": generator} if "generator" in scheduler.step.__code__.co_varnames else {}
    for t, sigma in zip(scheduler.timesteps, sigmas, strict=True):
        seen = scheduler.scale_model_input(x, t)
        scaled = seen * (1 + sigma**2) ** 0.5
        epsilon = sigma * scaled / (0.25 + sigma**2)  # the best guess of the noise
        x = scheduler.step(epsilon, t, x, return_dict=False, **options)[0]
    # First-order solvers that add fresh noise shrink the spread, and LCM, which jumps to the mean of what may be and
    # back up, the more; Langevin's walk leaves it wide: the same as in a run from the beginning.
    slack = {"LCM": 0.5, "Euler a": 0.13, "DDPM": 0.13, "TCD": 0.13, "PC VP": 0.1, "Langevin": 0.2}.get(sampler, 0.07)
    assert float(x.std()) == pytest.approx(0.5, rel=slack)


def test_a_ddim_move_lands_on_its_level() -> None:
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 1, 4, 8, 8, generator=generator, dtype=torch.float64)

    def at(sigma: float) -> torch.Tensor:
        return (x0 + sigma * noise) / (1 + sigma**2) ** 0.5

    move = DdimMove(torch.tensor([500.0]), torch.tensor([3.0, 0.75]), "epsilon")
    (there,) = move.step(noise, move.timesteps[0], at(3.0))
    torch.testing.assert_close(there, at(0.75), rtol=0, atol=1e-12)
