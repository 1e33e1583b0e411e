"""The painting canvas: named coloured regions with their prompts, tools, views and the list of regions."""

from __future__ import annotations

from typing import Any

from ui.components.base import Scripted

_TOOLS = {  # -> its key, its icon; the names are in ui/languages
    "brush": ("B", "M5 19c3 .6 5-.6 5-3a2.6 2.6 0 0 0-5-.6C4.6 17 4.6 18 3.5 19zM10 13l9-9 1.5 1.5-9 9.5"),
    "box": ("R", "M5 6h14v12H5z"),
    "lasso": ("L", "M7 15c-2.5-1-4-2.6-4-4.6C3 7.2 7 5 12 5s9 2.2 9 5.4-4 5.4-9 5.4c-1.3 0-2.5-.1-3.6-.4"
              "M7 13.5a2 2 0 1 0 .1 4c.4 1-.1 2-1.1 2.5"),
    "eraser": ("E", "M9 19h11M4.5 14.5l9-9 6 6L12 19H9zM9.5 9.5l6 6"),
    "fill": ("F", "M5 12l7-7 7 7-7 7zM5 12h14"
             "M20.5 15c1 1.6 1.5 2.4 1.5 3.2a1.5 1.5 0 0 1-3 0c0-.8.5-1.6 1.5-3.2z"),
    "move": ("V", "M12 3v18M3 12h18M12 3 9.5 5.5M12 3l2.5 2.5M12 21l-2.5-2.5M12 21l2.5-2.5"
             "M3 12l2.5-2.5M3 12l2.5 2.5M21 12l-2.5-2.5M21 12l-2.5 2.5"),
}
_ACTS = {
    "undo": ("Ctrl+Z", "M8 5 4 9l4 4M4 9h10a5 5 0 0 1 0 10H9"),
    "redo": ("Ctrl+Shift+Z", "M16 5l4 4-4 4M20 9H10a5 5 0 0 0 0 10h5"),
    "mirror": ("", "M12 3v18M9 7v10H3zM15 7v10h6z"),
    "clear": ("", "M5 7h14M10 7V4.5h4V7M7 7l1 12.5h8L17 7"),
}
_VIEWS = ("paint", "cells", "overlap")


def _icon(path: str) -> str:
    return f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{path}"/></svg>'


def _button(kind: str, name: str, key: str, path: str) -> str:
    """An icon with a name, in whose title stands the key that does the same."""
    title = f'data-key="{key}"' if key else f'data-say-title="painter.act.{name}"'
    return (f'<button type="button" class="tool" data-{kind}="{name}" {title} data-say-label="painter.act.{name}">'
            f'{_icon(path)}</button>')


_TEMPLATE = f"""
<section class="painter" data-say-label="tab.regions">
  <div class="canvas-card">
    <div class="canvas-mat" data-part="mat">
      <canvas data-part="canvas" class="region-canvas" tabindex="0" role="img"
        data-say-label="painter.canvas"></canvas>
      <div class="canvas-hint" data-part="hint"><b data-say="painter.hint"></b>
        <span data-say="painter.hint-more"></span></div>
      <div class="canvas-drop" data-part="drop" data-say="painter.drop" hidden></div>
    </div>
    <div class="tools" role="toolbar" data-say-label="painter.tools">
      <span class="tool-group">{"".join(
          _button("tool", name, *shown) for name, shown in _TOOLS.items())}
      </span>
      <label class="brush-size"><span class="field-label" data-say="painter.size"></span>
        <input type="range" data-part="size" min="2" max="150" step="1" data-say-label="painter.brush-size">
        <span data-part="size-text" class="brush-text"></span></label>
      <span class="tool-group">{"".join(
          _button("part", name, *shown) for name, shown in _ACTS.items())}
      </span>
    </div>
    <div class="views">
      <span class="segments" role="group" data-say-label="painter.view">{"".join(
          f'<button type="button" data-view="{view}" data-say-title="painter.views.{view}-title" '
          f'data-say="painter.views.{view}"></button>' for view in _VIEWS)}</span>
      <button type="button" class="quiet slim" data-part="beneath"
        data-say-title="painter.beneath-title" data-say="painter.beneath"></button>
    </div>
  </div>
  <div class="region-head">
    <button type="button" class="quiet" data-part="add">{_icon("M12 5v14M5 12h14")}
      <span data-say="painter.add"></span></button>
    <span class="region-files">
      <select data-part="preset" class="quiet preset" data-say-label="painter.start-label">
        <option value="" data-say="painter.start"></option></select>
      <button type="button" class="quiet" data-part="open" data-say-title="painter.open-title"
        data-say="painter.open"></button>
      <button type="button" class="quiet" data-part="save" data-say-title="painter.save-title"
        data-say="painter.save"></button>
      <input type="file" data-part="file" accept=".json,.png,application/json,image/png" hidden
        data-say-label="painter.file">
    </span>
  </div>
  <p class="line" data-line="SCOPE:regions" role="status"></p>
  <p class="list-title" data-part="listed" data-say="painter.listed"></p>
  <ol class="region-list" data-part="list"></ol>
  <p class="line" data-part="weak" role="status" hidden></p>
  <div class="region rest">
    <span class="region-swatch rest-swatch" aria-hidden="true"></span>
    <span class="rest-name" data-say-title="painter.rest-title" data-say="painter.rest"></span>
    <textarea class="region-prompt completes" data-part="prompt" rows="1" data-say-label="field.prompt"
      data-say-placeholder="painter.rest-prompt"></textarea>
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
