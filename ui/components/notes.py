"""One line beside the field it is about: an error, a warning or a hint."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import gradio as gr

from core.checks import Note
from core.errors import LoomError
from ui.components.base import Scripted
from ui.languages import everywhere

Lines = dict[str, list[str]]


class Notes(Scripted):
    """Puts lines into the places that `place` made. Value {field: [kind, text]}; kind: "error", "note" or "hint".

    first: makes the lines that stand there before the first value, in the language of who reads them.
    """

    script = "notes.js"
    template = '<div data-part="notes"></div>'

    def __init__(self, scope: str, value: Lines | None = None, first: Callable[[], Lines] = dict, render: bool = True):
        super().__init__(value, scope=scope, first=everywhere(first), elem_classes=["invisible"], render=render)
        self.scope = scope

    def place(self, field: str, steady: bool = False) -> gr.HTML:
        """The place of a field's line. steady: it keeps its height when empty, so that nothing jumps."""
        kind = "line steady" if steady else "line"
        return gr.HTML(f'<p class="{kind}" data-line="{self.scope}:{field}" role="status"></p>', js_on_load=None,
                       apply_default_css=False, elem_classes=["own", "line-place"])


def lines(notes: Iterable[Note] = (), error: LoomError | None = None,
          hints: dict[str, str] | None = None) -> Lines:
    """What stands beside which field. Errors hide warnings, warnings hide hints; no field: beside Generate."""
    shown = {field: ["hint", text] for field, text in (hints or {}).items() if text}
    for note in notes:
        before = shown.get(note.field)
        text = f"{before[1]} {note.text}" if before and before[0] == "note" else note.text
        shown[note.field] = ["note", text]
    if error is not None:
        shown[error.field or "form"] = ["error", str(error)]
    return shown
