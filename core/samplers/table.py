"""The samplers: label -> diffusers scheduler, its settings, and what is known about it.

Data only (no torch), so that the page can show the list before any heavy import.
Adding a sampler diffusers has: one entry here; the tests run over the registry.
Labels and Automatic schedules are those of Automatic1111 (modules/sd_samplers_kdiffusion.py).
"""

from __future__ import annotations

from collections.abc import Mapping
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

Calls = Literal["one", "two", "plms"]


@dataclass(frozen=True)
class Sampler:
    """One entry of the list. `scheduler` is a class name in diffusers, `settings` go to its config."""

    label: str
    scheduler: str
    words: str  # one line for people
    schedules: tuple[str, ...]  # accepted, apart from "Automatic"
    automatic: str = "Uniform"  # what "Automatic" means
    settings: Mapping[str, Any] = field(default_factory=dict)
    calls: Calls = "one"  # network calls per solver step: "two" after the first half, "plms" one extra in step 1
    stochastic: bool = False
    least_steps: int = 1  # fewer explode or stay blank, measured on an exactly solvable Gaussian
    spacing: str = "linspace"  # timestep_spacing of the Uniform schedule

    def call_counts(self, steps: int) -> list[int]:
        """Network calls of each solver step, len == steps. Heun-like solvers end on a single call."""
        if self.calls == "two":
            return [2] * (steps - 1) + [1]
        if self.calls == "plms":
            return [2] + [1] * (steps - 1) if steps > 1 else [1]
        return [1] * steps

    def network_calls(self, steps: int) -> int:
        return sum(self.call_counts(steps))


SAMPLERS: Registry[Sampler] = Registry("sampler", "sampler")

_SIGMAS = ("Uniform", "Karras", "Exponential", "Beta", "SGM Uniform")  # by configuration flags
_EXPLICIT = ("Simple", "Align Your Steps")  # by handing the scheduler its own timesteps
_VP = MappingProxyType({"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1})
_BLANK = 2  # 1 step of a linspace schedule leaves the picture near blank
_EXPLODES = 3  # 2 steps of DPM2-like solvers explode: std 5 to 14 where 0.5 is right


def _add(label: str, scheduler: str, words: str, schedules: tuple[str, ...], **rest: Any) -> None:
    SAMPLERS.add(label, Sampler(label, scheduler, words, schedules, **rest))


_add("DPM++ 2M", "DPMSolverMultistepScheduler", "sharp and quick, the usual choice at 15 to 30 steps",
     _SIGMAS + _EXPLICIT, automatic="Karras")
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
     _SIGMAS + _EXPLICIT, least_steps=_BLANK)
_add("LMS", "LMSDiscreteScheduler", "linear multistep, remembers four steps", _SIGMAS, least_steps=_BLANK)
_add("Heun", "HeunDiscreteScheduler", "second order, asks the network twice a step",
     _SIGMAS, calls="two", least_steps=_EXPLODES)
_add("DPM2", "KDPM2DiscreteScheduler", "second order by the midpoint, asks twice a step",
     _SIGMAS, automatic="Karras", calls="two", least_steps=_EXPLODES)
_add("DPM2 a", "KDPM2AncestralDiscreteScheduler", "DPM2 with fresh noise at each step",
     _SIGMAS, automatic="Karras", calls="two", stochastic=True, least_steps=_EXPLODES)
_add("DDIM", "DDIMScheduler", "the classic deterministic sampler (Song et al. 2020)",
     ("Uniform", "SGM Uniform"), settings=_VP, spacing="leading")
_add("DDPM", "DDPMScheduler", "the original random walk (Ho et al. 2020), wants many steps",
     ("Uniform", "SGM Uniform"), settings={"clip_sample": False, "steps_offset": 1}, stochastic=True,
     spacing="leading")
_add("PLMS", "PNDMScheduler", "pseudo linear multistep (Liu et al. 2022), one extra call in the first step",
     ("Uniform", "SGM Uniform"),
     settings={"skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1},
     calls="plms", spacing="leading")
_add("UniPC", "UniPCMultistepScheduler", "predictor and corrector, good below 15 steps", _SIGMAS)
_add("DEIS", "DEISMultistepScheduler", "exponential integrator (Zhang & Chen 2022), good below 15 steps", _SIGMAS)
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
    return None


def rows() -> list[dict[str, Any]]:
    """One dictionary per sampler, for lists: its schedules, and what 20 steps cost in network calls."""
    return [{"name": s.label, "words": s.words, "schedules": ["Automatic", *s.schedules], "automatic": s.automatic,
             "stochastic": s.stochastic, "network_calls_at_20_steps": s.network_calls(20),
             "least_steps": s.least_steps}
            for s in SAMPLERS.values()]


# Std of samples on a Gaussian of std 0.50 at 20 steps: 2M and UniPC 0.58, 3M SDE 0.73, 2M SDE Heun 0.81.
_BETA_BLURS = ("DPM++ 2M", "UniPC", "DPM++ 3M SDE", "DPM++ 2M SDE Heun")


def _one_of(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]
