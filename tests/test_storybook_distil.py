"""The distil stage against diffusers: its points, its boundary, its LoRA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import LCMScheduler, UNet2DConditionModel
from safetensors.torch import save_file

from core.storybook import WEIGHTS
from core.storybook import data as d
from core.storybook import networks as n
from core.storybook import train_distil as td
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


def test_a_few_steps_of_it_change_weights_and_neither_biases_nor_norms(folder):
    losses = td.distil_stage(Run(folder, 5, CPU, batch=2, steps=3))
    assert len(losses) == 3 and all(np.isfinite(losses))
    base, tuned = (UNet2DConditionModel.from_pretrained(folder / name).state_dict() for name in ("unet", "quick"))
    changed = {name for name in base if not torch.equal(base[name], tuned[name])}
    assert changed and all(base[name].ndim > 1 for name in changed)


def test_the_difference_is_a_lora_that_diffusers_loads(folder, tmp_path):
    base, tuned = (UNet2DConditionModel.from_pretrained(folder / "unet") for _ in range(2))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.ndim > 1:  # of low rank, as what is learnt in a short time is
                flat = parameter.flatten(1)
                a, b = (torch.randn(side, 3, generator=generator) for side in flat.shape)
                flat += 0.02 * flat.std() * (a @ b.T)
    asked = {"sample": torch.randn(1, 4, 16, 16), "timestep": 500,
             "encoder_hidden_states": torch.randn(1, n.TEXT_LENGTH, n.TEXT_WIDTH)}
    with torch.no_grad():
        before, wanted = base(**asked).sample, tuned(**asked).sample
        save_file(td.difference(base, tuned), tmp_path / "quick.safetensors")
        base.load_lora_adapter(str(tmp_path), weight_name="quick.safetensors", prefix="unet")
        found = base(**asked).sample
    assert (found - wanted).abs().max() < 0.01 * (before - wanted).abs().max()


def test_a_rank_too_low_leaves_out_the_smallest_directions(folder):
    base, tuned = (UNet2DConditionModel.from_pretrained(folder / "unet") for _ in range(2))
    layer = dict(tuned.named_modules())["mid_block.attentions.0.proj_in"]
    change = torch.randn(192, 192, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        layer.weight += change[:, :, None, None]
    held = td.difference(base, tuned, 16)
    name = "unet.mid_block.attentions.0.proj_in"
    made = (held[f"{name}.lora_B.weight"].float().flatten(1) @ held[f"{name}.lora_A.weight"].float().flatten(1))
    left = torch.linalg.svdvals(change)[16:]
    assert float((change - made).norm()) == pytest.approx(float(left.norm()), rel=0.01)
