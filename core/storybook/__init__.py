"""Storybook: the embedded latent diffusion model, its world, its training and its evaluation."""

from __future__ import annotations

from pathlib import Path

import core.models  # noqa: F401  # before diffusers is imported: it says what those imports may tell

WEIGHTS = Path(__file__).parent / "weights"  # a diffusers folder, plus preview/, scorer/ and judge/
