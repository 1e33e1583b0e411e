"""PLMS that goes on from the middle of a run (Liu et al. 2022, arXiv:2202.09778)."""

from __future__ import annotations

from typing import Any

from diffusers.schedulers.scheduling_pndm import PNDMScheduler


class PlainStart(PNDMScheduler):
    """Its first step is DDIM's and asks once, as every step of a run but the first does."""

    counter: int

    def step_plms(self, *asked: Any, **options: Any) -> Any:
        moved = super().step_plms(*asked, **options)
        self.counter = max(self.counter, 2)  # the second call takes a step of its own, not the first one again
        return moved
