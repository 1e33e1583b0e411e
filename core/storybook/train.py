"""Chooses and runs a training stage."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch

from core.storybook.loop import Run
from core.storybook.networks import pick_device


def run(options: argparse.Namespace) -> None:
    """Runs options.stage for options.minutes on options.device, in the folder options.data."""
    torch.set_float32_matmul_precision("high")
    if options.stage == "render":
        from core.storybook.data import render_stage

        render_stage(options.data, options.minutes, {128: options.scenes128, 256: options.scenes256}, options.workers)
        return
    how = Run(options.data, options.minutes, pick_device(options.device), options.batch, options.lr)
    if options.stage == "diffusion":
        from core.storybook.train_diffusion import diffusion_stage

        diffusion_stage(how, options.size, small=options.small, close=options.close)
    else:
        stage(options.stage)(how)


def stage(name: str) -> Callable[[Run], object]:
    """The function that trains a stage of this name; each imports only what it needs."""
    if name in ("autoencoder", "decoder"):
        from core.storybook import train_autoencoder

        return train_autoencoder.autoencoder_stage if name == "autoencoder" else train_autoencoder.decoder_stage
    if name == "text":
        from core.storybook.train_text import text_stage

        return text_stage
    if name == "distil":
        from core.storybook.train_distil import distil_stage

        return distil_stage
    if name == "preview":
        from core.storybook.train_preview import preview_stage

        return preview_stage
    if name == "scorer":
        from core.storybook.train_scorer import scorer_stage

        return scorer_stage
    from core.storybook.train_judge import judge_stage

    return judge_stage
