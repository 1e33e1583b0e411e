"""The distil stage against diffusers: its points and its boundary; what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import LCMScheduler, UNet2DConditionModel

from core.models.catalogue import Catalogue
from core.storybook import WEIGHTS
from core.storybook import data as d
from core.storybook import networks as n
from core.storybook import train_distil as td
from core.storybook.__main__ import main
from core.storybook.export import unpack
from core.storybook.loop import Run
from core.storybook.sampling import Parts, ddim, guided
from core.storybook.tokens import encode, make_tokenizer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A training folder with the shipped weights and a few scenes of each size."""
    made = tmp_path_factory.mktemp("distil")
    unpack(WEIGHTS, made)
    for size in (128, 256):
        scenes = d.render_many(d.CANVASES[size], d.CANVASES[size].first_seed, 16)
        (made / f"scenes{size}").mkdir()
        d.write_shard(d.shard_path(made, size, 0), scenes)
    return made


@pytest.fixture(scope="module")
def student(folder) -> td.Student:
    return td.Student(folder, CPU)


def test_the_boundary_is_that_of_the_scheduler_it_is_sampled_with():
    scheduler = LCMScheduler.from_config(n.make_scheduler().config)
    for t in (0, 19, 259, 999):
        wanted = scheduler.get_scalings_for_boundary_condition_discrete(torch.tensor(t))
        assert [float(share) for share in td.boundary(torch.tensor([t]))] == pytest.approx(
            [float(share) for share in wanted], abs=1e-6)


def test_the_teachers_path_ends_where_a_far_finer_one_does(student):
    """Against 100 steps of DDIM, another solver of the same equation: far nearer than what the words change."""
    generator = torch.Generator().manual_seed(0)
    text, unet = student._text[0], student._teacher[0]
    ids = encode(make_tokenizer(), ["a red sofa", "a white cat on a meadow"])
    x, words, silence = (torch.randn(2, 4, 16, 16, generator=generator), text(ids).last_hidden_state,
                         text(student._silence).last_hidden_state.expand(2, -1, -1))
    parts = Parts(make_tokenizer(), text, unet, None)
    fine = ddim(guided(parts, ["a red sofa", "a white cat on a meadow"], td.GUIDANCE), x, 100)
    with n.autocast(CPU):
        seen, end = student.path(x, words, silence)
    assert len(seen) == len(td.POINTS) and torch.equal(seen[0], x)
    off = float((end - fine).square().mean().sqrt())
    assert off < 0.5 * float((ddim(guided(parts, ["", ""], 1.0), x, 100) - fine).square().mean().sqrt())


def test_an_answer_is_the_schedulers_denoised_sample(student):
    scheduler = LCMScheduler.from_config(n.make_scheduler().config)
    scheduler.set_timesteps(4)
    x, words = torch.randn(1, 4, 16, 16), torch.randn(1, n.TEXT_LENGTH, n.TEXT_WIDTH)
    t = scheduler.timesteps[1]
    with torch.no_grad():
        wanted = scheduler.step(student["unet"](x, t, words).sample, t, x).denoised
        assert torch.allclose(student.answer(x, t[None], words), wanted, atol=1e-4 * float(wanted.abs().max()))


def test_it_learns_at_the_points_that_four_steps_ask_at():
    scheduler = LCMScheduler.from_config(n.make_scheduler().config)
    scheduler.set_timesteps(4)
    assert tuple(scheduler.timesteps.tolist()) == td.POINTS and set(td.POINTS) < set(td.PATH)


@pytest.fixture(scope="module")
def losses(folder) -> list[float]:
    """Of a few steps of it, which leave their network in the folder."""
    return td.distil_stage(Run(folder, 5, CPU, batch=2, steps=3))


def test_a_few_steps_of_it_change_weights_and_neither_biases_nor_norms(folder, losses):
    assert len(losses) == 3 and all(np.isfinite(losses))
    base, tuned = (UNet2DConditionModel.from_pretrained(folder / name).state_dict() for name in ("unet", "lcm"))
    changed = {name for name in base if not torch.equal(base[name], tuned[name])}
    assert changed and all(base[name].ndim > 1 for name in changed)


def test_what_was_known_of_a_path_is_taken_again(student, monkeypatch):
    """By the name of a part's first sample, and the oldest is forgotten first."""
    gone = []
    monkeypatch.setattr(student, "path", lambda x, words, silence: gone.append(x) or ([x], x))
    monkeypatch.setattr(td, "KEPT", 1)
    monkeypatch.setattr(n, "workers", lambda device: 2)
    x = torch.zeros(1)
    for name in (1, 2, 1, 2, 3, 1):
        student.known_path(name, x + name, x, x)
    assert [int(one) for one in gone] == [1, 2, 3, 1]


def test_its_network_is_exported_as_a_model_that_the_studio_sets_to_few_steps(folder, losses, tmp_path):
    out = tmp_path / "storybook-lcm"
    assert main(["export", "--data", str(folder), "--out", str(out), "--lcm"]) == 0
    wanted, made = (UNet2DConditionModel.from_pretrained(one).state_dict() for one in (folder / "lcm", out / "unet"))
    assert all(torch.equal(wanted[name].half(), made[name].half()) for name in wanted)
    info = Catalogue(tmp_path).get("storybook-lcm")
    assert info.advice and (info.advice.sampler, info.advice.steps, info.advice.guidance) == ("LCM", 4, 1)
    assert "distil" in json.loads((out / "training.json").read_text())
