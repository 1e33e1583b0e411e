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


def _act(part: str, icon: str, words: str, rest: str = "") -> str:
    return f'<button type="button" class="quiet" data-part="{part}" {rest}>{_icon(icon)}<span>{words}</span></button>'


_TEMPLATE = f"""
<section class="history" data-part="history" aria-label="History">
  <div class="history-bar" role="search">
    <input type="search" class="history-words" data-part="words" aria-label="Search prompts"
      placeholder="Words of the prompt" autocomplete="off" spellcheck="false" maxlength="400">
    <select class="quiet preset history-pick" data-part="model" aria-label="Model"></select>
    <select class="quiet preset history-pick" data-part="sampler" aria-label="Sampler"></select>
    <select class="quiet preset history-pick" data-part="tag" aria-label="Tag"></select>
    <label class="history-day">from <input type="date" data-part="since" aria-label="From day"></label>
    <label class="history-day">to <input type="date" data-part="until" aria-label="To day"></label>
    {_act("favourites", "heart", "Favourites", 'aria-pressed="false"')}
    {_act("trash", "bin", "Trash", 'aria-pressed="false"')}
  </div>
  <div class="history-status">
    <p class="line" data-part="line" role="status"></p>
    <button type="button" class="quiet slim" data-part="clear" hidden>Show all</button>
    <button type="button" class="quiet slim stop" data-part="empty" hidden>Empty the trash</button>
  </div>
  <p class="line" data-part="note" data-kind="note" role="status"></p>
  <div class="history-room" data-part="room" tabindex="-1">
    <div class="history-none" data-part="none" hidden></div>
    <div class="history-grid" data-part="grid" role="list" aria-label="Pictures"></div>
  </div>
  <div class="history-undo" data-part="undo" role="status" hidden><span data-part="undo-words"></span>
    <button type="button" class="quiet slim" data-part="undo-button">Undo</button></div>
  <dialog class="history-large" data-part="large" aria-label="Picture of the history">
    <div class="large-mat" data-part="mat">
      <button type="button" class="quiet round large-left" data-part="left" aria-label="Newer picture">{_icon("left")}
      </button><button type="button" class="quiet round large-right" data-part="right" aria-label="Older picture">
      {_icon("right")}</button>
      <button type="button" class="quiet round large-close" data-part="close" aria-label="Close">
      {_icon("close")}</button>
    </div>
    <div class="large-side">
      <div class="large-acts">
        {_act("favourite", "heart", "Favourite", 'aria-pressed="false"')}
        {_act("delete", "bin", "Delete")}{_act("restore", "back", "Restore", "hidden")}
        <a class="quiet" data-part="save">{_icon("save")}<span>Download</span></a>
      </div>
      <p class="line" data-part="large-line" data-kind="error" role="status"></p>
      <div class="large-open" data-part="open" role="group" aria-label="Open in">
        <button type="button" class="quiet slim" data-open="text">Open in Text to image</button>
        <button type="button" class="quiet slim" data-open="regions">Open in Regions</button>
        <button type="button" class="quiet slim" data-open="compare">Open in Compare</button>
        <button type="button" class="quiet slim" data-open="run">Open in Live preview</button>
      </div>
      <p class="large-prompt" data-part="prompt"></p>
      <p class="large-negative" data-part="negative"></p>
      <p class="large-meta" data-part="settings"></p>
      <p class="large-meta" data-part="about"></p>
      <div class="large-tags" data-part="tags" role="group" aria-label="Tags"></div>
      <input class="number-text large-tag" data-part="new-tag" aria-label="New tag" placeholder="Add a tag, then Enter"
        maxlength="60" autocomplete="off">
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
