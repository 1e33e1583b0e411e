"""The samplers to compare: a box to tick for each, with a word on what it is like."""

from __future__ import annotations

from collections.abc import Sequence

from core.samplers import SAMPLERS
from ui.components.base import Scripted
from ui.languages import everywhere, told


class SamplerPicks(Scripted):
    """Value: the labels that are ticked, in the order of the list. Its `input` fires at every tick."""

    script = "compare_samplers.js"
    template = """
<fieldset class="picks">
  <legend class="field-label" data-say="compare.samplers"></legend>
  <div class="picks-list" data-part="list"></div>
</fieldset>"""

    def __init__(self, value: Sequence[str] | None = None, render: bool = True, offered: object = None):
        super().__init__(list(value or ()), elem_classes=["picks-box"], render=render, offered=offered or everywhere(
            lambda: [{"name": entry.label, "words": told(entry.words)} for entry in SAMPLERS.values()]))
