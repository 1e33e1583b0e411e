"""Latents -> pictures people can look at. One file per decoder; all share one signature."""

from core.previews.base import Decoder, Show, make, names_for, to_pictures

__all__ = ["Decoder", "Show", "make", "names_for", "to_pictures"]
