"""Each region's share of every latent cell, on its way from core.layout to the painting canvas."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from core.layout import Layout
from ui.components.base import Scripted


class Cells(Scripted):
    """Value: `shares(...)`, or {} while nobody looks at the cells."""

    script = "cells.js"
    template = '<div data-part="cells"></div>'

    def __init__(self, value: dict[str, Any] | None = None, render: bool = True):
        super().__init__(value or {}, elem_classes=["invisible"], render=render)


def shares(layout: Layout, colours: Sequence[str]) -> dict[str, Any]:
    """A layout's weights as bytes (255: the whole cell), base64; index 0 is the rest. colours: one per region."""
    height, width = layout.weights.shape[1:]
    packed = [base64.b64encode((weight * 255).round().astype("uint8").tobytes()).decode() for weight in layout.weights]
    return {"width": width, "height": height, "weights": packed, "colours": list(colours)}
