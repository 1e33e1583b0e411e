"""The board of a comparison: every cell live under one scrubber, two of them large, figures, curves and files."""

from __future__ import annotations

from typing import Any

from ui.components.base import Scripted
from ui.components.stage import ICONS

_TEMPLATE = f"""
<section class="board" data-part="board" data-state="empty" data-say-label="compare.comparison">
  <div class="board-empty" data-part="empty">
    <h2 data-say="compare.title"></h2>
    <p data-part="empty-why" data-say="compare.how"></p>
    <button type="button" class="example" data-part="example" data-say="compare.example"></button>
    <select class="quiet preset" data-part="recent-empty" data-say-label="compare.earlier" hidden></select>
  </div>
  <div class="board-head">
    <p class="status" data-part="status" role="status"></p>
    <div class="stage-actions">
      <button type="button" class="quiet stop" data-part="stop" hidden>{ICONS["stop"]}<span
        data-say="common.stop"></span></button>
      <button type="button" class="quiet" data-part="resume" hidden>{ICONS["play"]}<span
        data-say="common.resume"></span></button>
      <span class="board-files" data-part="files"></span>
      <span class="board-film" data-part="filming" hidden>
        <select class="quiet preset" data-part="film-kind" data-say-label="compare.film-kind"></select>
        <button type="button" class="quiet" data-part="film" data-say-label="compare.make-film">{ICONS["play"]}<span
          data-say="compare.animate"></span></button>
      </span>
      <select class="quiet preset" data-part="recent" data-say-label="compare.earlier" hidden></select>
    </div>
    <p class="failure-line" data-part="error" role="alert" hidden></p>
  </div>
  <div class="board-main">
    <div class="board-scrub">
      <input type="range" data-part="step" data-say-label="common.step" min="1" max="20" value="20" step="1" disabled>
      <span class="board-step" data-part="step-words"></span>
    </div>
    <div class="board-scroll"><div class="tiles" data-part="tiles"></div></div>
    <p class="meta" data-part="line"></p>
  </div>
  <div class="board-side">
    <div class="duel" data-part="duel">
      <div class="duel-mat" data-part="duel-mat">
        <canvas data-part="left" role="img" data-say-label="compare.left-nothing"></canvas>
        <canvas data-part="right" role="img" data-say-label="compare.right-nothing"></canvas>
        <span class="duel-line" data-part="duel-line"></span>
      </div>
      <input type="range" data-part="divider" data-say-label="compare.divider" min="0" max="100" value="50" step="1">
      <div class="duel-names">
        <select class="quiet preset" data-part="pick-left" data-say-label="compare.left-picture"></select>
        <button type="button" class="quiet slim" data-part="swap" data-say="compare.swap"></button>
        <select class="quiet preset" data-part="pick-right" data-say-label="compare.right-picture"></select>
      </div>
      <p class="meta" data-say="compare.click"></p>
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
    """Value: a state of `ui.contest`. films: kinds of animated grids that can be made.

    Events: stop {id}, resume {id}, film {id, kind}, example {}; attach {id}: after a reload, or from the list;
    opened {id}: from the list; arrived {}: on an empty board, once.
    """

    script = "compare_board.js"
    template = _TEMPLATE
    custom_events = ("stop", "resume", "attach", "opened", "film", "example", "arrived")

    def __init__(self, value: dict[str, Any] | None = None, render: bool = True, films: object = None):
        super().__init__(value, elem_classes=["board-box"], render=render, films=films or [])
