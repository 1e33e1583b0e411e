"""Which device, which precision, and what running out of memory looks like."""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Iterator

import psutil
import torch

from core.errors import BadRequest, OutOfMemory, StartError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(wanted: str = "auto") -> torch.device:
    """auto: cuda, else mps, else cpu. Raises StartError for a device this machine lacks."""
    have = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if have[name]))
    if wanted not in have:
        raise StartError(f"No device named {wanted!r}: choose auto, cpu, cuda or mps.")
    if not have[wanted]:
        raise StartError(f"This machine has no usable {wanted} device: choose auto or cpu.")
    return torch.device(wanted)


def pick_precision(wanted: str, device: torch.device) -> str:
    """auto: bf16 where the processor computes in it, fp16 on older GPUs, else fp32.

    Raises BadRequest for fp16 on a CPU, which would be slower than fp32.
    """
    if wanted != "auto":
        if wanted == "fp16" and device.type == "cpu":
            raise BadRequest("fp16 is for GPUs, this runs on the processor: choose auto, bf16 or fp32.", "precision")
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return "bf16"
    return "fp32"


def free() -> None:
    """Give back what nobody holds any more: networks are full of circles, which wait for the collector."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_memory(device: torch.device) -> int:
    """Bytes that can still be had."""
    if device.type == "cuda":  # torch keeps what it was given, for the next one
        return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
                   - torch.cuda.memory_allocated(device))
    return int(psutil.virtual_memory().available)


@contextlib.contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Turns the many shapes of "out of memory" into one line. Never around a yield."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemory(_line(what)) from error
    except RuntimeError as error:
        if re.search(r"out of memory|can't allocate memory|not enough memory|buffer size", str(error), re.I):
            raise OutOfMemory(_line(what)) from error
        raise


def _line(what: str) -> str:
    return f"The memory did not suffice for {what}: try a smaller size, a smaller batch, or close other programs."
