"""The painting canvas: named coloured regions with their prompts, tools, views and the list of regions."""

from __future__ import annotations

from typing import Any

from ui.components.base import Scripted

_TOOLS = {
    "brush": ("Brush (B)", "M5 19c3 .6 5-.6 5-3a2.6 2.6 0 0 0-5-.6C4.6 17 4.6 18 3.5 19zM10 13l9-9 1.5 1.5-9 9.5"),
    "box": ("Box (R)", "M5 6h14v12H5z"),
    "lasso": ("Lasso (L)", "M7 15c-2.5-1-4-2.6-4-4.6C3 7.2 7 5 12 5s9 2.2 9 5.4-4 5.4-9 5.4c-1.3 0-2.5-.1-3.6-.4"
              "M7 13.5a2 2 0 1 0 .1 4c.4 1-.1 2-1.1 2.5"),
    "eraser": ("Eraser (E)", "M9 19h11M4.5 14.5l9-9 6 6L12 19H9zM9.5 9.5l6 6"),
    "fill": ("Fill (F)", "M5 12l7-7 7 7-7 7zM5 12h14"
             "M20.5 15c1 1.6 1.5 2.4 1.5 3.2a1.5 1.5 0 0 1-3 0c0-.8.5-1.6 1.5-3.2z"),
    "move": ("Move (V)", "M12 3v18M3 12h18M12 3 9.5 5.5M12 3l2.5 2.5M12 21l-2.5-2.5M12 21l2.5-2.5"
             "M3 12l2.5-2.5M3 12l2.5 2.5M21 12l-2.5-2.5M21 12l-2.5 2.5"),
}
_ACTS = {
    "undo": ("Undo (Ctrl+Z)", "M8 5 4 9l4 4M4 9h10a5 5 0 0 1 0 10H9"),
    "redo": ("Redo (Ctrl+Shift+Z)", "M16 5l4 4-4 4M20 9H10a5 5 0 0 0 0 10h5"),
    "mirror": ("Mirror everything", "M12 3v18M9 7v10H3zM15 7v10h6z"),
    "clear": ("Clear everything", "M5 7h14M10 7V4.5h4V7M7 7l1 12.5h8L17 7"),
}
_VIEWS = {
    "paint": ("Paint", "Regions as they were painted"),
    "cells": ("Cells", "What the network sees: each region's share of every latent cell"),
    "overlap": ("Overlap", "Hatched: painted by nobody, or by more than one"),
}


def _icon(path: str) -> str:
    return f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{path}"/></svg>'


_TEMPLATE = f"""
<section class="painter" aria-label="Regions">
  <div class="canvas-card">
    <div class="canvas-mat" data-part="mat">
      <canvas data-part="canvas" class="region-canvas" tabindex="0" role="img" aria-label="Region canvas"
        aria-description="Paint with mouse, finger or pen. By keyboard: Enter puts a box in the middle, V and the
        arrow keys move the region, Shift by a latent cell."></canvas>
      <div class="canvas-hint" data-part="hint"><b>Paint where a thing should be</b>
        <span>then say what it is. Or start from a layout below, or drop a picture that was made here.</span></div>
      <div class="canvas-drop" data-part="drop" hidden>Drop a picture or a layout: its regions come back</div>
    </div>
    <div class="tools" role="toolbar" aria-label="Tools">
      <span class="tool-group">{"".join(
          f'<button type="button" class="tool" data-tool="{tool}" title="{title}" '
          f'aria-label="{title.split(" (")[0]}">{_icon(path)}</button>' for tool, (title, path) in _TOOLS.items())}
      </span>
      <label class="brush-size"><span class="field-label">Size</span>
        <input type="range" data-part="size" min="2" max="150" step="1" aria-label="Brush size">
        <span data-part="size-text" class="brush-text"></span></label>
      <span class="tool-group">{"".join(
          f'<button type="button" class="tool" data-part="{act}" title="{title}" '
          f'aria-label="{title.split(" (")[0]}">{_icon(path)}</button>' for act, (title, path) in _ACTS.items())}
      </span>
    </div>
    <div class="views">
      <span class="segments" role="group" aria-label="View">{"".join(
          f'<button type="button" data-view="{view}" title="{title}">{name}</button>'
          for view, (name, title) in _VIEWS.items())}</span>
      <button type="button" class="quiet slim" data-part="beneath"
        title="The growing picture beneath the paint">Picture beneath</button>
    </div>
  </div>
  <div class="region-head">
    <button type="button" class="quiet" data-part="add">{_icon("M12 5v14M5 12h14")}Add region</button>
    <span class="region-files">
      <select data-part="preset" class="quiet preset" aria-label="Start from a layout">
        <option value="">Start from …</option></select>
      <button type="button" class="quiet" data-part="open" title="A layout file, or a picture made here">Open</button>
      <button type="button" class="quiet" data-part="save" title="The layout as one file, to share">Save</button>
      <input type="file" data-part="file" accept=".json,.png,application/json,image/png" hidden
        aria-label="Layout or picture file">
    </span>
  </div>
  <p class="line" data-line="SCOPE:regions" role="status"></p>
  <p class="list-title" data-part="listed">Top-most first: it covers those below</p>
  <ol class="region-list" data-part="list"></ol>
  <p class="line" data-part="weak" role="status" hidden></p>
  <div class="region rest">
    <span class="region-swatch rest-swatch" aria-hidden="true"></span>
    <span class="rest-name" title="What nobody painted">Rest</span>
    <textarea class="region-prompt completes" data-part="prompt" rows="1" aria-label="Prompt"
      placeholder="What should be where nobody painted?"></textarea>
    <span class="count region-count" data-count="SCOPE:prompt"></span>
  </div>
  <p class="line" data-line="SCOPE:prompt" role="status"></p>
</section>"""


class RegionCanvas(Scripted):
    """Value: see `ui.composition.canvas_of`. With "fresh" the browser may put what it remembers in its place;
    with "resize": [width, height] the regions that stand there are taken to another size, with [] they stay.

    server_functions: regions(job id) -> the names of a run's regions; alone({job, region, step, picture}) -> {"url"} or
    {"error"}, what one of them believed by itself; layouts() -> {"names"} of what to start from.

    Events: edit (after a pause), preset {name}, opened {path, name} (a file), saved, sized {width, height}.
    """

    script = "region_canvas.js"
    custom_events = ("edit", "preset", "opened", "saved", "sized")

    def __init__(self, value: dict[str, Any] | None = None, *, scope: str = "",
                 server_functions: list[Any] | None = None, render: bool = True):
        super().__init__(value or {}, template=_TEMPLATE.replace("SCOPE", scope), elem_classes=["painter-box"],
                         server_functions=server_functions, render=render)
