"""Pictures dropped onto the page: a veil while one is in the air, and a card about what it told."""

from __future__ import annotations

from typing import Any

from ui.components.base import Scripted


class Arrival(Scripted):
    """Value: a card of `ui.arrival`, or {}. Events: dropped {path, name}, regions {path, name} of the same file."""

    script = "arrival.js"
    custom_events = ("dropped", "regions")
    template = """<section class="arrival" data-part="card" data-say-label="arrival.title" role="status"
  hidden>
  <button type="button" class="quiet slim arrival-close" data-part="close" data-say-label="common.close">×</button>
  <p class="arrival-title" data-part="title"></p>
  <div data-part="lines"></div>
  <button type="button" class="quiet slim" data-part="regions" data-say="open-in.regions" hidden></button>
  <details data-part="rest" hidden><summary data-part="rest-title"></summary><dl data-part="other"></dl></details>
</section>"""

    def __init__(self, value: dict[str, Any] | None = None, render: bool = True):
        super().__init__(value or {}, elem_classes=["arrival-box"], render=render)
