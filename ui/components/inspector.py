"""The inspector: a run, looked into step by step."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from core.export import KINDS, MAX_SECONDS, MIN_SECONDS, ORDERS, SOURCES
from core.views import VIEWS
from ui.components.base import Scripted
from ui.components.stage import ICONS, scrub

SPEEDS = (0.25, 0.5, 1, 2, 4)
SIDES = (128, 256, 512, 768)
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


def _field(key: str, control: str, wide: bool = True) -> str:
    """A control under its name. control: HTML that begins with its tag's name."""
    return f"""<label class="act-field{" wide" * wide}"><span class="field-label" data-say="{key}"></span>
      <{control.replace(" ", f' data-say-label="{key}" ', 1)}</label>"""


def _pane(name: str) -> str:
    return f"""<figure class="pane" data-part="{name}">
      <div class="pane-mat" data-part="{name}-mat"></div>
      <figcaption><b data-part="{name}-name"></b><span data-part="{name}-note"></span></figcaption></figure>"""


_VIEWS = "".join(f'<button type="button" class="quiet slim" data-look="{name}" aria-pressed="false" '
                 f'data-say="inspector.views.{name}" data-say-title="inspector.about-views.{name}"></button>'
                 for name in VIEWS)
_FIELDS = f"""
    {_field("field.prompt", 'textarea class="completes" data-field="prompt" rows="2"></textarea>')}
    <p class="line wide" data-error="prompt" role="status"></p>
    {_field("field.negative-prompt",
            'textarea class="completes" data-field="negative_prompt" rows="1"></textarea>')}
    <p class="line wide" data-error="negative_prompt" role="status"></p>
    {_field("field.guidance", 'input class="number-text" data-field="guidance" inputmode="decimal">', wide=False)}
    {_field("field.seed", 'input class="number-text" data-field="seed" inputmode="numeric">', wide=False)}
    <p class="line wide" data-error="guidance" role="status"></p>
    <p class="line wide" data-error="seed" role="status"></p>
    {_field("field.sampler", 'select class="quiet preset" data-field="sampler">SAMPLERS</select>')}
    <p class="line wide" data-error="sampler" role="status"></p>
    {_field("tab.regions", 'select class="quiet preset" data-part="branch-regions"></select>')}
    <p class="line wide" data-error="regions" role="status"></p>"""
# What a list begins with is chosen.
_KINDS = "".join(f'<option value="{name}" data-say="films.{name}"></option>' for name in KINDS)
_SOURCES = "".join(f'<option value="{name}" data-say="inspector.sources.{name}"></option>' for name in SOURCES)
_ORDERS = "".join(f'<option value="{name}" data-say="inspector.orders.{name}"></option>' for name in ORDERS)
_SIZES = "".join(f'<option value="{side}">{side} px</option>' for side in SIDES)
_SECONDS = (f'input class="number-text" data-option="seconds" value="4" inputmode="decimal" '
            f'data-low="{MIN_SECONDS:g}" data-high="{MAX_SECONDS:g}">')
_OPTIONS = f"""
    {_field("inspector.file", f'select class="quiet preset" data-option="kind">{_KINDS}</select>')}
    {_field("inspector.pictures", f'select class="quiet preset" data-option="source">{_SOURCES}</select>')}
    {_field("inspector.order", f'select class="quiet preset" data-option="order">{_ORDERS}</select>', wide=False)}
    {_field("inspector.seconds", _SECONDS, wide=False)}
    {_field("inspector.size", 'select class="quiet preset" data-option="side">'
                              f'<option value="0" data-say="inspector.own-size"></option>{_SIZES}</select>')}"""


def _speeds() -> str:
    options = _options({speed: f"{speed:g}×" for speed in SPEEDS}, 1)
    return (f'<select class="quiet slim preset speed" data-part="speed" data-say-label="inspector.speed">{options}'
            '</select>')


_TEMPLATE = f"""
<section class="inspector" data-part="box" tabindex="0" data-say-label="inspector.run" data-state="empty"
  data-mode="one">
  <header class="inspector-head">
    <div class="runs">
      <button type="button" class="runs-button" data-part="runs" aria-haspopup="listbox" aria-expanded="false"
        data-say-title="inspector.runs-kept"><span class="run-thumb" data-part="thumb"></span>
        <span class="run-words"><b data-part="title"></b><span data-part="line"></span></span>
        {_icon("chevron")}</button>
      <div class="runs-list" data-part="list" role="listbox" data-say-label="inspector.runs" hidden></div>
    </div>
    <div class="inspector-state">
      <div class="inspector-progress"><p class="status" data-part="progress" role="status"></p>
        <p class="cost" data-part="cost"></p></div>
      <button type="button" class="quiet slim" data-part="news" data-say="inspector.news" hidden></button>
      <button type="button" class="quiet slim stop" data-part="stop" hidden>{ICONS["stop"]}<span
        data-say="common.stop"></span></button>
    </div>
  </header>
  <div class="inspector-main">
    <div class="panes" data-part="panes">
      {_pane("left")}
      {_pane("right")}
      <div class="panes-words" data-part="words"></div>
    </div>
    <div class="pane-tools">
      <span class="segments" data-part="sources" role="group" data-say-label="inspector.pictures-of-both" hidden>
        <button type="button" data-source="x0" aria-pressed="true">x0</button>
        <button type="button" data-source="xt" aria-pressed="false">x_t</button></span>
      <button type="button" class="quiet slim" data-part="alone" hidden></button>
      <label class="pick-picture" data-part="pick" hidden><span class="field-label" data-say="inspector.picture"></span>
        <select class="quiet slim preset" data-part="picture" data-say-label="inspector.picture"></select></label>
    </div>
    {scrub(_speeds())}
    <p class="status step-status" data-part="status"></p>
    <p class="sentence" data-part="sentence"></p>
  </div>
  <aside class="inspector-side">
    <div class="plot" data-part="plot"></div>
    <p class="plot-legend" data-part="legend" data-say="inspector.dashed" hidden></p>
    <div class="acts">
      <button type="button" class="quiet" data-act="keep" disabled>{
          _icon("keep")}<span data-say="inspector.keep"></span></button>
      <button type="button" class="quiet" data-act="branch" aria-expanded="false" disabled>{
          _icon("branch")}<span data-say="inspector.branch-from-here"></span></button>
      <button type="button" class="quiet" data-act="export" aria-expanded="false" disabled>{
          _icon("export")}<span data-say="inspector.export"></span></button>
      <button type="button" class="quiet" data-act="resume" hidden>{
          _icon("resume")}<span data-say="common.resume"></span></button>
    </div>
    <p class="line steady" data-part="said" role="status"></p>
    <form class="drawer" data-part="branch" data-say-label="inspector.branch" hidden>
      <p class="drawer-title" data-part="branch-title"></p>{_FIELDS}
      <p class="line wide" data-error="form" role="status"></p>
      <button type="submit" class="quiet go-branch wide" data-say="inspector.run-branch"></button>
    </form>
    <form class="drawer" data-part="export" data-say-label="inspector.export-options" hidden>{_OPTIONS}
      <button type="submit" class="quiet go-export wide" data-say="inspector.make-file"></button>
      <p class="line wide" data-part="exported" role="status"></p>
      <a class="quiet wide" data-part="latents" data-say="inspector.raw-latents" download></a>
    </form>
  </aside>
  <div class="inspector-closer">
    <div class="looks" data-part="looks" role="group" data-say-label="inspector.look-closer">
      <span class="field-label" data-say="inspector.look-closer"></span>{_VIEWS}</div>
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
