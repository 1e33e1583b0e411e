"""How long a prompt is, at its field's corner: tokens of how many, and where chunks end when there is more than one."""

from __future__ import annotations

from collections.abc import Mapping

import gradio as gr

from core.errors import LoomError
from core.prompts.counting import Counter
from ui.components.base import Scripted
from ui.languages import say

Texts = dict[str, str]
_STEPS = 20  # where the form holds no number of steps


class Tokens(Scripted):
    """Puts counts into the places that `place` made, and into others that name a field of its scope. Value: field ->
    text."""

    script = "tokens.js"
    template = '<div data-part="tokens"></div>'

    def __init__(self, value: Texts | None = None, scope: str = "", render: bool = True):
        super().__init__(value or {}, scope=scope, elem_classes=["invisible"], render=render)
        self.scope = scope

    def place(self, field: str) -> gr.HTML:
        """The place of a field's count: just before the field."""
        return gr.HTML(f'<p class="count" data-count="{self.scope}:{field}"></p>', js_on_load=None,
                       apply_default_css=False, elem_classes=["own", "count-place"])


def counts(prompts: Mapping[str, str], counter: Counter | None, steps: object) -> Texts:
    """What stands beside which prompt; nothing beside one that cannot be read, or of a model without a tokenizer."""
    shown: Texts = {}
    if counter is None:
        return shown
    for field, prompt in prompts.items():
        try:
            taken = steps if isinstance(steps, int) and 0 < steps <= 1000 else _STEPS
            found = counter.count(prompt, taken, joined=field != "negative_prompt")
        except LoomError:
            continue
        ends = ", ".join(f"“{words}”" for words in found.ends[:3]) + (", ..." if len(found.ends) > 3 else "")
        where = f" · {say('tokens.chunks', n=len(found.ends), ends=ends)}" if ends else ""
        shown[field] = f"{found.tokens}/{found.room}{where}"
    return shown
