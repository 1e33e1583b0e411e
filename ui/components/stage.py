"""The stage: the growing picture, its filmstrip and scrubber, and what came of the run."""

from __future__ import annotations

from typing import Any

from ui.components.base import Scripted

ICONS = {
    "play": '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M8 5.5v13l10.5-6.5z" class="solid"/></svg>',
    "stop": '<svg viewBox="0 0 24 24" aria-hidden="true"><rect x="7" y="7" width="10" height="10" rx="2"'
            ' class="solid"/></svg>',
    "save": '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 4v11m0 0-4-4m4 4 4-4M5 19h14"/></svg>',
    "copy": '<svg viewBox="0 0 24 24" aria-hidden="true"><rect x="9" y="9" width="10" height="10" rx="2"/>'
            '<path d="M15 6V5H5v10h1"/></svg>',
    "pause": '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M9 6v12M15 6v12"/></svg>',
    "discard": '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12"/></svg>',
    "forever": '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 12c-2-3-3.5-4-5.5-4a4 4 0 0 0 0 8c2 0 3.5-1'
               ' 5.5-4s3.5-4 5.5-4a4 4 0 0 1 0 8c-2 0-3.5-1-5.5-4z"/></svg>',
    "seed": '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M5 12a7 7 0 0 1 12-5l2 2m0-5v5h-5M19 12a7 7 0 0 1'
            '-12 5l-2-2m0 5v-5h5"/></svg>',
}


def scrub(behind: str = "") -> str:
    """The play button, the filmstrip and the slider named "Step"; behind: what stands to their right."""
    return f"""<div class="scrub">
    <button type="button" class="quiet play" data-part="play" data-say-label="common.play"
      disabled>{ICONS["play"]}</button>
    <div class="film">
      <div class="strip" data-part="strip" aria-hidden="true"></div>
      <input type="range" data-part="step" data-say-label="common.step" min="1" max="20" value="1" step="1" disabled>
    </div>{behind}
  </div>"""


_TEMPLATE = f"""
<section class="stage" data-part="stage" tabindex="0" data-say-label="stage.name" data-state="empty">
  <div class="mat" data-part="mat">
    <div class="mat-picture" data-part="picture"></div>
    <div class="mat-words" data-part="words" role="status"></div>
    <div class="thumbs" data-part="thumbs" role="group" data-say-label="stage.pictures"></div>
  </div>
  <div class="stage-row status-row">
    <p class="status" data-part="status"></p>
    <div class="stage-actions">
      <button type="button" class="quiet bare" data-part="forever" data-say-label="stage.forever" aria-pressed="false"
        data-say-title="stage.forever-title">{ICONS["forever"]}</button>
      <button type="button" class="quiet bare" data-part="discard" data-say-label="stage.discard"
        data-say-title="stage.discard-title" hidden>{ICONS["discard"]}</button>
      <button type="button" class="quiet bare" data-part="pause" hidden>{ICONS["pause"]}</button>
      <button type="button" class="quiet stop" data-part="stop" hidden>{ICONS["stop"]}<span
        data-say="common.stop"></span></button>
      <a class="quiet save" data-part="save" hidden>{ICONS["save"]}<span data-say="common.download"></span></a>
    </div>
  </div>
  {scrub()}
  <div class="stage-row meta-row">
    <p class="meta" data-part="meta"></p>
    <div class="stage-actions">
      <button type="button" class="quiet" data-part="copy" hidden>{ICONS["copy"]}<span
        data-say="stage.copy"></span></button>
      <button type="button" class="quiet" data-part="reuse" hidden>{ICONS["seed"]}<span
        data-say="stage.reuse"></span></button>
    </div>
  </div>
</section>"""


class Stage(Scripted):
    """Value: a state of `ui.stream`. scope: tells the runs of several stages of one page apart.

    Events: act {job, act} (of `ui.line`), forever {on}, attach {jobs}, restore {jobs} (after a reload), example
    {prompt}, reuse {seed}.
    """

    script = "stage.js"
    template = _TEMPLATE
    custom_events = ("act", "forever", "attach", "restore", "example", "reuse")

    def __init__(self, value: dict[str, Any] | None = None, scope: str = "", render: bool = True):
        super().__init__(value, elem_classes=["stage-box"], scope=scope, render=render)
