"""Storage, attention and compilation of a loaded noise predictor, as `core.tuning` asks for them."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from core.errors import StartError
from core.models.needs import FULL
from core.tuning import Tuning

log = logging.getLogger(__name__)
_WIN = 0.95  # of torch's time: what xformers must take at most, or it is not worth another rounding


def check(tuning: Tuning, device: torch.device) -> None:
    """Raises StartError for what this device, or what is installed, cannot do."""
    if tuning.offload in ("model", "sequential") and device.type != "cuda":
        raise StartError(f"--offload {tuning.offload} takes load from a GPU's memory, and this runs on {device.type}: "
                         "leave it out.")
    if tuning.attention == "xformers" and not (device.type == "cuda" and _installed("xformers")):
        raise StartError("--attention xformers needs a GPU and the package xformers: take sdpa, torch's own.")
    if tuning.storage == "int8" and not _installed("torchao"):
        raise StartError("--storage int8 needs the package torchao (pip install torchao==0.18.0): install it, or take "
                         "--storage fp8.")
    if tuning.compile:
        _try_compiler(device.type)


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


@lru_cache(maxsize=2)
def _try_compiler(device: str) -> None:
    try:
        torch.compile(lambda x: x.sin() + x)(torch.ones(8, device=device))
    except Exception as error:  # whatever a compiler that is missing or broken raises
        why = " ".join(str(error).split())[:120] or type(error).__name__
        raise StartError(f"--compile does not work here ({why}): install a C++ compiler, or leave it out.") from error


def prepare(unet: Any, tuning: Tuning, dtype: torch.dtype) -> None:
    """What is done to the weights, before they go to the device."""
    if tuning.fuse_qkv:
        unet.fuse_qkv_projections()
    if tuning.storage == "fp8":
        unet.enable_layerwise_casting(torch.float8_e4m3fn, dtype,
                                      skip_modules_pattern=("norm", *(f"^{name}" for name in FULL)))
    elif tuning.storage == "int8":
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        quantize_(unet, Int8WeightOnlyConfig())


def reconcile(unet: Any) -> None:
    """Layers that were put in beside the projections are not part of what was fused: back to three products then."""
    if getattr(unet, "peft_config", None) and getattr(unet, "original_attn_processors", None):
        unet.unfuse_qkv_projections()
        unet.original_attn_processors = None


def finish(unet: Any, tuning: Tuning, device: torch.device, dtype: torch.dtype) -> None:
    """What is done once the weights are on the device."""
    if choose_attention(tuning.attention, device, dtype) == "xformers":
        if tuning.fuse_qkv:
            log.info("xformers does its own projections: they are not fused")
        unet.enable_xformers_memory_efficient_attention()
    if tuning.compile:
        unet.compile_repeated_blocks()


def choose_attention(wanted: str, device: torch.device, dtype: torch.dtype) -> str:
    """sdpa or xformers: what was asked for, or the faster one."""
    if wanted != "auto":
        return wanted
    if device.type != "cuda" or not _installed("xformers"):
        return "sdpa"
    return fastest(torch.cuda.get_device_name(device), dtype)


@lru_cache(maxsize=8)
def fastest(device_name: str, dtype: torch.dtype) -> str:
    """By a measurement of some hundredths of a second, once for each device and precision."""
    taken: dict[str, float] = {}
    for name in attentions():
        try:
            taken[name] = seconds_of(name, dtype)
        except Exception as error:  # built for another card, or another torch
            log.info("%s cannot be used on %s: %s", name, device_name, error)
    log.info("attention on %s: %s", device_name, taken)
    return "xformers" if taken.get("xformers", float("inf")) < _WIN * taken.get("sdpa", float("inf")) else "sdpa"


def attentions() -> list[str]:
    """The kinds of attention that are installed."""
    return ["sdpa", *(["xformers"] if _installed("xformers") else [])]


def seconds_of(name: str, dtype: torch.dtype, rounds: int = 10) -> float:
    """One attention of Stable Diffusion's widest level at 512x512, guided: 2 pictures, 4096 cells, 8 heads of 40."""
    q, k, v = torch.zeros(3, 2, 4096, 8, 40, device="cuda", dtype=dtype)
    attend = _attend(name)
    for _ in range(3):
        attend(q, k, v)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(rounds):
        attend(q, k, v)
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / rounds


def _attend(name: str) -> Callable[..., Any]:
    if name == "xformers":
        import xformers.ops

        attend: Callable[..., Any] = xformers.ops.memory_efficient_attention
        return attend
    return lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)
