"""The samplers: label -> diffusers scheduler, its settings, and what is known about it.

Data only (no torch), so that the page can show the list before any heavy import.
Adding a sampler diffusers has: one entry here. One it lacks: also a file beside this one, on ladder.py.
The tests run over the registry.
Labels and Automatic schedules are those of Automatic1111 (modules/sd_samplers_kdiffusion.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from core.errors import BadRequest
from core.registry import Registry

SCHEDULES: Registry[str] = Registry("schedule", "schedule")
for _name, _words in {
    "Automatic": "what suits the sampler best",
    "Uniform": "steps evenly spaced in training time",
    "Karras": "more steps where the noise is small: fine detail (Karras et al. 2022)",
    "Exponential": "steps evenly spaced in the logarithm of the noise",
    "Beta": "more steps at both ends, fewer between (Lee et al. 2024)",
    "SGM Uniform": "evenly spaced, starts from full noise: for few steps and distilled models",
    "Simple": "every n-th training step, counted from the noisiest",
    "Align Your Steps": "spacing optimised for Stable Diffusion 1.5 (Sabour et al. 2024)",
}.items():
    SCHEDULES.add(_name, _words)

LANGEVIN_STEPS = 5  # of annealed Langevin dynamics at each noise level

# The form's guidance becomes the lambda of CFG++, made for 0 to 1, as in Automatic1111's "DDIM CFG++"
# (github.com/AUTOMATIC1111/stable-diffusion-webui/pull/16035; `ddim_cfgpp` of modules/sd_samplers_timesteps_impl.py).
CFGPP_DIVISOR = 12.5


def restart_step(steps: int) -> int:
    """The step at whose level Restart goes back up: on Karras levels of Stable Diffusion's range (14.6 to 0.029) that
    nearest to sigma 0.1, where Automatic1111 does (`restart_sampler` of modules/sd_samplers_extra.py)."""
    return round(0.866 * (steps - 1))


def restarts(steps: int) -> tuple[int, int]:
    """(how often Restart goes back up, Heun steps down again each time).

    Twice from 18 steps on the way down, as Automatic1111 from 36 with the restarts' counted in. It takes half as many
    steps down again as there are on the way down; here it is a quarter.
    """
    return (2, steps // 4) if steps >= 18 else (1, max(3, steps // 2))


def _restart_calls(steps: int) -> list[int]:
    counts = [2] * (steps - 1) + [1]
    if steps > 1:
        times, down = restarts(steps)
        counts[restart_step(steps) - 1] += 2 * times * down
    return counts


Calls = Literal["one", "two", "plms", "restart", "langevin"]
_CALLS: dict[Calls, Callable[[int], list[int]]] = {
    "one": lambda steps: [1] * steps,
    "two": lambda steps: [2] * (steps - 1) + [1],  # Heun-like solvers end on a single call
    "plms": lambda steps: [2] + [1] * (steps - 1) if steps > 1 else [1],
    "restart": _restart_calls,
    "langevin": lambda steps: [LANGEVIN_STEPS] * (steps - 1) + [LANGEVIN_STEPS + 1],  # the last only denoises
}


@dataclass(frozen=True)
class Sampler:
    """One entry of the list. `settings` go to the scheduler's config."""

    label: str
    scheduler: str  # a class of diffusers, or module.Class of this package
    words: str  # one line for people
    schedules: tuple[str, ...]  # accepted, apart from "Automatic"
    automatic: str = "Uniform"  # what "Automatic" means
    settings: Mapping[str, Any] = field(default_factory=dict)
    calls: Calls = "one"  # how many network calls each solver step makes, see _CALLS
    stochastic: bool = False
    order: int | None = None  # the error of the probability flow falls as steps^-order, see below; None: stochastic
    affine: bool = True  # a step is affine in the network's output, so that fusing regions is averaging their steps
    needs_unguided: bool = False  # a step takes the output without the prompts too, which is asked at any guidance
    guidance_divisor: float = 1.0  # what the form's guidance is divided by before it weighs the prompts
    least_steps: int = 1  # fewer explode or stay blank, measured on an exactly solvable Gaussian
    spacing: str = "linspace"  # timestep_spacing of the Uniform schedule

    def call_counts(self, steps: int) -> list[int]:
        """Network calls of each solver step, len == steps."""
        return _CALLS[self.calls](steps)

    def last_counts(self, steps: int, skipped: int) -> list[int]:
        """Network calls of the steps that are left where the first `skipped` of `steps` were another solver's."""
        return self.call_counts(steps - skipped) if self.calls == "plms" else self.call_counts(steps)[skipped:]

    def network_calls(self, steps: int) -> int:
        return sum(self.call_counts(steps))


# The orders are measured on an exactly solvable Gaussian, and are the papers'. UniPC of order 2 gains one by its
# corrector (Zhao et al. 2023, arXiv:2302.04867, theorem 3.1). PLMS takes its slopes from a formula of order 4 but moves
# by DDIM's, and converges with order 2 (Liu et al. 2022, arXiv:2202.09778, theorem 3.2). On Karras levels, whose
# logarithms are spaced smoothly: on Uniform ones the last steps stay long in log sigma however many there are, and
# from 80 to 160 steps DPM++ 2M shows as 0.9 there, UniPC as 1.1, DPM2 as 1.7, LMS as 3.3.
SAMPLERS: Registry[Sampler] = Registry("sampler", "sampler")

_SIGMAS = ("Uniform", "Karras", "Exponential", "Beta", "SGM Uniform")  # by configuration flags
_FALLING = tuple(name for name in _SIGMAS if name != "Beta")  # whose strides leave them std 0.39 to 0.95 for 0.5
_EXPLICIT = ("Simple", "Align Your Steps")  # by handing the scheduler its own timesteps
_VP = MappingProxyType({"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1})
_BLANK = 2  # 1 step of a linspace schedule leaves the picture near blank
_EXPLODES = 3  # 2 steps of DPM2-like solvers explode: std 5 to 14 where 0.5 is right


def _add(label: str, scheduler: str, words: str, schedules: tuple[str, ...], **rest: Any) -> None:
    SAMPLERS.add(label, Sampler(label, scheduler, words, schedules, **rest))


_add("DPM++ 2M", "DPMSolverMultistepScheduler", "sharp and quick, the usual choice at 15 to 30 steps",
     _SIGMAS + _EXPLICIT, automatic="Karras", order=2)
_add("DPM++ SDE", "DPMSolverSDEScheduler", "rich detail, asks the network twice a step, fresh noise",
     _SIGMAS, automatic="Karras", calls="two", stochastic=True, least_steps=_EXPLODES)
_add("DPM++ 2M SDE", "DPMSolverMultistepScheduler", "2M with fresh noise at each step: more texture",
     _SIGMAS + _EXPLICIT, automatic="Exponential", settings={"algorithm_type": "sde-dpmsolver++"}, stochastic=True)
_add("DPM++ 2M SDE Heun", "DPMSolverMultistepScheduler", "2M SDE with Heun's correction",
     _SIGMAS + _EXPLICIT, automatic="Exponential",
     settings={"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"}, stochastic=True)
_add("DPM++ 3M SDE", "DPMSolverMultistepScheduler", "third order with fresh noise, for 25 steps and more",
     _SIGMAS + _EXPLICIT, automatic="Exponential",
     settings={"algorithm_type": "sde-dpmsolver++", "solver_order": 3}, stochastic=True)
_add("Euler a", "EulerAncestralDiscreteScheduler", "lively: each step adds noise again, never settles",
     ("Uniform", "SGM Uniform"), stochastic=True, least_steps=_BLANK)
_add("Euler", "EulerDiscreteScheduler", "the plainest solver: straight lines along the flow",
     _SIGMAS + _EXPLICIT, least_steps=_BLANK, order=1)
_add("LMS", "LMSDiscreteScheduler", "linear multistep, remembers four steps", _SIGMAS, least_steps=_BLANK, order=4)
_add("Heun", "HeunDiscreteScheduler", "second order, asks the network twice a step",
     _SIGMAS, calls="two", least_steps=_EXPLODES, order=2)
_add("DPM2", "KDPM2DiscreteScheduler", "second order by the midpoint, asks twice a step",
     _SIGMAS, automatic="Karras", calls="two", least_steps=_EXPLODES, order=2)
_add("DPM2 a", "KDPM2AncestralDiscreteScheduler", "DPM2 with fresh noise at each step",
     _SIGMAS, automatic="Karras", calls="two", stochastic=True, least_steps=_EXPLODES)
_add("DDIM", "DDIMScheduler", "the classic deterministic sampler (Song et al. 2020)",
     ("Uniform", "SGM Uniform"), settings=_VP, spacing="leading", order=1)
_add("DDIM CFG++", "ddim_cfgpp.DDIMCFGPPScheduler",
     "DDIM that guides the picture, not the noise (Chung et al. 2024), made for guidance up to 12.5",
     _SIGMAS + _EXPLICIT, settings={"steps_offset": 1}, spacing="leading", order=1, least_steps=_BLANK,
     needs_unguided=True, guidance_divisor=CFGPP_DIVISOR)
_add("DDPM", "DDPMScheduler", "the original random walk (Ho et al. 2020), wants many steps",
     ("Uniform", "SGM Uniform"), settings={"clip_sample": False, "steps_offset": 1}, stochastic=True,
     spacing="leading")
_add("PLMS", "PNDMScheduler", "pseudo linear multistep (Liu et al. 2022), one extra call in the first step",
     ("Uniform", "SGM Uniform"),
     settings={"skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1},
     calls="plms", spacing="leading", order=2)
_add("DPM fast", "dpm_fast.DPMFastScheduler", "singlestep DPM-Solver, one call a step: third order in groups of three",
     ("Exponential",), automatic="Exponential", order=3, least_steps=_EXPLODES)
_add("UniPC", "UniPCMultistepScheduler", "predictor and corrector, good below 15 steps", _SIGMAS, order=3)
_add("DEIS", "DEISMultistepScheduler", "exponential integrator (Zhang & Chen 2022), good below 15 steps",
     _SIGMAS, order=2)
_add("DPM++ 2S a", "dpmpp_2s_a.DPMPP2SAncestralScheduler", "one-step relative of 2M with fresh noise at each step",
     _SIGMAS + _EXPLICIT, automatic="Karras", calls="two", stochastic=True, least_steps=_BLANK)
_add("Restart", "restart.RestartScheduler", "Heun that goes back to much noise and down again: fewer errors stay",
     ("Karras", "Exponential", "Uniform"), automatic="Karras", calls="restart", stochastic=True, least_steps=_EXPLODES)
_add("Improved DDPM", "improved_ddpm.ImprovedDDPMScheduler", "DDPM for fewer steps: noise between its two bounds",
     _SIGMAS, stochastic=True, least_steps=_BLANK)
_add("PC VP", "predictor_corrector.PredictorCorrectorVP", "score SDE: DDPM's step, then one of Langevin's walk",
     _FALLING, automatic="Karras", calls="two", stochastic=True, least_steps=_EXPLODES, affine=False)
_add("PC VE", "predictor_corrector.PredictorCorrectorVE", "score SDE: reverse diffusion, then one of Langevin's walk",
     _FALLING, automatic="Karras", calls="two", stochastic=True, least_steps=_EXPLODES, affine=False)
_add("Langevin", "annealed_langevin.AnnealedLangevinScheduler", "annealed random walk, five calls at each noise level",
     _FALLING, automatic="Exponential", calls="langevin", stochastic=True, least_steps=_EXPLODES)
_add("LCM", "LCMScheduler", "for consistency-distilled models, 4 to 8 steps",
     ("Uniform",), settings=_VP, stochastic=True, spacing="leading")
_add("TCD", "TCDScheduler", "for trajectory-consistency models, 4 to 8 steps",
     ("Uniform",), settings=_VP, stochastic=True, spacing="leading")


def resolve(sampler: str, schedule: str, steps: int) -> tuple[Sampler, str]:
    """The entry and the schedule that "Automatic" stands for.

    Raises BadRequest for unknown names and for combinations that cannot give a picture.
    """
    entry = SAMPLERS[sampler]
    SCHEDULES[schedule]
    chosen = entry.automatic if schedule == "Automatic" else schedule
    if chosen not in entry.schedules:
        raise BadRequest(f"{sampler} has no {chosen} schedule: choose Automatic or {_one_of(entry.schedules)}.",
                         "schedule")
    if steps < entry.least_steps:
        raise BadRequest(f"{sampler} gives no picture at {steps} step{'s' * (steps > 1)}: take at least "
                         f"{entry.least_steps}.", "steps")
    return entry, chosen


def verdict(sampler: str, schedule: str, steps: int) -> str | None:
    """What is known to go wrong with a combination that is allowed all the same; None if nothing is."""
    entry, chosen = resolve(sampler, schedule, steps)
    if chosen == "Beta" and entry.label in _BETA_BLURS and steps <= 24:
        return (f"{sampler} with a Beta schedule comes out with too much contrast at {steps} steps: "
                "take more steps, or Karras.")
    if entry.label in ("LCM", "TCD"):
        return f"{sampler} is made for models distilled for it: with others the picture stays soft."
    if entry.label == "DDPM" and steps < 50:
        return f"DDPM walks slowly: {steps} steps leave it grainy, 50 or more suit it."
    if steps < _NOISY_BELOW.get(entry.label, 0):
        return f"{sampler} leaves noise in the picture at {steps} steps: take {_NOISY_BELOW[entry.label]} or more."
    return None


def rows() -> list[dict[str, Any]]:
    """One dictionary per sampler, for lists: its schedules, and what 20 steps cost in network calls."""
    return [{"name": s.label, "words": s.words, "schedules": ["Automatic", *s.schedules], "automatic": s.automatic,
             "stochastic": s.stochastic, "order": s.order, "network_calls_at_20_steps": s.network_calls(20),
             "least_steps": s.least_steps}
            for s in SAMPLERS.values()]


# Fewer leave samples of a Gaussian of std 0.50 with 0.55 and more: 0.61 for Langevin at 20, 0.70 for PC VE at 10, 0.73
# for DPM fast at 5.
_NOISY_BELOW = {"Langevin": 40, "PC VE": 20, "Restart": 8, "DPM fast": 7}
# Std of samples on a Gaussian of std 0.50 at 20 steps: 2M and UniPC 0.58, 3M SDE 0.73, 2M SDE Heun 0.81.
_BETA_BLURS = ("DPM++ 2M", "UniPC", "DPM++ 3M SDE", "DPM++ 2M SDE Heun")


def _one_of(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]
