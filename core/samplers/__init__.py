"""Samplers and schedules by the names people know from Automatic1111. See table.py to add one."""

from core.samplers.table import SAMPLERS, SCHEDULES, Sampler, resolve, rows, verdict

__all__ = ["SAMPLERS", "SCHEDULES", "Sampler", "resolve", "rows", "verdict"]
