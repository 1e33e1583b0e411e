"""The board of a comparison: every cell live under one scrubber, two of them large, figures, curves and files."""

from __future__ import annotations

from typing import Any

from ui.components.base import Scripted
from ui.components.stage import ICONS

_TEMPLATE = f"""
<section class="board" data-part="board" data-state="empty" aria-label="Comparison">
  <div class="board-empty" data-part="empty">
    <h2>See samplers side by side, at every step.</h2>
    <p data-part="empty-why">Tick samplers, give numbers of steps, press Compare: one row for each sampler, one column
      for each number of steps, every cell live. Or begin with one click:</p>
    <button type="button" class="example" data-part="example">Compare four samplers at 5, 10 and 20 evaluations</button>
    <select class="quiet preset" data-part="recent-empty" aria-label="Earlier comparisons" hidden></select>
  </div>
  <div class="board-head">
    <p class="status" data-part="status" role="status"></p>
    <div class="stage-actions">
      <button type="button" class="quiet stop" data-part="stop" hidden>{ICONS["stop"]}<span>Stop</span></button>
      <button type="button" class="quiet" data-part="resume" hidden>{ICONS["play"]}<span>Resume</span></button>
      <span class="board-files" data-part="files"></span>
      <span class="board-film" data-part="filming" hidden>
        <select class="quiet preset" data-part="film-kind" aria-label="Kind of animated grid"></select>
        <button type="button" class="quiet" data-part="film" aria-label="Make the animated grid">{ICONS["play"]}<span
          >Animate</span></button>
      </span>
      <select class="quiet preset" data-part="recent" aria-label="Earlier comparisons" hidden></select>
    </div>
    <p class="failure-line" data-part="error" role="alert" hidden></p>
  </div>
  <div class="board-main">
    <div class="board-scrub">
      <input type="range" data-part="step" aria-label="Step" min="1" max="20" value="20" step="1" disabled>
      <span class="board-step" data-part="step-words"></span>
    </div>
    <div class="board-scroll"><div class="tiles" data-part="tiles"></div></div>
    <p class="meta" data-part="line"></p>
  </div>
  <div class="board-side">
    <div class="duel" data-part="duel">
      <div class="duel-mat" data-part="duel-mat">
        <canvas data-part="left" role="img" aria-label="Left: nothing yet"></canvas>
        <canvas data-part="right" role="img" aria-label="Right: nothing yet"></canvas>
        <span class="duel-line" data-part="duel-line"></span>
      </div>
      <input type="range" data-part="divider" aria-label="Divider" min="0" max="100" value="50" step="1">
      <div class="duel-names">
        <select class="quiet preset" data-part="pick-left" aria-label="Left picture"></select>
        <button type="button" class="quiet slim" data-part="swap">Swap</button>
        <select class="quiet preset" data-part="pick-right" aria-label="Right picture"></select>
      </div>
      <p class="meta">Click a cell to put it on the right, Shift and click for the left.</p>
    </div>
  </div>
  <div class="board-table"><table data-part="table"></table></div>
  <div class="curves">
    <div class="curves-part" data-part="curves"></div>
    <div class="curves-part" data-part="paths"></div>
    <div class="curves-names" data-part="legend"></div>
  </div>
</section>"""


class Board(Scripted):
    """Value: a state of `ui.contest`. films: [kind, label] of the animated grids that can be made.

    Events: stop {id}, resume {id}, film {id, kind}, example {}; attach {id}: after a reload, or from the list;
    opened {id}: from the list.
    """

    script = "compare_board.js"
    template = _TEMPLATE
    custom_events = ("stop", "resume", "attach", "opened", "film", "example")

    def __init__(self, value: dict[str, Any] | None = None, render: bool = True, films: object = None):
        super().__init__(value, elem_classes=["board-box"], render=render, films=films or [])
