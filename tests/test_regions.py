"""Regions against an independent reference that steps every region by itself and averages the latents, as
MultiDiffusion's paper says; in float64, so that only the mathematics can differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from core import denoise
from core.engine import Engine
from core.errors import OutOfMemory
from core.layout import Layout, View, layout_of, predicted_cost, predicted_evaluations, views_of, window_weights
from core.models.catalogue import Catalogue
from core.request import Preview, Region, Request
from core.samplers import SAMPLERS
from core.samplers.build import build, noise_levels, solver_scale, step_options
from tests.solving import run

TRAINING = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
            "prediction_type": "epsilon"}
SIDE, STEPS, BOOTED = 12, 8, 3
SOFT = Request(width=96, height=96, regions=(
    Region(name="left", prompt="a", box=(0.0, 0.1, 0.55, 0.8), feather=8),
    Region(name="right", prompt="b", box=(0.4, 0.3, 1.0, 0.95)),  # overlaps the left one
))


def network(latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
    """A nonlinear function of everything a network sees, in float64."""
    shift = text.mean(dim=(1, 2))[:, None, None, None]
    level = float(timestep) / 1000
    return torch.tanh(1.3 * latents.roll(1, 3) + shift) * (0.4 + level) + 0.3 * latents + 0.1 * shift


def embedding(seed: int) -> Tensor:
    return torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def guided(text: Tensor, negative: Tensor, scale: float) -> denoise.Predictor:
    """Classifier-free guidance by one prompt: two evaluations, at scale 1 one."""
    return denoise.composed([text], [1.0], negative, scale, both=scale != 1)


def layout_tensors(layout: Layout) -> tuple[list[Tensor], list[Tensor | None]]:
    weights = [torch.from_numpy(w.astype(np.float64))[None, None] for w in layout.weights]
    total = sum(weights)  # float32 weights sum to 1 within 1e-7 only; here they must to 1e-16
    masks = [None, *(torch.from_numpy(m.astype(np.float64))[None, None] for m in layout.masks[1:])]
    return [w / total for w in weights], masks


def fused_run(label: str, layout: Layout, guidance: Sequence[float], booted: int, noise: Tensor) -> Tensor:
    """This project's way: one solver on the fused output."""
    scheduler = make_scheduler(label)
    weights, masks = layout_tensors(layout)
    predictors = [guided(embedding(k), embedding(99 + k), g) for k, g in enumerate(guidance)]
    boot = denoise.Bootstrap(colours(), noise, booted, seed=5) if booted else None
    predictor = denoise.regions(predictors, weights, masks, range(len(weights)), boot)
    return run(predictor, network, scheduler, SAMPLERS[label].call_counts(STEPS), noise * scheduler.init_noise_sigma)[0]


def reference_run(label: str, layout: Layout, guidance: Sequence[float], booted: int, noise: Tensor) -> Tensor:
    """The paper's way: each region has a solver of its own, and the stepped latents are averaged after every call."""
    count = len(guidance)
    schedulers = [make_scheduler(label) for _ in range(count)]
    generators = [torch.Generator().manual_seed(3) for _ in range(count)]  # the same noise for all
    weights, masks = layout_tensors(layout)
    sigmas = noise_levels(schedulers[0])
    x = noise * schedulers[0].init_noise_sigma
    step_of_call = [i for i, calls in enumerate(SAMPLERS[label].call_counts(STEPS)) for _ in range(calls)]
    boot = denoise.Bootstrap(colours(), noise, booted, seed=5)
    for call, t in enumerate(schedulers[0].timesteps):
        stepped = []
        scale = solver_scale(schedulers[0], sigmas[call])
        for k in range(count):
            seen = schedulers[k].scale_model_input(x, t)
            mask = masks[k]
            if mask is not None and step_of_call[call] < booted:
                moment = denoise.Moment(t, sigmas[call], step_of_call[call], STEPS)
                seen = boot.view(seen, mask, k, moment)
            away = network(seen, t, embedding(99 + k))
            output = away + guidance[k] * (network(seen, t, embedding(k)) - away)
            options = step_options(schedulers[k], generators[k])
            if SAMPLERS[label].needs_unguided:  # each region's own
                options["unguided"] = away
            stepped.append(schedulers[k].step(output, t, seen * scale, return_dict=False, **options)[0])
        x = sum(w * s for w, s in zip(weights, stepped, strict=True))
    return x


def make_scheduler(label: str):
    entry = SAMPLERS[label]
    schedule = "Uniform" if "Uniform" in entry.schedules and "Karras" not in entry.schedules else entry.automatic
    scheduler = build(entry, schedule, STEPS, TRAINING, seed=3)
    for name in ("sigmas", "alphas_cumprod", "alpha_t", "sigma_t", "lambda_t", "sigmas_interpol",
                 "final_alpha_cumprod"):
        if isinstance(getattr(scheduler, name, None), Tensor):
            setattr(scheduler, name, getattr(scheduler, name).double())
    return scheduler


def colours() -> Tensor:
    return torch.randn(20, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_solver_scale_undoes_what_the_scheduler_does_before_the_network():
    for label in SAMPLERS:
        scheduler = make_scheduler(label)
        x = torch.ones(1, dtype=torch.float64)
        seen = scheduler.scale_model_input(x, scheduler.timesteps[0])
        assert float(seen) * solver_scale(scheduler, noise_levels(scheduler)[0]) == pytest.approx(1, abs=1e-6), label


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("label", [label for label, entry in SAMPLERS.items() if entry.affine])
@pytest.mark.parametrize("booted", [0, BOOTED])
@pytest.mark.parametrize("masks", ["area", "paper"])
def test_one_fused_step_equals_stepping_every_region_and_averaging(label, booted, masks, noise):
    layout = layout_of(SOFT.replace(masks=masks), 8)
    ours = fused_run(label, layout, [3.0, 5.0, 1.5], booted, noise)
    theirs = reference_run(label, layout, [3.0, 5.0, 1.5], booted, noise)
    assert torch.isfinite(theirs).all()
    # Relative, because sigma-space solvers carry values of tens; what remains is rounding.
    assert (ours - theirs).abs().max() <= 1e-6 * max(1.0, float(theirs.abs().max()))


def test_equal_prompts_everywhere_equal_one_prompt_without_regions(noise):
    layout = layout_of(SOFT, 8)
    weights, _ = layout_tensors(layout)
    one = guided(embedding(1), embedding(99), 4.0)
    moment = denoise.Moment(torch.tensor(500), 1.5, 0, STEPS)
    plain = denoise.evaluate(one, denoise.Batches(network), noise, moment).output
    many = denoise.evaluate(denoise.regions([one] * 3, weights, [None] * 3, range(3)), denoise.Batches(network), noise,
                            moment).output
    assert (plain - many).abs().max() < 1e-12  # weights in float64 sum to 1 within a few roundings


@pytest.fixture(scope="module")
def layout_request(request_eps: Request) -> Request:
    return request_eps.replace(prompt="a living room", steps=10, regions=(
        Region(name="boat", prompt="a red boat", box=(0.1, 0.1, 0.5, 0.6)),
        Region(name="sofa", prompt="a blue sofa", box=(0.5, 0.4, 0.9, 0.9))))


def passes(engine: Engine, request: Request) -> tuple[list[int], int]:
    """Evaluations of each step, as counted by a hook on the real network and as reported; and the cells they had."""
    model = engine.load(request.model, request.precision)
    counted: list[torch.Size] = []
    hook = model.unet.register_forward_pre_hook(lambda _, args: counted.append(args[0].shape))
    try:
        *steps, done = engine.generate(request, Preview("none"))
    finally:
        hook.remove()
    reported = [step.evaluations for step in steps]
    assert sum(n for n, *_ in counted) == reported[-1] == done.evaluations
    return list(np.diff([0, *reported])), sum(n * h * w for n, _, h, w in counted)


@pytest.mark.parametrize(("sampler", "guidance", "booted", "rest"), [
    ("DPM++ 2M", 5.0, 6, 4), ("DPM++ 2M", 1.0, 3, 3), ("DDIM CFG++", 5.0, 6, 4), ("DDIM CFG++", 1.0, 6, 4),
    ("DDIM CFG++", 12.5, 6, 4)])
def test_a_common_negative_prompt_is_asked_once(engine, layout_request, sampler, guidance, booted, rest):
    # K = 3 prompts: 2K passes while each sees a picture of its own, K + 1 after, K without guidance; CFG++ needs the
    # answer to the negative prompt at any
    request = layout_request.replace(guidance=guidance, sampler=sampler)
    counts, _ = passes(engine, request)
    assert counts == [booted] * 2 + [rest] * 8
    assert predicted_evaluations(request, engine.catalogue.get("eps")) == sum(counts)


@pytest.mark.parametrize("label", list(SAMPLERS))
def test_every_sampler_takes_regions_and_costs_what_was_predicted(engine, layout_request, label):
    request = layout_request.replace(sampler=label, steps=4)
    counts, _ = passes(engine, request)
    assert predicted_evaluations(request, engine.catalogue.get("eps")) == sum(counts)


@pytest.mark.parametrize("changes", [
    {}, {"panorama": "smooth", "width": 256, "stride": 40}, {"panorama": "uniform", "width": 264, "wrap": True},
    {"crop_after": 0.3, "width": 256, "height": 256}])
def test_the_fused_estimate_is_the_weighted_sum_of_the_regions_own(engine, layout_request, changes):
    request = layout_request.replace(**changes)
    layout = layout_of(request, 8)
    *steps, _ = engine.generate(request, Preview("none"))
    for step in steps:
        assert sorted(step.regions_x0) == layout.visible == [0, 1, 2]
        total = sum(layout.weights[k] * own for k, own in step.regions_x0.items())
        assert np.abs(total - step.x0).max() < 1e-4 * max(1, np.abs(step.x0).max())  # float32 sums of guided outputs


def test_a_region_that_a_window_does_not_see_has_the_pictures_own_estimate_there(engine, layout_request):
    (boat, _), request = layout_request.regions, layout_request.replace(panorama="smooth", width=256, stride=128)
    request = request.replace(regions=(boat,))  # in the left of two windows that touch
    step, *_ = engine.generate(request, Preview("none"))
    own = step.regions_x0[1]  # bootstrapped: it saw another picture than the rest
    assert np.abs(own - step.x0)[..., 16:].max() < 1e-5 * np.abs(step.x0).max()
    assert np.abs(own - step.x0)[..., :16].max() > 1e-2 * np.abs(step.x0).max()


# -- crops


SMALL = (Region(name="boat", prompt="a red boat", box=(0.1, 0.1, 0.3, 0.3)),
         Region(name="sofa", prompt="a blue sofa", box=(0.6, 0.5, 0.8, 0.9), guidance=2.0, feather=4))


def cellwise(latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
    """A network that sees each cell by itself, so that what is around a cell, cropped or not, does not matter."""
    return torch.tanh(latents * (1 + float(timestep) / 1000) + text.mean((1, 2))[:, None, None, None])


@pytest.mark.parametrize("booted", [0, BOOTED])
@pytest.mark.parametrize("label", ["DPM++ 2M", "Heun", "Euler a"])
def test_what_is_cropped_comes_back_to_its_place(label, booted):
    request = Request(width=128, height=128, prompt="c", steps=STEPS, regions=SMALL)
    layout = layout_of(request, 8)
    weights, masks = layout_tensors(layout)
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    boot = denoise.Bootstrap(colours(), noise, booted, seed=5) if booted else None
    inner = [guided(embedding(k), embedding(99), 3.0) for k in range(3)]
    found = []
    for boxes in ({}, {k: (tuple(range(*_extent(w.any(1)))), tuple(range(*_extent(w.any(0)))))
                       for k, w in enumerate(layout.weights) if k}):
        predictor = denoise.regions(inner, weights, masks, range(3), boot, denoise.Crops(boxes, start=1))
        scheduler = make_scheduler(label)
        calls = SAMPLERS[label].call_counts(STEPS)
        found.append(run(predictor, cellwise, scheduler, calls, noise * scheduler.init_noise_sigma)[0])
    assert (found[0] - found[1]).abs().max() < 1e-12 * found[0].abs().max()


def _extent(used: np.ndarray) -> tuple[int, int]:
    cells = np.flatnonzero(used)
    return int(cells[0]), int(cells[-1]) + 1


@pytest.mark.parametrize("changes", [
    {}, {"guidance": 1.0}, {"bootstrap": 0.5, "crop_after": 0.2}, {"crop_after": 0.0, "sampler": "Heun"},
    {"negative_prompt": "blue", "batch": 2}, {"panorama": "smooth", "stride": 64, "bootstrap": 0},
    {"width": 264, "height": 200}])
def test_crops_cost_what_was_predicted_and_less_than_whole_pictures(engine, layout_request, changes):
    info = engine.catalogue.get("eps")
    request = layout_request.replace(**{"width": 256, "height": 256, "steps": 5, "crop_after": 0.4, "regions": SMALL,
                                        **changes})
    cost, whole = predicted_cost(request, info), predicted_cost(request.replace(crop_after=1.0), info)
    counts, cells = passes(engine, request)
    view = views_of(request, info)[0]
    assert cost.evaluations == sum(counts)
    assert cost.work == pytest.approx(cells / (len(view.rows) * len(view.columns)))
    assert whole.work == whole.evaluations
    assert cost.work < whole.work or "panorama" in changes  # the windows are as small as crops may be


def test_a_region_as_large_as_the_picture_is_never_cropped(engine, layout_request):
    request = layout_request.replace(regions=tuple(
        Region(name=prompt, prompt=prompt, box=(0, top, 1, top + 0.9)) for prompt, top in (("a boat", 0), ("b", 0.1))))
    *_, whole = engine.generate(request, Preview("none"))
    *_, cropped = engine.generate(request.replace(crop_after=0.0), Preview("none"))
    assert np.array_equal(whole.latents, cropped.latents)


def test_batched_and_sequential_passes_agree(engine, layout_request, monkeypatch):
    *_, together = engine.generate(layout_request, Preview("none"))
    batches = denoise.Batches
    monkeypatch.setattr("core.engine.denoise.Batches", lambda network, **more: batches(network, size=1, **more))
    *_, apart = engine.generate(layout_request, Preview("none"))
    assert np.abs(together.latents - apart.latents).max() < 1e-4  # float32: batched kernels sum in another order


def test_when_memory_ends_the_batch_is_halved_and_the_run_goes_on():
    sizes = []

    def small(latents, timestep, text):
        sizes.append(len(latents))
        if len(latents) > 2:
            raise OutOfMemory("no")
        return network(latents, timestep, text)

    asks = [denoise.Ask(torch.randn(1, 4, 4, 4, dtype=torch.float64), embedding(k)) for k in range(5)]
    outputs = denoise.Batches(small, size=8)(asks, torch.tensor(100))
    expected = [network(ask.x, torch.tensor(100), ask.text) for ask in asks]
    assert all(torch.allclose(a, b) for a, b in zip(outputs, expected, strict=True))
    assert sizes == [5, 2, 2, 1]


def test_batches_are_of_one_shape_even_and_bounded_in_cells():
    shapes = []

    def watched(latents, timestep, text):
        shapes.append(tuple(latents.shape))
        return network(latents, timestep, text)

    asks = [denoise.Ask(torch.randn(1, 4, side, 4, dtype=torch.float64), embedding(k))
            for k, side in enumerate([4, 8, 4, 8, 4, 4, 4, 8])]
    outputs = denoise.Batches(watched, size=4, cells=64)(asks, torch.tensor(100))
    assert [tuple(output.shape) for output in outputs] == [tuple(ask.x.shape) for ask in asks]
    expected = [network(ask.x, torch.tensor(100), ask.text) for ask in asks]
    assert all(torch.allclose(a, b) for a, b in zip(outputs, expected, strict=True))
    assert shapes == [(3, 4, 4, 4), (2, 4, 4, 4), (2, 4, 8, 4), (1, 4, 8, 4)]


def test_a_window_at_stride_8_equals_a_loop_over_windows_that_averages_stepped_latents(noise):
    """diffusers' panorama pipeline with DDIM, whose way this is: step every window, add up, divide by the count."""
    height, width, window, stride = 12, 30, 12, 1
    start = torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    spans = [(0, x, window) for x in range(0, width - window + 1, stride)]
    schedulers = [make_scheduler("DDIM") for _ in spans]
    x = start
    for t in schedulers[0].timesteps:
        value, count = torch.zeros_like(x), torch.zeros_like(x)
        for scheduler, (_, left, size) in zip(schedulers, spans, strict=True):
            seen = x[..., left:left + size]
            output = network(seen, t, embedding(0))
            value[..., left:left + size] += scheduler.step(output, t, seen, return_dict=False)[0]
            count[..., left:left + size] += 1
        x = value / count
    views = [(range(height), range(left, left + size)) for _, left, size in spans]
    shares = [torch.from_numpy(s).double()[None, None] for s in window_weights(
        [View(tuple(rows), tuple(columns)) for rows, columns in views], (height, width), smooth=False)]
    inner = guided(embedding(0), embedding(99), 1.0)
    predictor = denoise.windows([inner] * len(views), views, shares)
    ours, _ = run(predictor, network, make_scheduler("DDIM"), [1] * STEPS, start)
    assert (ours - x).abs().max() < 1e-5  # the shares are float32


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize(("width", "height"), [(1000, 512), (520, 512), (2048, 600), (512, 1304), (1000, 1000)])
@pytest.mark.parametrize("stride", [8, 64, 104, 128])
def test_windows_cover_every_cell_at_any_size(catalogue: Catalogue, width, height, stride, wrap):
    request = Request(model="eps", width=width, height=height, panorama="smooth", stride=stride, wrap=wrap)
    views = views_of(request, catalogue.get("eps"))
    shape = (height // 8, width // 8)
    total = np.zeros(shape)
    for view, share in zip(views, window_weights(views, shape, smooth=True), strict=True):
        assert len(set(view.columns)) == len(view.columns)
        np.add.at(total, np.ix_(view.rows, view.columns), share)
    assert np.abs(total - 1).max() < 1e-5


def test_fresh_noise_keeps_its_strength_where_windows_overlap():
    """Independent noise per window would shrink to 1 / sqrt(2) of its strength where two windows are averaged."""
    side, window = 64, 40
    views = [(range(side), range(0, window)), (range(side), range(side - window, side))]
    shares = [torch.from_numpy(s)[None, None] for s in window_weights(
        [View(tuple(rows), tuple(columns)) for rows, columns in views], (side, side), smooth=True)]
    silent = denoise.windows([lambda x, moment: answer(torch.zeros_like(x), x)] * 2, views, shares)
    scheduler = build(SAMPLERS["DDPM"], "Uniform", 10, TRAINING, seed=0)
    stepped, _ = run(silent, network, scheduler, [1] * 10, torch.zeros(1, 4, side, side), stop=1)
    overlap = stepped[..., side - window:window]
    outside = torch.cat([stepped[..., :side - window], stepped[..., window:]], 3)
    assert float(overlap.std() / outside.std()) == pytest.approx(1, abs=0.02)  # 4096 numbers: 1.1 % standard error


def answer(output: Tensor, x: Tensor) -> denoise.Questions:
    yield []
    return denoise.Prediction(output, x)
