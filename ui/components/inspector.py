"""The inspector: a run, looked into step by step."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from core.export import KINDS, MAX_SECONDS, MIN_SECONDS
from core.views import VIEWS
from ui.components.base import Scripted
from ui.components.stage import ICONS, scrub

SPEEDS = (0.25, 0.5, 1, 2, 4)
SIDES = (0, 128, 256, 512, 768)
SOURCES = {"x0": "x0: the picture sharpening", "xt": "x_t: the noise fading", "both": "Both, side by side"}
ORDERS = {"forward": "Forward", "backward": "Backward", "loop": "There and back"}
_PATHS = {
    "keep": "M6 4h12v16l-6-4.5L6 20z",
    "branch": "M7 4v16M7 14c0-4 10-2 10-7M17 7a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM7 23",
    "resume": "M5 5v14M10 5.5v13l9-6.5z",
    "export": "M12 15V4m0 0L8 8m4-4 4 4M5 14v6h14v-6",
    "chevron": "M6 9.5l6 6 6-6",
}


def _icon(name: str) -> str:
    return f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{_PATHS[name]}"/></svg>'


def _options(values: dict[Any, str], chosen: Any) -> str:
    return "".join(f'<option value="{html.escape(str(value))}"{" selected" * (value == chosen)}>{html.escape(label)}'
                   "</option>" for value, label in values.items())


def _pane(name: str, words: str) -> str:
    return f"""<figure class="pane" data-part="{name}">
      <div class="pane-mat" data-part="{name}-mat"></div>
      <figcaption><b data-part="{name}-name">{words}</b><span data-part="{name}-note"></span></figcaption></figure>"""


_VIEWS = "".join(f'<button type="button" class="quiet slim" data-look="{name}" aria-pressed="false" '
                 f'title="{html.escape(view.words)}">{view.label}</button>' for name, view in VIEWS.items())
_FIELDS = """
    <label class="act-field wide"><span class="field-label">Prompt</span>
      <textarea class="completes" data-field="prompt" rows="2" aria-label="Prompt"></textarea></label>
    <p class="line wide" data-error="prompt" role="status"></p>
    <label class="act-field wide"><span class="field-label">Negative prompt</span>
      <textarea class="completes" data-field="negative_prompt" rows="1" aria-label="Negative prompt"></textarea></label>
    <p class="line wide" data-error="negative_prompt" role="status"></p>
    <label class="act-field"><span class="field-label">Guidance</span>
      <input class="number-text" data-field="guidance" inputmode="decimal" aria-label="Guidance"></label>
    <label class="act-field"><span class="field-label">Seed</span>
      <input class="number-text" data-field="seed" inputmode="numeric" aria-label="Seed"></label>
    <p class="line wide" data-error="guidance" role="status"></p>
    <p class="line wide" data-error="seed" role="status"></p>
    <label class="act-field wide"><span class="field-label">Sampler</span>
      <select class="quiet preset" data-field="sampler" aria-label="Sampler">SAMPLERS</select></label>
    <p class="line wide" data-error="sampler" role="status"></p>
    <label class="act-field wide"><span class="field-label">Regions</span>
      <select class="quiet preset" data-part="branch-regions" aria-label="Regions"></select></label>
    <p class="line wide" data-error="regions" role="status"></p>"""


def _speeds() -> str:
    options = _options({speed: f"{speed:g}×" for speed in SPEEDS}, 1)
    return f'<select class="quiet slim preset speed" data-part="speed" aria-label="Speed">{options}</select>'


_TEMPLATE = f"""
<section class="inspector" data-part="box" tabindex="0" aria-label="Run" data-state="empty" data-mode="one">
  <header class="inspector-head">
    <div class="runs">
      <button type="button" class="runs-button" data-part="runs" aria-haspopup="listbox" aria-expanded="false"
        title="Runs that kept their steps"><span class="run-thumb" data-part="thumb"></span>
        <span class="run-words"><b data-part="title">No run yet</b><span data-part="line"></span></span>
        {_icon("chevron")}</button>
      <div class="runs-list" data-part="list" role="listbox" aria-label="Runs" hidden></div>
    </div>
    <div class="inspector-state">
      <div class="inspector-progress"><p class="status" data-part="progress" role="status"></p>
        <p class="cost" data-part="cost"></p></div>
      <button type="button" class="quiet slim" data-part="news" hidden>A new run has begun: watch it</button>
      <button type="button" class="quiet slim stop" data-part="stop" hidden>{ICONS["stop"]}<span>Stop</span></button>
    </div>
  </header>
  <div class="inspector-main">
    <div class="panes" data-part="panes">
      {_pane("left", "x_t: noise fading")}
      {_pane("right", "x0: blur sharpening")}
      <div class="panes-words" data-part="words"></div>
    </div>
    <div class="pane-tools">
      <span class="segments" data-part="sources" role="group" aria-label="Pictures of both" hidden>
        <button type="button" data-source="x0" aria-pressed="true">x0</button>
        <button type="button" data-source="xt" aria-pressed="false">x_t</button></span>
      <button type="button" class="quiet slim" data-part="alone" hidden>Show the branch alone</button>
      <label class="pick-picture" data-part="pick" hidden><span class="field-label">Picture</span>
        <select class="quiet slim preset" data-part="picture" aria-label="Picture"></select></label>
    </div>
    {scrub(_speeds())}
    <p class="status step-status" data-part="status"></p>
    <p class="sentence" data-part="sentence"></p>
  </div>
  <aside class="inspector-side">
    <div class="plot" data-part="plot"></div>
    <p class="plot-legend" data-part="legend" hidden>Dashed: the parent</p>
    <div class="acts">
      <button type="button" class="quiet" data-act="keep" disabled>{_icon("keep")}<span>Keep this step</span></button>
      <button type="button" class="quiet" data-act="branch" aria-expanded="false" disabled>{
          _icon("branch")}<span>Branch from here</span></button>
      <button type="button" class="quiet" data-act="export" aria-expanded="false" disabled>{
          _icon("export")}<span>Export</span></button>
      <button type="button" class="quiet" data-act="resume" hidden>{_icon("resume")}<span>Resume</span></button>
    </div>
    <p class="line steady" data-part="said" role="status"></p>
    <form class="drawer" data-part="branch" aria-label="Branch" hidden>
      <p class="drawer-title" data-part="branch-title"></p>{_FIELDS}
      <p class="line wide" data-error="form" role="status"></p>
      <button type="submit" class="quiet go-branch wide">Run the branch</button>
    </form>
    <form class="drawer" data-part="export" aria-label="Export options" hidden>
      <label class="act-field wide"><span class="field-label">File</span>
        <select class="quiet preset" data-option="kind" aria-label="File">{
            _options({name: kind.label for name, kind in KINDS.items()}, "webp")}</select></label>
      <label class="act-field wide"><span class="field-label">Pictures</span>
        <select class="quiet preset" data-option="source" aria-label="Pictures">{
            _options(SOURCES, "x0")}</select></label>
      <label class="act-field"><span class="field-label">Order</span>
        <select class="quiet preset" data-option="order" aria-label="Order">{
            _options(ORDERS, "forward")}</select></label>
      <label class="act-field"><span class="field-label">Seconds</span>
        <input class="number-text" data-option="seconds" value="4" inputmode="decimal" aria-label="Seconds"
          title="{MIN_SECONDS:g} to {MAX_SECONDS:g}"></label>
      <label class="act-field wide"><span class="field-label">Size</span>
        <select class="quiet preset" data-option="side" aria-label="Size">{
            _options({side: f"{side} px" if side else "As it is" for side in SIDES}, 0)}</select></label>
      <button type="submit" class="quiet go-export wide">Make the file</button>
      <p class="line wide" data-part="exported" role="status"></p>
      <a class="quiet wide" data-part="latents" download>Raw latents (safetensors)</a>
    </form>
  </aside>
  <div class="inspector-closer">
    <div class="looks" data-part="looks" role="group" aria-label="Look closer">
      <span class="field-label">Look closer</span>{_VIEWS}</div>
    <div class="looked" data-part="looked" hidden></div>
    <p class="line" data-part="looked-line" role="status"></p>
  </div>
</section>"""


class Inspector(Scripted):
    """Value: a state of `ui.inspection`. samplers: names a branch may choose from.

    server_functions: those of `ui.inspection.Inspection.functions`. Event: follow {run, place}: "now" or a run's name,
    and where the run was kept that was in sight before.
    """

    script = "inspector.js"
    custom_events = ("follow",)

    def __init__(self, value: dict[str, Any] | None = None, *, samplers: Sequence[str] = (),
                 server_functions: list[Any] | None = None, render: bool = True):
        template = _TEMPLATE.replace("SAMPLERS", _options({name: name for name in samplers}, None))
        super().__init__(value, template=template, elem_classes=["inspector-box"], samplers=list(samplers),
                         server_functions=server_functions, render=render)
