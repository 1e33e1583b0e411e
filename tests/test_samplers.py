"""Every sampler against plain diffusers, and the promises of its table entry: calls, evaluations, schedules, x0."""

from __future__ import annotations

import inspect
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from core import denoise, samplers
from core.engine import Engine
from core.errors import BadRequest
from core.estimates import as_epsilon, clean_estimate
from core.models.catalogue import STORYBOOK
from core.request import MAX_STEPS, Done, Preview, Request
from core.samplers import SAMPLERS, SCHEDULES
from core.samplers.build import build, explicit_timesteps, noise_levels, scheduler_class, step_options
from tests.solving import solve

NO_PREVIEW = Preview("none")
STEPS, SEED = 5, 11  # 5: one more than the longest memory (LMS keeps 4 steps)
# The embedded model too, from the day its weights are there: real latents of unit variance.
MODELS = ["eps", "v", *(["storybook"] if (STORYBOOK / "model_index.json").is_file() else [])]
PAIRS = [(label, schedule) for label, entry in SAMPLERS.items() for schedule in entry.schedules]
# No clipping, end on the first training step, count from 1: how Stable Diffusion was trained and is sampled.
_SD = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}

# What diffusers' documentation says to write for each name of Automatic1111, written out anew for this test.
DOCUMENTED: dict[str, tuple[str, dict[str, Any]]] = {
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {}),
    "DPM++ SDE": ("DPMSolverSDEScheduler", {"noise_sampler_seed": SEED}),
    "DPM++ 2M SDE": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "DPM++ 2M SDE Heun": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"}),
    "DPM++ 3M SDE": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "Euler": ("EulerDiscreteScheduler", {}),
    "LMS": ("LMSDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", {}),
    "DPM2": ("KDPM2DiscreteScheduler", {}),
    "DPM2 a": ("KDPM2AncestralDiscreteScheduler", {}),
    "DDIM": ("DDIMScheduler", _SD),
    "DDPM": ("DDPMScheduler", {"clip_sample": False, "steps_offset": 1}),
    "PLMS": ("PNDMScheduler", {"skip_prk_steps": True, **_SD}),
    "UniPC": ("UniPCMultistepScheduler", {}),
    "DEIS": ("DEISMultistepScheduler", {}),
    "LCM": ("LCMScheduler", _SD),
    "TCD": ("TCDScheduler", _SD),
}
# What diffusers lacks and this project has written: in diffusers' shape, so its pipelines run them too. What they
# compute is held against their papers in tests/test_own_solvers.py.
OWN = {label: entry.scheduler for label, entry in SAMPLERS.items() if "." in entry.scheduler}
OWN_SETTINGS = {"DDIM CFG++": {"timestep_spacing": "leading", "steps_offset": 1}}  # those of DDIM
SCHEDULE_FLAGS: dict[str, dict[str, Any]] = {
    "Uniform": {}, "Karras": {"use_karras_sigmas": True}, "Exponential": {"use_exponential_sigmas": True},
    "Beta": {"use_beta_sigmas": True}, "SGM Uniform": {"timestep_spacing": "trailing"},
    "Simple": {}, "Align Your Steps": {},
}


def ask(sampler: str, schedule: str = "Automatic", **changes: Any) -> Request:
    return Request(**{"prompt": "a red boat", "negative_prompt": "blue sofa", "model": "eps", "width": 64, "height": 64,
                      "steps": STEPS, "guidance": 5.0, "precision": "fp32", "seed": SEED, "sampler": sampler,
                      "schedule": schedule, **changes})


def finish(engine: Engine, request: Request) -> Done:
    *_, done = engine.generate(request, NO_PREVIEW)
    assert isinstance(done, Done)
    return done


@pytest.fixture(scope="module")
def pipelines(models_dir: Path) -> dict[str, diffusers.StableDiffusionPipeline]:
    pipes = {}
    for name in MODELS:
        folder = STORYBOOK if name == "storybook" else models_dir / name
        pipes[name] = diffusers.StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
        pipes[name].set_progress_bar_config(disable=True)
    return pipes


@pytest.fixture(scope="module")
def training(engine: Engine) -> dict[str, Any]:
    return engine.load("eps", "fp32").training


def test_every_sampler_of_the_registry_has_its_documented_counterpart_here() -> None:
    assert set(DOCUMENTED) | set(OWN) == set(SAMPLERS)
    assert set(SCHEDULE_FLAGS) | {"Automatic"} == set(SCHEDULES)


@pytest.mark.parametrize("model, sampler, schedule", [("eps", *pair) for pair in PAIRS] +
                         [(name, label, entry.automatic) for label, entry in SAMPLERS.items() for name in MODELS[1:]])
def test_the_latents_are_those_of_the_diffusers_pipeline(
        engine: Engine, pipelines: dict[str, Any], monkeypatch: pytest.MonkeyPatch, model: str, sampler: str,
        schedule: str) -> None:
    pipe, request = pipelines[model], ask(sampler, schedule, model=model)
    kind, settings = DOCUMENTED.get(sampler) or (OWN[sampler], OWN_SETTINGS.get(sampler, {}))
    # Stable Diffusion's own configurations leave the spacing to each sampler; one saved by diffusers pins DDIM's.
    entry = SAMPLERS[sampler]
    # diffusers' pipeline asks without the prompt above guidance 1 only: a large one, whose scale is above 1 for all
    request = request.replace(guidance=request.guidance * (4 if entry.needs_unguided else 1))
    given = {name: value for name, value in pipe.scheduler.config.items() if name != "timestep_spacing"}
    scheduler = scheduler_class(kind).from_config(given, **settings | SCHEDULE_FLAGS[schedule])
    extra: dict[str, Any] = {"eta": 0.3} if sampler == "TCD" else {}  # as its documentation calls the pipeline
    if schedule in ("Simple", "Align Your Steps"):
        extra["timesteps"] = explicit_timesteps(schedule, STEPS, scheduler.alphas_cumprod)
    before, pipe.scheduler = pipe.scheduler, scheduler
    halves: list[torch.Tensor] = []
    hook = pipe.unet.register_forward_hook(lambda module, args, out: halves.append(out[0].chunk(2)[0]))
    if entry.needs_unguided:  # which it does not hand to a scheduler
        step = scheduler.step
        monkeypatch.setattr(scheduler, "step", lambda *args, **more: step(*args, **more, unguided=halves[-1]))
    try:
        expected = pipe(request.prompt, negative_prompt=request.negative_prompt,
                        guidance_scale=request.guidance / entry.guidance_divisor,
                        num_inference_steps=STEPS, width=64, height=64, output_type="latent",
                        generator=torch.Generator("cpu").manual_seed(SEED), **extra).images
    finally:
        hook.remove()
        pipe.scheduler = before
    done = finish(engine, request)
    # 1e-4 where latents have unit variance. A random epsilon network leaves them at 20 to 60, and float32's rounding
    # grows with them (only the memory layout of the convolutions differs), so they are measured in their own std.
    std = max(1.0, float(expected.std()))
    np.testing.assert_allclose(done.latents / std, expected.numpy() / std, rtol=0, atol=1e-4)


def test_guidance_prompt_and_negative_prompt_matter_in_that_comparison(engine: Engine) -> None:
    here = finish(engine, ask("Euler")).latents
    for change in ({"guidance": 4.0}, {"prompt": "a blue sofa"}, {"negative_prompt": ""}):
        # a hundred times the tolerance above: a pipeline that ignored one of them would be seen
        assert np.abs(finish(engine, ask("Euler", **change)).latents - here).max() > 1e-2, change


@pytest.mark.parametrize("guidance", [5.0, 1.0])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_calls_and_evaluations_are_what_the_network_really_did(engine: Engine, sampler: str, guidance: float) -> None:
    forwards: list[int] = []
    unet = engine.load("eps", "fp32").unet
    hook = unet.register_forward_pre_hook(lambda module, args: forwards.append(len(args[0])))
    try:
        told = []
        for event in engine.generate(ask(sampler, guidance=guidance), NO_PREVIEW):
            told.append((event.evaluations, sum(forwards)))
    finally:
        hook.remove()
    assert len(forwards) == SAMPLERS[sampler].network_calls(STEPS)
    assert all(said == counted for said, counted in told), told
    assert sum(forwards) == len(forwards) * (2 if guidance != 1 or SAMPLERS[sampler].needs_unguided else 1)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_only_who_says_so_is_given_the_unguided_output_and_its_guidance_counts_otherwise(
        training: dict[str, Any], sampler: str) -> None:
    entry = SAMPLERS[sampler]
    scheduler = build(entry, entry.automatic, STEPS, training, SEED)
    assert getattr(scheduler, "needs_unguided", False) == entry.needs_unguided
    assert (entry.guidance_divisor != 1) <= entry.needs_unguided
    if entry.needs_unguided:  # a trajectory keeps that of a step's first call only
        assert entry.call_counts(STEPS) == [1] * STEPS and "unguided" in inspect.signature(scheduler.step).parameters


@pytest.mark.parametrize("steps", [3, 50])  # 3: the fewest that every sampler takes
@pytest.mark.parametrize("sampler, schedule", PAIRS)
def test_the_schedule_has_one_falling_noise_level_per_network_call(
        training: dict[str, Any], sampler: str, schedule: str, steps: int) -> None:
    entry = SAMPLERS[sampler]
    scheduler = build(entry, schedule, steps, training, SEED)
    assert len(scheduler.timesteps) == entry.network_calls(steps) == len(noise_levels(scheduler))
    assert [calls > 0 for calls in entry.call_counts(steps)] == [True] * steps
    firsts = np.cumsum([0, *entry.call_counts(steps)[:-1]])  # the first call of each solver step
    levels, times = (np.array([float(v) for v in values])[firsts]
                     for values in (noise_levels(scheduler), scheduler.timesteps))
    assert np.isfinite(levels).all() and (levels > 0).all()
    assert (np.diff(levels) <= 0).all(), levels
    assert (np.diff(times) <= 0).all() and times.min() >= 0 and times.max() < 1000, times


# theirs are x0 + sigma * noise
SCALED = ("DPM++ SDE", "Euler a", "Euler", "LMS", "Heun", "DPM2", "DPM2 a", "DPM++ 2S a", "Restart", "PC VE",
          "Langevin", "DPM fast")


def levels_shown(scheduler: Any) -> list[tuple[float, float]]:
    """(sigma that noise_levels says, sigma that scale_model_input divides by) at every call of a run on nothing."""
    x, seen = torch.full((1, 4, 2, 2), 3.0), []
    for level, t in zip(noise_levels(scheduler), scheduler.timesteps, strict=True):
        scaled = scheduler.scale_model_input(x, t)
        ratio = float((x / scaled).flatten()[0])
        seen.append((level, math.sqrt(max(ratio**2 - 1, 0))))
        x = scheduler.step(torch.full_like(x, 0.1), t, x, return_dict=False)[0]
    return seen


@pytest.mark.parametrize("sampler, schedule", [pair for pair in PAIRS if pair[0] in SCALED])
def test_the_noise_level_of_every_call_is_the_one_the_scheduler_scales_by(
        training: dict[str, Any], sampler: str, schedule: str) -> None:
    """Second calls of a step included: x0 and `sample` networks hang on it."""
    scheduler = build(SAMPLERS[sampler], schedule, 6, training, SEED)
    for level, shown in levels_shown(scheduler):
        assert level == pytest.approx(shown, rel=1e-3)  # sqrt(ratio^2 - 1) loses 3 digits where sigma is 0.03


WITH_CLEAN = [label for label, (kind, _) in DOCUMENTED.items()
              if kind in ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler",
                          "LMSDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
                          "DPMSolverSDEScheduler", "DDIMScheduler", "DDPMScheduler")] + list(OWN)


NO_SAMPLE = ("EulerAncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
             "DPMSolverSDEScheduler")


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("sampler", WITH_CLEAN)
def test_the_clean_estimate_is_the_one_of_schedulers_that_give_theirs(
        training: dict[str, Any], sampler: str, prediction: str) -> None:
    entry = SAMPLERS[sampler]
    scheduler = build(entry, entry.schedules[0], 6, training | {"prediction_type": prediction}, SEED)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, 4, 4, 4, generator=generator) * scheduler.init_noise_sigma
    for call, (t, level) in enumerate(zip(scheduler.timesteps, noise_levels(scheduler), strict=True)):
        scaled = scheduler.scale_model_input(x, t)
        output = torch.randn(x.shape, generator=generator)
        if prediction == "sample" and scheduler.__class__.__name__ in NO_SAMPLE:
            with pytest.raises(NotImplementedError):  # why the engine hands solvers epsilon instead
                scheduler.step(output, t, x)
            return
        stepped = scheduler.step(output, t, x, **step_options(scheduler, generator))
        first_of_step = call in np.cumsum([0, *entry.call_counts(6)[:-1]])
        if first_of_step:  # a second call's own estimate is the scheduler's business: it may start from the first's x
            # float32 at sigma 14.6, where x0 is the difference of numbers near 50: 50 * 6e-8 * 14.6
            torch.testing.assert_close(clean_estimate(scaled, output, level, prediction),
                                       stepped.pred_original_sample, rtol=1e-4, atol=1e-4)
        x = stepped.prev_sample


@pytest.mark.parametrize("sampler", ["DDIM", "DDPM", "Euler", "DPM++ 2M"])
def test_models_trained_to_full_noise_have_finite_levels_and_estimates(training: dict[str, Any], sampler: str) -> None:
    full = training | {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    scheduler = build(SAMPLERS[sampler], "SGM Uniform", 6, full, SEED)
    levels, v = noise_levels(scheduler), torch.ones(1, 4, 2, 2)
    assert np.isfinite(levels).all()
    # where nothing of the picture is left, v is its negative; x counts 2^-12 there
    assert torch.allclose(clean_estimate(v, v, levels[0], "v_prediction"), -v, atol=1e-3) or sampler == "DDPM"


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("sigma", [14.6, 1.0, 0.03])
def test_the_clean_estimate_undoes_the_definition_of_each_prediction(prediction: str, sigma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(1, 4, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    signal = 1 / math.sqrt(1 + sigma**2)
    x = signal * x0 + sigma * signal * noise
    output = {"epsilon": noise, "sample": x0, "v_prediction": signal * noise - sigma * signal * x0}[prediction]
    # float64: only rounding, times sigma where epsilon divides by a small signal
    torch.testing.assert_close(clean_estimate(x, output, sigma, prediction), x0, rtol=0, atol=1e-12)
    torch.testing.assert_close(as_epsilon(x, x0, sigma), noise, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_network_that_predicts_the_picture_gives_what_the_same_network_gives_as_epsilon(
        training: dict[str, Any], sampler: str) -> None:
    """One network, told once as x0 and once as epsilon, converted at the noise level the scheduler itself shows."""
    entry = SAMPLERS[sampler]
    shown = levels_shown(build(entry, entry.automatic, 6, training, SEED))
    sigmas = [seen if sampler in SCALED else level for level, seen in shown]
    finals = []
    for prediction in ("sample", "epsilon"):
        left = iter(sigmas)

        def answer(x: torch.Tensor, moment: denoise.Moment, prediction: str = prediction,
                   left: Iterator[float] = left) -> torch.Tensor:
            sigma, x0 = next(left), torch.tanh(x.roll(1, -1)) * 0.5 + 0.1 * x
            return x0 if prediction == "sample" else as_epsilon(x, x0, sigma)

        finals.append(solve(entry, entry.automatic, 6, training, answer, seed=SEED, prediction=prediction)[0])
    # the two differ by the sigma read back from the scaling, right to 1e-3 where it is smallest (see above)
    torch.testing.assert_close(finals[0], finals[1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("steps", [32, 40, 60])
@pytest.mark.parametrize("sampler", [label for label, entry in SAMPLERS.items() if "Beta" in entry.schedules])
def test_beta_schedules_of_many_steps_run_to_their_end(training: dict[str, Any], sampler: str, steps: int) -> None:
    """Rounded timesteps repeat there, and schedulers that search their place by timestep ran off the end."""
    entry = SAMPLERS[sampler]
    scheduler = build(entry, "Beta", steps, training, SEED)
    x = torch.ones(1, 4, 2, 2) * scheduler.init_noise_sigma
    generator = torch.Generator().manual_seed(0)
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        x = scheduler.step(scaled * 0.99, t, x, return_dict=False, **step_options(scheduler, generator))[0]
    assert torch.isfinite(x).all()


def stable_diffusion_alphas() -> torch.Tensor:
    return diffusers.EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012,
                                            beta_schedule="scaled_linear").alphas_cumprod


def test_align_your_steps_at_ten_steps_is_the_published_list() -> None:
    published = diffusers.schedulers.scheduling_utils.AysSchedules["StableDiffusionTimesteps"]
    ours = explicit_timesteps("Align Your Steps", 10, stable_diffusion_alphas())
    # The authors published noise levels with three decimals and timesteps apart from each other: turning the first into
    # the second lands within 2 of 1000 training steps.
    assert np.abs(np.array(ours) - published).max() <= 2, ours


@pytest.mark.parametrize("schedule", ["Simple", "Align Your Steps"])
def test_explicit_timesteps_fall_from_the_noisiest_without_repeats(schedule: str) -> None:
    for steps in range(1, MAX_STEPS + 1):  # a repeat is a step of no length, by which solvers divide
        times = explicit_timesteps(schedule, steps, stable_diffusion_alphas())
        assert len(times) == steps and times[0] == 999 and times[-1] >= 0
        assert all(a > b for a, b in itertools.pairwise(times)), times


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_refused_combination_says_so_in_one_line_with_the_way_out(sampler: str) -> None:
    entry = SAMPLERS[sampler]
    for schedule in SCHEDULES:
        if schedule == "Automatic" or schedule in entry.schedules:
            resolved, chosen = samplers.resolve(sampler, schedule, 30)
            assert resolved is entry and chosen in entry.schedules
            continue
        with pytest.raises(BadRequest) as refused:
            samplers.resolve(sampler, schedule, 30)
        assert refused.value.field == "schedule"
        assert "\n" not in str(refused.value) and "choose Automatic" in str(refused.value)
    for steps in range(1, entry.least_steps):
        with pytest.raises(BadRequest, match=f"take at least {entry.least_steps}") as refused:
            samplers.resolve(sampler, "Automatic", steps)
        assert refused.value.field == "steps"


@pytest.mark.parametrize("sampler, least", [("Langevin", 40), ("PC VE", 20), ("Restart", 8), ("DPM fast", 7)])
def test_samplers_that_leave_noise_in_few_steps_say_so(sampler: str, least: int) -> None:
    assert f"take {least} or more" in (samplers.verdict(sampler, "Automatic", least - 1) or "")
    assert samplers.verdict(sampler, "Automatic", least) is None


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "UniPC", "DPM++ 3M SDE", "DPM++ 2M SDE Heun"])
def test_combinations_known_to_be_bad_are_marked(sampler: str) -> None:
    assert "Beta" in (samplers.verdict(sampler, "Beta", 20) or "")
    assert samplers.verdict(sampler, "Automatic", 20) is None


def test_the_list_for_people_has_a_row_with_words_for_each_sampler() -> None:
    rows = samplers.rows()
    assert [row["name"] for row in rows] == list(SAMPLERS)
    assert all(row["words"] and "\n" not in row["words"] for row in rows)
    assert rows[1]["name"] == "DPM++ SDE" and rows[1]["network_calls_at_20_steps"] == 39  # as diffusers counts them


def test_storybooks_configuration_leaves_the_spacing_to_each_sampler() -> None:
    """As Stable Diffusion's do. Else `EulerDiscreteScheduler.from_config(pipe.scheduler.config)`, which is what people
    write, samples along DDIM's spacing, and is not the same picture as here."""
    path = STORYBOOK / "scheduler" / "scheduler_config.json"
    assert "timestep_spacing" not in json.loads(path.read_text())
