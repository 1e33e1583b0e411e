"""The gallery of the history: a grid of small pictures, of which only those in sight are loaded, and a large view."""

from __future__ import annotations

from typing import Any

from ui.components.base import Scripted

_PATHS = {
    "heart": "M12 20s-7.5-4.6-7.5-10A4.3 4.3 0 0 1 12 7.2 4.3 4.3 0 0 1 19.5 10c0 5.4-7.5 10-7.5 10z",
    "bin": "M5 7h14M10 7V4.5h4V7M7 7l1 12.5h8L17 7",
    "save": "M12 4v11m0 0-4-4m4 4 4-4M5 19h14",
    "left": "M14.5 5.5 8 12l6.5 6.5",
    "right": "M9.5 5.5 16 12l-6.5 6.5",
    "close": "M6 6l12 12M18 6 6 18",
    "back": "M8 5 4 9l4 4M4 9h10a5 5 0 0 1 0 10H9",
}


def _icon(name: str) -> str:
    return f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{_PATHS[name]}"/></svg>'


def _act(part: str, icon: str, key: str, rest: str = "") -> str:
    return (f'<button type="button" class="quiet" data-part="{part}" {rest}>{_icon(icon)}'
            f'<span data-say="{key}"></span></button>')


_TEMPLATE = f"""
<section class="history" data-part="history" data-say-label="tab.history">
  <div class="history-bar" role="search">
    <input type="search" class="history-words" data-part="words" data-say-label="history.search"
      data-say-placeholder="history.search-hint" autocomplete="off" spellcheck="false" maxlength="400">
    <select class="quiet preset history-pick" data-part="model" data-say-label="header.model"></select>
    <select class="quiet preset history-pick" data-part="sampler" data-say-label="field.sampler"></select>
    <select class="quiet preset history-pick" data-part="tag" data-say-label="history.by.tag"></select>
    <label class="history-day"><span data-say="history.from"></span>
      <input type="date" data-part="since" data-say-label="history.from-day"></label>
    <label class="history-day"><span data-say="history.until"></span>
      <input type="date" data-part="until" data-say-label="history.until-day"></label>
    {_act("favourites", "heart", "history.favourites", 'aria-pressed="false"')}
    {_act("trash", "bin", "history.trash", 'aria-pressed="false"')}
  </div>
  <div class="history-status">
    <p class="line" data-part="line" role="status"></p>
    <button type="button" class="quiet slim" data-part="clear" data-say="history.show-all" hidden></button>
    <button type="button" class="quiet slim stop" data-part="empty" data-say="history.empty-trash" hidden></button>
  </div>
  <p class="line" data-part="note" data-kind="note" role="status"></p>
  <div class="history-room" data-part="room" tabindex="-1">
    <div class="history-none" data-part="none" hidden></div>
    <div class="history-grid" data-part="grid" role="list" data-say-label="history.pictures"></div>
  </div>
  <div class="history-undo" data-part="undo" role="status" hidden><span data-part="undo-words"></span>
    <button type="button" class="quiet slim" data-part="undo-button" data-say="common.undo"></button></div>
  <dialog class="history-large" data-part="large" data-say-label="history.large.title">
    <div class="large-mat" data-part="mat">
      <button type="button" class="quiet round large-left" data-part="left"
        data-say-label="history.large.newer">{_icon("left")}</button>
      <button type="button" class="quiet round large-right" data-part="right"
        data-say-label="history.large.older">{_icon("right")}</button>
      <button type="button" class="quiet round large-close" data-part="close" data-say-label="common.close">
      {_icon("close")}</button>
    </div>
    <div class="large-side">
      <div class="large-acts">
        {_act("favourite", "heart", "history.large.favourite", 'aria-pressed="false"')}
        {_act("delete", "bin", "history.large.delete")}{_act("restore", "back", "history.large.restore", "hidden")}
        <a class="quiet" data-part="save">{_icon("save")}<span data-say="common.download"></span></a>
      </div>
      <p class="line" data-part="large-line" data-kind="error" role="status"></p>
      <div class="large-open" data-part="open" role="group" data-say-label="open-in.title">
        <button type="button" class="quiet slim" data-open="text" data-say="open-in.text"></button>
        <button type="button" class="quiet slim" data-open="regions" data-say="open-in.regions"></button>
        <button type="button" class="quiet slim" data-open="compare" data-say="open-in.compare"></button>
        <button type="button" class="quiet slim" data-open="run" data-say="open-in.run"></button>
      </div>
      <p class="large-prompt" data-part="prompt"></p>
      <p class="large-negative" data-part="negative"></p>
      <p class="large-meta" data-part="settings"></p>
      <p class="large-meta" data-part="about"></p>
      <div class="large-tags" data-part="tags" role="group" data-say-label="history.large.tags"></div>
      <input class="number-text large-tag" data-part="new-tag" data-say-label="history.large.new-tag"
        data-say-placeholder="history.large.new-tag-hint" maxlength="60" autocomplete="off">
      <dl class="large-other" data-part="other"></dl>
    </div>
  </dialog>
</section>"""


class Gallery(Scripted):
    """Value: {}: it asks the server for what it shows, by the functions of `ui.shelf`.

    Events: text {id, name} and regions {id, name}, to open a picture in those tabs.
    """

    script = "gallery.js"
    template = _TEMPLATE
    custom_events = ("text", "regions")

    def __init__(self, value: dict[str, Any] | None = None, render: bool = True, server_functions: Any = None):
        super().__init__(value or {}, elem_classes=["history-box"], render=render, server_functions=server_functions)
