"""What a form holds, kept in the browser over a reload."""

from __future__ import annotations

from typing import Any

from ui.components.base import Scripted


class Keep(Scripted):
    """Value: an object that is written to the browser's storage under `store` whenever it changes.

    Event `recall` carries the kept object, once, after a reload.
    """

    script = "keep.js"
    custom_events = ("recall",)
    template = '<div data-part="keep"></div>'

    def __init__(self, value: dict[str, Any] | None = None, store: str = "latent-loom.kept", render: bool = True):
        super().__init__(value or {}, elem_classes=["invisible"], store=store, render=render)
