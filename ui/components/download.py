"""A text that the browser keeps as a file."""

from __future__ import annotations

from typing import Any

from ui.components.base import Scripted


class Download(Scripted):
    """Value {"name": file name, "text": its content}; {} gives nothing."""

    script = "download.js"
    template = '<div data-part="download"></div>'

    def __init__(self, value: dict[str, Any] | None = None, render: bool = True):
        super().__init__(value or {}, elem_classes=["invisible"], render=render)
