"""Chooses and runs a training stage."""

from __future__ import annotations

import argparse

import torch

from core.storybook.networks import pick_device


def run(options: argparse.Namespace) -> None:
    """Runs options.stage for options.minutes on options.device, in the folder options.data."""
    device = pick_device(options.device)
    torch.set_float32_matmul_precision("high")
    if options.stage == "render":
        from core.storybook.data import render_stage

        render_stage(options.data, options.minutes, {128: options.scenes128, 256: options.scenes256}, options.workers)
    elif options.stage == "autoencoder":
        from core.storybook.train_autoencoder import autoencoder_stage

        autoencoder_stage(options.data, options.minutes, device, options.batch)
    elif options.stage == "decoder":
        from core.storybook.train_autoencoder import decoder_stage

        decoder_stage(options.data, options.minutes, device, options.batch)
    elif options.stage == "text":
        from core.storybook.train_text import text_stage

        text_stage(options.data, options.minutes, device, options.batch)
    elif options.stage == "diffusion":
        from core.storybook.train_diffusion import diffusion_stage

        diffusion_stage(options.data, options.minutes, device, options.size, options.batch, options.lr)
    elif options.stage == "preview":
        from core.storybook.train_preview import preview_stage

        preview_stage(options.data, options.minutes, device, options.batch)
    elif options.stage == "scorer":
        from core.storybook.train_scorer import scorer_stage

        scorer_stage(options.data, options.minutes, device, options.batch)
    elif options.stage == "judge":
        from core.storybook.judge import judge_stage

        judge_stage(options.data, options.minutes, device, options.batch)
