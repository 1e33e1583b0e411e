"""The file of a run's kept steps: what is written comes back, at every moment, and damage is told in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from core import recorder
from core.errors import BadRequest, OutputError, TrajectoryError
from core.record import Leg, Outline, Parent, Record, calls_of
from core.recorder import Recorder
from core.request import Region, Request, Step
from core.samplers import SAMPLERS
from core.trajectory import Trajectory, runs, unfinished
from tests.lines import assert_one_line

SHAPE = (2, 4, 6, 5)
REQUEST = Request(prompt="a 🦊 in a “sea”", steps=4, batch=2, width=40, height=48, sampler="Heun", precision="fp32")


def outline(request: Request = REQUEST, **changes: Any) -> Outline:
    return replace(Outline(request, "0123456789abcdef", "cpu", "epsilon", (Leg.whole(request),)), **changes)


def step(about: Outline, k: int, unguided: bool = True, regions: tuple[int, ...] = ()) -> Step:
    """Step k of an invented run; every number in it hangs on k alone."""
    rng = np.random.default_rng(k)
    calls = about.calls[k]
    samples, outputs = rng.standard_normal((2, calls, *SHAPE), np.float32)
    sigmas = [14.0 / (k + 1) / (c + 1) for c in range(calls)]
    timesteps = [999.0 - 10 * k - c for c in range(calls)]
    record = Record(about, timesteps, sigmas, samples, outputs,
                    rng.standard_normal(SHAPE, np.float32) if unguided else None)
    own = {name: rng.standard_normal(SHAPE, np.float32) for name in regions}
    return Step(k, len(about.calls), timesteps[0], sigmas[0], 0.25 * (k + 1), 4 * (k + 1), samples[0],
                samples[0] - sigmas[0] * outputs[0], (), own, lambda: record)


def write(path: Path, about: Outline, steps: int | None = None, **options: Any) -> Path:
    writer = Recorder(path)
    for k in range(len(about.calls) if steps is None else steps):
        writer.add(step(about, k, **options))
    writer.close()
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "run.safetensors", outline())


# -- what is written comes back


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    region = Region(name="fox", prompt="a fox", box=(0, 0, 0.5, 1))
    about = outline(REQUEST.replace(regions=(region,)), regions=(0, 1), prediction="v_prediction",
                    parent=Parent("other.safetensors", 2, {"prompt": "a fox"}))
    run = Trajectory(write(tmp_path / "a.safetensors", about, regions=(0, 1)))
    assert run.outline == about and run.request == about.request and run.parent == about.parent
    assert (run.taken, run.total, run.whole, run.shape) == (4, 4, True, SHAPE)
    assert run.calls == [2, 2, 2, 1]
    for k, info in enumerate(run.steps):
        made = step(about, k, regions=(0, 1))
        record = made.record()
        assert (info.index, info.total, info.evaluations) == (k, 4, made.evaluations)
        assert info.timestep == made.timestep and info.sigma == pytest.approx(made.sigma, abs=1e-5)
        assert info.seconds == made.seconds
        assert np.array_equal(run.x_t(k), record.samples[0]) and np.array_equal(run.output(k), record.outputs[0])
        recorded = run.recorded(k)
        assert np.array_equal(recorded.samples, record.samples)
        assert np.array_equal(recorded.outputs, record.outputs)
        assert np.array_equal(recorded.unguided, record.unguided)
        assert (recorded.seconds, recorded.evaluations) == (made.seconds, made.evaluations)
        for name, own in run.regions_x0(k).items():
            assert own.dtype == np.float32
            np.testing.assert_allclose(own, made.regions_x0[name], rtol=2**-10, atol=1e-6)  # float16 rounds at 2^-11


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_x0_and_noise_make_x_t(tmp_path: Path, prediction: str) -> None:
    run = Trajectory(write(tmp_path / "a.safetensors", outline(prediction=prediction)))
    for k in range(run.total):
        signal = 1 / np.sqrt(1 + run.steps[k].sigma ** 2)
        mixed = signal * run.x0(k) + run.steps[k].sigma * signal * run.noise(k)
        np.testing.assert_allclose(mixed, run.x_t(k), rtol=0, atol=2e-5)  # float32, and sigma rounded to 1e-5
        unguided = run.unguided_x0(k)
        assert unguided is not None and unguided.shape == run.x0(k).shape == SHAPE


def test_what_a_step_does_not_have_is_none(tmp_path: Path) -> None:
    run = Trajectory(write(tmp_path / "a.safetensors", outline(guided=False), unguided=False))
    assert run.unguided_x0(0) is None and run.regions_x0(0) == {}
    mixed = outline(regions=(0, 2))  # a fork whose parent had neither guidance nor regions
    writer = Recorder(tmp_path / "b.safetensors")
    for k in range(4):
        writer.add(step(mixed, k, unguided=k > 1, regions=(0, 2) if k > 1 else ()))
    writer.close()
    run = Trajectory(writer.path)
    assert [run.unguided_x0(k) is None for k in range(4)] == [True, True, False, False]
    assert [list(run.regions_x0(k)) for k in range(4)] == [[], [], [0, 2], [0, 2]]


def test_any_reader_of_safetensors_can_read_it(path: Path) -> None:
    tensors = load_file(path)
    assert tensors["sample"].shape == (7, *SHAPE) and tensors["taken"].tolist() == [4]
    assert np.array_equal(tensors["output"][-1], Trajectory(path).output(3))


def test_it_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    about, writer = outline(), Recorder(tmp_path / "a.safetensors")
    writer.add(step(about, 0))
    reader, size = Trajectory(writer.path), writer.path.stat().st_size
    assert (reader.taken, reader.total, len(reader.steps)) == (1, 4, 1) and not reader.refresh()
    writer.add(step(about, 1))
    assert reader.taken == 1 and reader.refresh() and (reader.taken, len(reader.steps)) == (2, 2)
    assert np.array_equal(reader.x_t(1), step(about, 1).x_t)
    assert writer.path.stat().st_size == size == Trajectory(writer.path).path.stat().st_size
    assert load_file(writer.path)["taken"].tolist() == [2]
    writer.close()


@pytest.mark.parametrize("survives", range(9))
def test_killed_in_the_middle_of_a_step_the_steps_before_it_are_there(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survives: int) -> None:
    about, writer = outline(), Recorder(tmp_path / "a.safetensors")
    writer.add(step(about, 0))
    left = [survives]
    put = Recorder._put

    def killed(self: Recorder, *args: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        put(self, *args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Recorder, "_put", killed)
        writer.add(step(about, 1))
    writer.close()
    assert Trajectory(writer.path).taken == 1
    again = Recorder(writer.path, go_on=True)  # and the run goes on in the same file
    for k in range(4):
        again.add(step(about, k))
    again.close()
    whole = write(tmp_path / "b.safetensors", about)
    assert writer.path.read_bytes() == whole.read_bytes()


def test_a_file_is_gone_on_with_only_when_asked_and_only_by_its_own_run(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", outline(), steps=3)
    for about, go_on, kept in ((outline(), True, 3), (outline(), False, 1),
                               (outline(REQUEST.replace(seed=5)), True, 1)):
        writer = Recorder(path, go_on)
        writer.add(step(about, 0))
        writer.close()
        assert Trajectory(path).taken == kept


def test_lists_are_newest_first_and_pass_over_what_is_no_run(tmp_path: Path) -> None:
    for age, name in enumerate(["new", "middle", "old"]):
        path = write(tmp_path / f"2026-01-0{age}" / f"{name}.safetensors", outline(), steps=4 - age)
        os.utime(path, (1e9 - age, 1e9 - age))
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    assert [run.path.stem for run in runs(tmp_path)] == ["new", "middle", "old"]
    assert [run.path.stem for run in unfinished(tmp_path)] == ["middle", "old"]
    assert runs(tmp_path / "nowhere") == []


# -- the legs of a run


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_run_of_one_leg_makes_the_calls_of_its_sampler(sampler: str) -> None:
    request = REQUEST.replace(sampler=sampler, steps=6)
    assert calls_of([Leg.whole(request)]) == SAMPLERS[sampler].call_counts(6)


def test_another_solver_counts_its_own_calls_and_another_seed_changes_none() -> None:
    heun, euler = Leg(0, "Heun", "Uniform", 5, 1), Leg(2, "Euler", "Uniform", 5, 1, skipped=3)
    assert calls_of([heun, heun._replace(start=3, seed=9)]) == [2, 2, 2, 2, 1]
    assert calls_of([heun, euler]) == [2, 2, 1, 1]
    assert calls_of([heun, euler._replace(moved=True)]) == [2, 2, 1, 1, 1]
    assert calls_of([heun, euler, heun._replace(start=3, skipped=2)]) == [2, 2, 1, 2, 2, 1]


@pytest.mark.parametrize("name, value", [("width", 64), ("height", 64), ("batch", 1), ("model", "other")])
def test_a_fork_keeps_size_batch_and_model(name: str, value: object) -> None:
    with pytest.raises(BadRequest, match=f"keeps its parent's {name}") as refused:
        outline().changed({"prompt": "b", name: value})
    assert refused.value.field == name
    assert_one_line(refused.value)
    assert outline().changed({"prompt": "b", name: getattr(REQUEST, name)}).prompt == "b"


# -- damage


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The file with another header, everything else in its place."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    entries = json.loads(data[8:8 + length])
    change(entries)
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length:])


def damaged(path: Path, says: str) -> None:
    with pytest.raises(TrajectoryError, match=says) as told:
        Trajectory(path)
    assert_one_line(told.value)
    assert path.name in str(told.value)


@pytest.mark.parametrize("keep", [0.999, 0.5, 0.05])
def test_a_file_that_is_cut_off_says_so(path: Path, keep: float) -> None:
    path.write_bytes(path.read_bytes()[:int(path.stat().st_size * keep)])
    damaged(path, "is cut off")


@pytest.mark.parametrize("data", [b"", b"1234567", b"\x89PNG" * 100, b"\xff" * 64, b"\x02" + bytes(7) + b"{}",
                                  (100).to_bytes(8, "little") + b"[" * 100, b"\x04" + bytes(7) + b"null"])
def test_what_is_no_trajectory_is_told_so(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(data)
    damaged(tmp_path / "a.safetensors", "is not a trajectory")


def test_a_missing_file_and_a_folder_cannot_be_read(tmp_path: Path) -> None:
    damaged(tmp_path / "a.safetensors", "cannot be read")
    damaged(tmp_path, "cannot be read")


@pytest.mark.parametrize("name", ["sample", "output", "unguided", "sigma", "seconds", "evaluations", "has"])
def test_a_flipped_bit_is_found_with_its_step(path: Path, name: str) -> None:
    run = Trajectory(path)
    slot = run._slots[name]
    row = 3 if slot.shape[0] == 4 else 6
    data = bytearray(path.read_bytes())
    data[slot.begin + row * slot.row] ^= 2
    path.write_bytes(data)
    damaged(path, "damaged at step 3")
    later = Trajectory(path, check=False)
    later.x0(2)
    with pytest.raises(TrajectoryError, match="damaged at step 3"):
        later.x0(3)


@pytest.mark.parametrize("change, says", [
    (lambda h: h["__metadata__"].update(version="2"), "of format '2', this program reads '1'"),
    (lambda h: h["__metadata__"].update(request="{}"), "header contradicts itself"),
    (lambda h: h["__metadata__"].pop("model"), "header contradicts itself"),
    (lambda h: h["sample"].update(data_offsets=[0, 10**15]), "header contradicts itself"),
    (lambda h: h["sample"].update(data_offsets=[-8, 8]), "header contradicts itself"),
    (lambda h: h["sample"].update(shape=[2**40] * 5), "header contradicts itself"),
    (lambda h: h["sample"].update(shape="wide"), "header contradicts itself"),
    (lambda h: h["sample"].update(dtype="F8"), "header contradicts itself"),
    (lambda h: h.update(sample=None), "header contradicts itself"),
    (lambda h: h.update(more=h.pop("sample")), "tensors are not those of its run"),
    (lambda h: h["sample"].update(shape=[7, 2, 4, 5, 6]), "tensors are not those of its run"),
    (lambda h: h.pop("has"), "header contradicts itself"),
    (lambda h: h["__metadata__"].update(format="pt"), "is not a trajectory")])
def test_a_header_that_lies_is_not_believed(path: Path, change: Callable[[dict[str, Any]], None], says: str) -> None:
    rewritten(path, change)
    damaged(path, says)


def test_a_count_beyond_the_run_is_damage(path: Path) -> None:
    slot = Trajectory(path)._slots["taken"]
    data = bytearray(path.read_bytes())
    data[slot.begin:slot.begin + 8] = (99).to_bytes(8, "little")
    path.write_bytes(data)
    damaged(path, "counts 99 steps of 4")


@pytest.mark.parametrize("k", [-1, 4, 10**30])
def test_a_step_that_is_not_there_is_refused_with_the_range(path: Path, k: int) -> None:
    run = Trajectory(path)
    for ask in (run.x_t, run.x0, run.output, run.noise, run.unguided_x0, run.regions_x0, run.recorded):
        with pytest.raises(BadRequest, match="it holds 0 to 3") as refused:
            ask(k)
        assert_one_line(refused.value)


# -- a disk that is full


def test_a_full_disk_is_one_line_and_the_steps_before_stay_readable(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about, writer = outline(), Recorder(tmp_path / "a.safetensors")
    writer.add(step(about, 0))
    with monkeypatch.context() as patch, pytest.raises(OutputError, match="No space left") as told:
        def full(*args: object) -> int:
            raise OSError(28, "No space left on device")

        patch.setattr(recorder.os, "write", full)
        writer.add(step(about, 1))
    assert_one_line(told.value)
    assert Trajectory(writer.path).taken == 1
    writer.drop()
    assert list(tmp_path.iterdir()) == []
