"""Sampler entry + schedule + model -> a diffusers scheduler with its timesteps set."""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import json
import math
import warnings
from collections.abc import Mapping
from typing import Any

import diffusers
import numpy as np
import torch

from core.samplers import plms
from core.samplers.table import Sampler

# DPM++ SDE hands its Brownian motion times rounded to float32; torchsde moves them back inside, and need not say so.
warnings.filterwarnings("ignore", "Should have t[ab][<>]=t[01] but got", UserWarning, "torchsde")

# What a scheduler must know of the model's training; everything else is the sampler's own.
_TRAINING = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas",
             "prediction_type", "rescale_betas_zero_snr")
_FLAGS = {"Karras": "use_karras_sigmas", "Exponential": "use_exponential_sigmas", "Beta": "use_beta_sigmas"}

# Ten steps optimised for Stable Diffusion 1.5, as noise levels: Sabour, Fidler and Kreis,
# "Align Your Steps", arXiv:2404.14507, and the quickstart the authors published with it.
_AYS_SIGMAS = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)


def build(entry: Sampler, schedule: str, steps: int, training: Mapping[str, Any], seed: int) -> Any:
    """A fresh scheduler whose `timesteps` hold one entry per network call.

    schedule: resolved, never "Automatic". training: the model's scheduler_config.json.
    seed: feeds schedulers that draw their noise themselves (Brownian motion of DPM++ SDE).
    """
    kind = scheduler_class(entry.scheduler)
    config = {name: training[name] for name in _TRAINING if training.get(name) is not None}
    config |= {"timestep_spacing": "trailing" if schedule == "SGM Uniform" else entry.spacing}
    config |= {"noise_sampler_seed": seed, **entry.settings}
    if schedule in _FLAGS:
        config[_FLAGS[schedule]] = True
    known = inspect.signature(kind.__init__).parameters
    scheduler = copy.deepcopy(_made(kind, json.dumps({k: v for k, v in config.items() if k in known}, sort_keys=True)))
    if schedule in ("Simple", "Align Your Steps"):
        scheduler.set_timesteps(timesteps=explicit_timesteps(schedule, steps, scheduler.alphas_cumprod))
    elif "original_inference_steps" in known:  # LCM, TCD: a subset of the steps they were distilled from
        scheduler.set_timesteps(steps, original_inference_steps=max(steps, scheduler.config.original_inference_steps))
    else:
        scheduler.set_timesteps(steps)
    if hasattr(scheduler, "set_begin_index"):
        # Otherwise the first index is searched by timestep, and rounded timesteps may repeat: Beta schedules
        # of 32 steps and more then start at the wrong place and run off the end.
        scheduler.set_begin_index(0)
    return scheduler


@functools.lru_cache(maxsize=64)
def _made(kind: Any, config: str) -> Any:
    """A scheduler as its constructor leaves it, never stepped: that of diffusers' DPM2 goes through all 1,000 training
    steps, several tenths of a second."""
    return kind(**json.loads(config))


def scheduler_class(name: str) -> Any:
    """`EulerDiscreteScheduler` is diffusers' own, `restart.RestartScheduler` that of core/samplers/restart.py."""
    module, _, own = name.rpartition(".")
    return getattr(importlib.import_module(f"core.samplers.{module}") if module else diffusers, own)


def noise_levels(scheduler: Any) -> list[float]:
    """sigma = sqrt(1 - a) / sqrt(a) of the latents at every network call, the noisiest first."""
    calls = len(scheduler.timesteps)
    if not hasattr(scheduler, "sigmas"):
        kept = scheduler.alphas_cumprod[scheduler.timesteps.long().cpu()].double()
        kept = kept.clamp(min=2**-24)  # trained to full noise it is 0: diffusers' other schedulers take this instead
        return [float(s) for s in ((1 - kept) / kept).sqrt()]
    levels = [float(s) for s in scheduler.sigmas[:calls]]
    # Heun asks its second question where the step ends, DPM2 and DPM++ SDE at a point between, kept elsewhere.
    kind = type(scheduler)
    for second in range(1, calls, 2):
        if kind is diffusers.KDPM2DiscreteScheduler:
            levels[second] = float(scheduler.sigmas_interpol[second])
        elif kind is diffusers.KDPM2AncestralDiscreteScheduler:
            levels[second] = float(scheduler.sigmas_interpol[second - 1])
        elif kind is diffusers.DPMSolverSDEScheduler:
            levels[second] = math.sqrt(levels[second - 1] * float(scheduler.sigmas[second]))  # halfway in log sigma
    return levels


def solver_scale(scheduler: Any, sigma: float) -> float:
    """The solver's latents / what the network sees. Sigma-space solvers (Euler) keep x0 + sigma noise unscaled."""
    # Where it is 1, diffusers keeps a plain number; the others compute it, from what may be a run's last steps only.
    return (1 + sigma**2) ** 0.5 if isinstance(getattr(type(scheduler), "init_noise_sigma", None), property) else 1.0


def last_steps(scheduler: Any, entry: Sampler, steps: int, skipped: int, once: bool = False) -> Any:
    """A fresh scheduler of `steps` steps, made to begin after the first `skipped` of them: as a shorter run, without
    memory. (Handing it a later `begin_index` is not enough: LMS then weighs steps that it has not seen.)

    once: the first of them asks the network no more often than it does in the whole run.
    """
    times, counts = scheduler.timesteps, entry.call_counts(steps)
    first = sum(counts[:skipped])
    if entry.calls == "plms" and not once:  # its first step asks again where the second begins
        own = [0, *range(2, len(times))][skipped:]
        scheduler.timesteps = times[own[:2] + own[1:]]
        return scheduler
    if entry.calls == "plms":
        scheduler = plms.PlainStart.from_config(scheduler.config)
        scheduler.set_timesteps(steps)
    scheduler.timesteps = times[first:]
    for name, value in list(vars(scheduler).items()):
        if name.startswith("sigmas") and value is not None:
            setattr(scheduler, name, value[first:])
    if entry.scheduler in ("LCMScheduler", "TCDScheduler"):  # no noise in the last step, which they find by this
        scheduler.num_inference_steps = steps - skipped
    return scheduler


def first_levels(scheduler: Any, entry: Sampler, steps: int, skipped: int = 0) -> list[float]:
    """sigma at the first network call of each solver step of a fresh scheduler, whose first `skipped` were cut off."""
    counts, levels = entry.last_counts(steps, skipped), noise_levels(scheduler)
    return [levels[sum(counts[:k])] for k in range(steps - skipped)]


def explicit_timesteps(schedule: str, steps: int, alphas_cumprod: torch.Tensor) -> list[int]:
    """Timesteps of the schedules that diffusers has no flag for, from the noisiest down, without repeats.

    Simple: every n-th training step, as in ComfyUI's and A1111's `simple_scheduler`.
    """
    count = len(alphas_cumprod)
    if schedule == "Simple":
        return [count - 1 - int(i * count / steps) for i in range(steps)]
    kept = alphas_cumprod.double().numpy()
    trained = np.log(np.sqrt((1 - kept) / kept))
    places: np.ndarray = np.linspace(0, len(_AYS_SIGMAS) - 1, steps) if steps > 1 else np.zeros(1)
    if steps == len(_AYS_SIGMAS) - 1:
        places = np.arange(steps)  # the published ten, whose last interval ends in the clean picture
    wanted = np.interp(places, np.arange(len(_AYS_SIGMAS)), np.log(_AYS_SIGMAS))
    times = [int(t) for t in np.interp(wanted, trained, np.arange(count)).round()]
    for i in reversed(range(steps - 1)):  # above 73 steps some round to the same one, and solvers divide by zero
        times[i] = max(times[i], times[i + 1] + 1)
    return times


def step_options(scheduler: Any, generator: torch.Generator) -> dict[str, Any]:
    """Keyword arguments for `scheduler.step`: the generator where noise is drawn from it."""
    takes = inspect.signature(scheduler.step).parameters
    return {"generator": generator} if "generator" in takes else {}
