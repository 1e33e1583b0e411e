"""The seed: a number, or a new one for every run."""

from __future__ import annotations

from typing import Any

from ui.components.base import Scripted


class SeedField(Scripted):
    """Value {"random": bool, "seed": text}. The dice is pressed while every run draws a new seed."""

    script = "seed.js"
    template = """
<div class="number seed">
  <span class="field-label" data-say="field.seed"></span>
  <span class="seed-row">
    <input data-part="text" class="number-text" type="text" role="spinbutton" inputmode="numeric" autocomplete="off"
           spellcheck="false" data-say-label="field.seed" data-say-placeholder="seed.placeholder">
    <button data-part="dice" type="button" class="quiet" aria-pressed="true" data-say-title="seed.dice">
      <svg viewBox="0 0 24 24" aria-hidden="true"><rect x="4" y="4" width="16" height="16" rx="4"/>
        <circle cx="9" cy="9" r="1"/><circle cx="15" cy="15" r="1"/><circle cx="15" cy="9" r="1"/>
        <circle cx="9" cy="15" r="1"/><circle cx="12" cy="12" r="1"/></svg>
      <span data-say="seed.random"></span></button>
  </span>
</div>"""

    def __init__(self, value: dict[str, Any] | None = None, render: bool = True) -> None:
        super().__init__(value or {"random": True, "seed": ""}, elem_classes=["number-field"], render=render)
