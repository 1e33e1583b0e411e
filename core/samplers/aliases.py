"""What samplers and schedules are called elsewhere: one table, from other programs' names to ours.

Sources: ComfyUI, comfy/samplers.py (SAMPLER_NAMES, SCHEDULER_NAMES); InvokeAI, backend/stable_diffusion/schedulers;
Automatic1111 and Forge, modules/sd_samplers_kdiffusion.py and sd_schedulers.py; SD.Next,
modules/sd_samplers_diffusers.py.
A name that stands here takes the same steps there, up to rounding and the noise; any other one is unknown.
"""

from __future__ import annotations

from core.samplers.table import SAMPLERS, SCHEDULES

# ours -> theirs, beyond the ways of writing that `_squashed` makes one
_SAMPLERS: dict[str, tuple[str, ...]] = {
    "Euler a": ("euler_ancestral",),
    "LMS": ("LMSD",),
    "DPM2": ("dpm_2", "kdpm_2"),
    "DPM2 a": ("dpm_2_ancestral", "kdpm_2_a"),
    "DPM++ 2M": ("dpmpp_2m", "DPM++"),
    "DPM++ SDE": ("dpmpp_sde", "dpmpp_sde_gpu", "DPM SDE"),
    "DPM++ 2M SDE": ("dpmpp_2m_sde", "dpmpp_2m_sde_gpu"),
    "DPM++ 2M SDE Heun": ("dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu"),
    "DPM++ 3M SDE": ("dpmpp_3m_sde", "dpmpp_3m_sde_gpu"),
    "DPM++ 2S a": ("dpmpp_2s_ancestral",),
    "PLMS": ("pndm",),
    "UniPC": ("uni_pc", "uni_pc_bh2"),
}
_SCHEDULES: dict[str, tuple[str, ...]] = {
    "Uniform": ("normal", "ddim_uniform", "DDIM", "linspace"),
    "Exponential": ("polyexponential",),  # whose rho is 1 there
    "Align Your Steps": ("align_your_steps", "AYS"),
}
_TAILS = (("karras", "Karras"), ("exponential", "Exponential"))  # of names that carried the schedule


def _squashed(name: str) -> str:
    """`DPM++ 2M`, `dpmpp_2m` and `DPMPP 2M` are one name."""
    return "".join(filter(str.isalnum, name.lower().replace("++", "pp")))


def _names(ours: object, others: dict[str, tuple[str, ...]]) -> dict[str, str]:
    names = {_squashed(name): name for name in ours}  # type: ignore[attr-defined]
    return names | {_squashed(other): name for name, theirs in others.items() for other in theirs}


_SAMPLER_NAMES, _SCHEDULE_NAMES = _names(SAMPLERS, _SAMPLERS), _names(SCHEDULES, _SCHEDULES)


def sampler_of(name: str) -> tuple[str | None, str]:
    """(our sampler, the schedule that its name carried or ""); None for one that nobody here is.

    "DPM++ 2M Karras" is of Automatic1111 before 1.9, "dpmpp_2m_k" of InvokeAI.
    """
    name = name.removeprefix("k_")  # as k-diffusion's were called at first
    squashed = _squashed(name)
    if squashed in _SAMPLER_NAMES:
        return _SAMPLER_NAMES[squashed], ""
    for tail, schedule in _TAILS:
        if squashed.endswith(tail) and squashed.removesuffix(tail) in _SAMPLER_NAMES:
            return _SAMPLER_NAMES[squashed.removesuffix(tail)], schedule
    if name.endswith("_k") and squashed[:-1] in _SAMPLER_NAMES:
        return _SAMPLER_NAMES[squashed[:-1]], "Karras"
    return None, ""


def schedule_of(name: str) -> str | None:
    return _SCHEDULE_NAMES.get(_squashed(name))
