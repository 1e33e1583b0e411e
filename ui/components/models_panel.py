"""The list of models behind a button in the header: search, what each is, and the one to paint with."""

from __future__ import annotations

from typing import Any

from ui.components.base import Scripted

_TEMPLATE = """
<button type="button" class="quiet models-open" data-part="open" aria-haspopup="dialog" data-say-title="models.hint">
  <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 5h16v5H4zM4 14h16v5H4zM7.5 7.5h.01M7.5 16.5h.01"/></svg
  ><span data-say="models.open"></span></button>
<dialog class="models" data-part="dialog" data-say-label="models.open">
  <header class="models-head">
    <h2 data-say="models.open"></h2>
    <button type="button" class="quiet slim" data-part="close"
      data-say-label="models.close" data-say="common.close"></button>
    <input type="search" data-part="search" class="number-text" data-say-label="models.search" autocomplete="off"
      spellcheck="false" data-say-placeholder="models.search-hint">
    <label class="models-sort"><span class="field-label" data-say="models.sort"></span>
      <select data-part="sort" class="quiet preset"><option value="name" data-say="models.sorts.name"></option>
        <option value="changed" data-say="models.sorts.changed"></option>
        <option value="bytes" data-say="models.sorts.bytes"></option>
        <option value="kind" data-say="models.sorts.kind"></option></select></label>
    <button type="button" class="quiet slim" data-part="again"
      data-say-title="models.rescan-hint" data-say="models.rescan"></button>
    <p class="line models-status" data-part="status" role="status"></p>
    <p class="line models-now" data-part="now" role="alert"></p>
  </header>
  <div class="models-vae" data-part="decode" hidden>
    <label><span class="field-label" data-part="vae-of"></span>
      <select data-part="vae" class="quiet preset" data-say-label="models.vae"></select></label>
  </div>
  <ul class="models-list" data-part="list" data-say-label="models.open"></ul>
  <p class="models-none" data-part="none" hidden></p>
  <details class="models-hub" data-part="hub">
    <summary data-say="models.more"></summary>
    <p data-part="hand"></p>
    <div class="models-fetch" data-part="fetch">
      <select data-part="id" class="quiet preset" data-say-label="models.to-download"></select>
      <button type="button" class="quiet" data-part="download" data-say="common.download"></button>
      <button type="button" class="quiet" data-part="stop" data-say="models.stop-download" hidden></button>
    </div>
    <progress data-part="progress" max="100" value="0" hidden data-say-label="common.download"></progress>
    <p class="line" data-part="fetched" role="status"></p>
  </details>
</dialog>"""


class ModelsPanel(Scripted):
    """Value: what `ui.models` says of a change of the model: {} before the first one.

    Events: switch {name}; chosen, once the page has another model; found, when the list itself has changed.
    server_functions: those of `ui.models`.
    """

    script = "models_panel.js"
    custom_events = ("switch", "chosen", "found")
    template = _TEMPLATE

    def __init__(self, value: dict[str, Any] | None = None, server_functions: list[Any] | None = None,
                 render: bool = True):
        super().__init__(value or {}, elem_classes=["models-box"], server_functions=server_functions, render=render)
