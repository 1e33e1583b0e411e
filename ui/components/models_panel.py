"""The list of models behind a button in the header: search, what each is, and the one to paint with."""

from __future__ import annotations

from typing import Any

from ui.components.base import Scripted

_TEMPLATE = """
<button type="button" class="quiet models-open" data-part="open" aria-haspopup="dialog" title="All models, with search">
  <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 5h16v5H4zM4 14h16v5H4zM7.5 7.5h.01M7.5 16.5h.01"/></svg
  ><span>Models</span></button>
<dialog class="models" data-part="dialog" aria-label="Models">
  <header class="models-head">
    <h2>Models</h2>
    <button type="button" class="quiet slim" data-part="close" aria-label="Close the list of models">Close</button>
    <input type="search" data-part="search" class="number-text" aria-label="Search models" autocomplete="off"
      spellcheck="false" placeholder="Name, family, folder, hash, licence">
    <label class="models-sort"><span class="field-label">Sort by</span>
      <select data-part="sort" class="quiet preset"><option value="name">Name</option>
        <option value="changed">Newest</option><option value="bytes">Size</option>
        <option value="kind">Family</option></select></label>
    <button type="button" class="quiet slim" data-part="again" title="Look into the folders again">Rescan</button>
    <p class="line models-status" data-part="status" role="status"></p>
    <p class="line models-now" data-part="now" role="alert"></p>
  </header>
  <div class="models-vae" data-part="decode" hidden>
    <label><span class="field-label" data-part="vae-of">VAE</span>
      <select data-part="vae" class="quiet preset" aria-label="VAE"></select></label>
  </div>
  <ul class="models-list" data-part="list" aria-label="Models"></ul>
  <p class="models-none" data-part="none" hidden></p>
  <details class="models-hub" data-part="hub">
    <summary>Get more models</summary>
    <p data-part="hand"></p>
    <div class="models-fetch" data-part="fetch">
      <select data-part="id" class="quiet preset" aria-label="Model to download"></select>
      <button type="button" class="quiet" data-part="download">Download</button>
      <button type="button" class="quiet" data-part="stop" hidden>Stop the download</button>
    </div>
    <progress data-part="progress" max="100" value="0" hidden aria-label="Download"></progress>
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
