"""Runs whose prompts change, are joined, or are long: against stitched runs, plain predictions and counted passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from core import denoise
from core.engine import Engine
from core.errors import BadRequest
from core.layout import predicted_evaluations
from core.request import Preview, Region, Request
from core.samplers import SAMPLERS
from core.samplers.build import build
from core.trajectory import Past, Trajectory
from tests.lines import assert_one_line
from tests.test_course import forked, resumed, run, same_file, same_run
from tests.test_engine import watched
from tests.test_regions import passes

STEPS = 6
PLAIN = Request(prompt="a red boat", model="eps", width=64, height=64, steps=STEPS, precision="fp32", seed=7)
LEFT = Region(name="left", prompt="a sofa", box=(0, 0, 0.5, 1))


def picture(engine: Engine, request: Request) -> np.ndarray:
    return run(engine, request)[1].latents


# -- schedules


@pytest.mark.parametrize("at", [1, 3, 5])
@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Heun", "Euler a", "DPM++ SDE", "PLMS", "DDIM CFG++"])
def test_a_prompt_that_changes_is_two_runs_stitched_by_a_fork(
        engine: Engine, tmp_path: Path, sampler: str, at: int) -> None:
    before = PLAIN.replace(sampler=sampler, negative_prompt="sea")
    run(engine, before, tmp_path / "before.safetensors")
    stitched = forked(engine, tmp_path / "before.safetensors", at, prompt="blue sofa", negative_prompt="room")
    share = f"{at / STEPS + 0.001:.4f}"  # what is left of a step is cut off
    changing = before.replace(prompt=f"[a red boat:blue sofa:{at}]", negative_prompt=f"[sea:room:{share}]")
    same_run(run(engine, changing), stitched)
    assert not np.array_equal(stitched[1].latents, picture(engine, before))


def test_a_regions_prompts_change_as_the_others_do(engine: Engine, tmp_path: Path) -> None:
    before = PLAIN.replace(regions=(LEFT,), bootstrap=0.4)
    run(engine, before, tmp_path / "before.safetensors")
    after = Region(name="left", prompt="blue sea", negative_prompt="room", box=LEFT.box)
    stitched = forked(engine, tmp_path / "before.safetensors", 2, regions=[after.to_dict()])
    changing = Region(name="left", prompt="[a sofa:blue sea:2]", negative_prompt="[:room:2]", box=LEFT.box)
    same_run(run(engine, before.replace(regions=(changing,))), stitched)


def test_a_prompt_that_takes_turns_is_asked_in_turn(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = engine.load("eps", "fp32"), []
    known = {name: model.encode_prompt(name) for name in ("red ", "blue ", "")}
    predict = model.predict

    def network(latents: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        asked.extend(name for row in text for name, embedding in known.items() if torch.equal(row[None], embedding))
        return predict(latents, timestep, text)

    monkeypatch.setattr(model, "predict", network)
    run(engine, PLAIN.replace(prompt="[red|blue] ", steps=4, guidance=1))
    assert asked == ["red ", "blue ", "red ", "blue "]


@pytest.mark.parametrize("prompt", ["[a red boat:blue sofa:0.5] on the [sea|room]", "a [red:blue:2] boat AND sea :0.5",
                                    "(a:1.3) red boat BREAK " + "on the sea, " * 20])
@pytest.mark.parametrize("sampler", ["DPM++ 2M", "DPM2 a", "LMS"])
def test_resumed_runs_end_in_the_same_bits_whatever_their_prompts_do(
        engine: Engine, tmp_path: Path, sampler: str, prompt: str) -> None:
    request = PLAIN.replace(sampler=sampler, prompt=prompt, negative_prompt="[sea|room]", batch=2, clip_skip=2,
                            regions=(Region(name="x", prompt="[boat:sea:3]", box=(0, 0, 0.5, 1), feather=4),))
    whole = run(engine, request, tmp_path / "whole.safetensors")
    for at in (2, 4):
        path = tmp_path / f"{at}.safetensors"
        run(engine, request, path, stop_after=at)
        with watched(engine, model=request.model) as forwards:
            same_run(whole, resumed(engine, path))
        assert sum(forwards) == whole[1].evaluations - whole[0][at - 1].evaluations
        same_file(path, tmp_path / "whole.safetensors")
        same_run(whole, forked(engine, path, at))


def test_a_batch_makes_the_pictures_that_its_seeds_make_alone(engine: Engine) -> None:
    request = PLAIN.replace(prompt="[a|b] (red:1.3) AND sea, " + "boat, " * 20, negative_prompt="[room::2]", batch=2)
    together = picture(engine, request)
    for k in range(2):
        assert np.array_equal(together[k:k + 1], picture(engine, request.single(k)))


# -- AND


@pytest.mark.parametrize("guidance, weights", [(5.0, (1.0, 1.0)), (7.5, (1.2, -0.4)), (1.0, (1.0, 1.0)),
                                               (1.0, (0.3, 0.7)), (2.0, (0.25, 0.25))])
def test_prompts_joined_by_and_are_three_plain_predictions_combined(
        engine: Engine, guidance: float, weights: tuple[float, float]) -> None:
    first, second = weights
    request = PLAIN.replace(prompt=f"a red boat :{first} AND blue sea:{second}", negative_prompt="room",
                            guidance=guidance, sampler="Euler")
    _, done = run(engine, request)
    model = engine.load("eps", "fp32")
    texts = [model.encode_prompt(text) for text in ("room", "a red boat", " blue sea")]
    scheduler = build(SAMPLERS["Euler"], SAMPLERS["Euler"].automatic, STEPS, model.training, seed=7)
    noise = torch.randn(model.latent_shape(64, 64), generator=torch.Generator("cpu").manual_seed(7))
    x = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, t)
        away, a, b = (model.predict(seen, t, text) for text in texts)
        output = (1 - guidance * (first + second)) * away + guidance * first * a + guidance * second * b
        x = scheduler.step(output, t, x, return_dict=False)[0]
    assert np.abs(done.latents - x.numpy()).max() < 1e-3 * float(x.abs().max())  # float32, a few steps, other batches
    needs_away = abs(guidance * (first + second) - 1) > 1e-9
    assert done.evaluations == STEPS * (2 + needs_away)


def test_one_prompt_alone_and_joined_to_nothing_new_are_the_guidance_of_before() -> None:
    """The formula of classifier-free guidance, bit for bit."""
    def embedding(seed: int) -> torch.Tensor:
        return torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(seed))

    def network(latents: torch.Tensor, timestep: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return torch.tanh(latents + text.mean((1, 2))[:, None, None, None])

    x, moment = torch.randn(1, 4, 6, 6), denoise.Moment(torch.tensor(500), 1.5, 0, 10)
    for scale in (1.0, 5.0, 7.3):
        one = denoise.composed([embedding(1)], [1.0], embedding(2), scale, both=scale != 1)
        found = denoise.evaluate(one, denoise.Batches(network), x, moment)
        away, towards = (network(x, moment.timestep, embedding(k)) for k in (2, 1))
        assert torch.equal(found.output, away + scale * (towards - away) if scale != 1 else towards)
        assert (found.unguided is None) == (scale == 1)


# -- costs


@pytest.mark.parametrize("changes", [
    {"prompt": "a AND b"}, {"prompt": "a AND b", "guidance": 1.0}, {"prompt": "a :0.5 AND b :0.5", "guidance": 1.0},
    {"prompt": "a AND a"}, {"prompt": "[a:b:2]AND b"}, {"prompt": "[a:sea:0.5]", "negative_prompt": "sea"},
    {"prompt": "[a|b] AND [b|a] AND a", "sampler": "Heun"}, {"prompt": "a AND b", "sampler": "DDIM CFG++"},
    {"prompt": "a AND b :-1", "guidance": 2.0, "sampler": "DPM2"},
    {"prompt": "a, " * 60, "negative_prompt": "b"},
    {"prompt": "[a:b:2]", "regions": (LEFT,), "bootstrap": 0.4},
    {"prompt": "a AND b", "regions": (Region(name="x", prompt="[b:a AND c:3]", box=(0, 0, 0.4, 1)),
                                      Region(name="y", prompt="b AND a :0.5", negative_prompt="[|sea]",
                                             box=(0.5, 0, 1, 1))), "bootstrap": 0.2, "batch": 2},
    {"prompt": "[a:b:3]", "regions": (Region(name="x", prompt="c AND d", box=(0.1, 0.1, 0.3, 0.3)),
                                      Region(name="y", prompt="[e|b]", box=(0.6, 0.6, 0.8, 0.8))),
     "width": 256, "height": 256, "crop_after": 0.4, "steps": 5},
    {"prompt": "[a|b] AND sea", "panorama": "smooth", "width": 256, "stride": 64}])
def test_what_a_prompt_costs_is_said_exactly_before_the_run(engine: Engine, changes: dict) -> None:
    request = PLAIN.replace(width=128, height=128).replace(**changes)
    counts, _ = passes(engine, request)
    assert predicted_evaluations(request, engine.catalogue.get("eps")) == sum(counts)


# -- long prompts, clip skip


def test_a_prompt_longer_than_the_encoder_reads_is_read_to_its_end(engine: Engine) -> None:
    long = "red boat, " * 20
    short, longer = (picture(engine, PLAIN.replace(prompt=long + end)) for end in ("sea", "sofa"))
    assert not np.array_equal(short, longer)
    assert run(engine, PLAIN.replace(prompt=long, steps=3))[1].steps == 3


def test_clip_skip_changes_the_picture_and_goes_along_with_a_fork(engine: Engine, tmp_path: Path) -> None:
    one, two = run(engine, PLAIN, tmp_path / "a.safetensors"), run(engine, PLAIN.replace(clip_skip=2))
    assert not np.array_equal(one[1].latents, two[1].latents)
    same_run(two, forked(engine, tmp_path / "a.safetensors", 0, clip_skip=2))
    past = Past.fork(Trajectory(tmp_path / "a.safetensors"), 3, {"clip_skip": 2})
    assert past.request.clip_skip == 2


@pytest.mark.parametrize("changes, says", [
    ({"prompt": "<lora:x:1>"}, "No LoRA named 'x'"), ({"prompt": "(a:1.2.3)"}, "no number"),
    ({"clip_skip": 3}, "2 layers"), ({"negative_prompt": "a BREAK " * 70}, "chunks"),
    ({"prompt": "[a:(b:..):0.99]"}, "no number")])
def test_what_cannot_be_read_is_said_before_the_first_step(engine: Engine, changes: dict, says: str) -> None:
    with pytest.raises(BadRequest, match=says) as told:
        next(iter(engine.generate(PLAIN.replace(**changes), Preview("none"))))
    assert_one_line(told.value)
