"""The queue in the header: a button with the number of runs, and a panel with the own ones."""

from __future__ import annotations

from typing import Any

from ui.components.base import Scripted

_TEMPLATE = """
<div class="queue" data-part="queue">
  <button type="button" class="quiet queue-button" data-part="open"
    aria-expanded="false" data-say="queue.button"></button>
  <section class="queue-panel" data-part="panel" data-say-label="queue.title" hidden>
    <p class="queue-note" data-part="empty" role="status"></p>
    <ol class="queue-rows" data-part="rows"></ol>
    <p class="queue-note" data-part="others"></p>
    <p class="queue-forever" data-part="forever" hidden><span data-say="queue.forever"></span>
      <button type="button" class="linkish" data-part="end" data-say="queue.end-forever"></button></p>
  </section>
</div>"""


class QueuePanel(Scripted):
    """Value: a state of `ui.line`. Events: refresh; act {job, act}; end_forever."""

    script = "queue_panel.js"
    template = _TEMPLATE
    custom_events = ("refresh", "act", "end_forever")

    def __init__(self, value: dict[str, Any] | None = None, render: bool = True):
        super().__init__(value or {}, elem_classes=["queue-box"], render=render)
