"""The common base of the page's own components."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import gradio as gr

HERE = Path(__file__).parent
mimetypes.add_type("text/javascript", ".js")  # some Windows registries say text/plain, which browsers refuse to run


def file_url(path: Path) -> str:
    """The address of a file below `allowed_paths`, relative to the page, so that it survives a proxy's prefix."""
    return "gradio_api/file=" + quote(str(path.resolve()).replace("\\", "/"), safe="/:")


class Scripted(gr.HTML):
    """A gr.HTML whose behaviour lies in a script: its `mount({element, props, trigger, watch, upload, server})` is
    called once.

    template: static HTML without values from outside; the script fills it, with textContent only. Its words are keys
    of ui/languages, in data-say and the like (say.js).
    gradio makes a component anew for every update, from its arguments without the value: so `value` is optional in
    every subclass, and `render` accepted. Give one its whole value, never gr.skip() or an update: those put
    {"__type__": "update"} in the place of its props (gradio 6.31, blocks.postprocess_update_dict).
    """

    script: ClassVar[str] = ""
    template: ClassVar[str] = ""
    custom_events: ClassVar[Sequence[str]] = ()

    def __init__(self, value: Any = None, *, template: str | None = None, elem_classes: Sequence[str] = (),
                 visible: bool = True, render: bool = True, **props: Any):
        # the newest script's time: browsers keep scripts, also across upgrades
        version = max(path.stat().st_mtime_ns for path in HERE.glob("*.js"))
        address, say = (f"{file_url(HERE / name)}?v={version}" for name in (self.script, "say.js"))
        # gradio offers the events whose quoted names it finds in this text
        js = (f"/* events: {json.dumps(list(self.custom_events))} */ "
              f"const files = {json.dumps([address, say])}.map((file) => import(new URL(file, document.baseURI)));"
              "Promise.all(files).then(([script, { fill }]) => { fill(element); "
              "script.mount({ element, props, trigger, watch, upload, server }); }).catch((e) => console.error(e));")
        super().__init__(value, html_template=template or self.template, js_on_load=js, apply_default_css=False,
                         elem_classes=["own", *elem_classes], visible=visible, render=render, **props)

    def api_info(self) -> dict[str, Any]:
        return {"type": {}, "description": "any json value"}

    def preprocess(self, payload: Any) -> Any:
        return payload

    def postprocess(self, value: Any) -> Any:
        return value
