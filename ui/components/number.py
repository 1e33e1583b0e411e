"""A number with a name: a text field, with or without a slider, that never repairs what was typed."""

from __future__ import annotations

from ui.components.base import Scripted
from ui.languages import say


class NumberField(Scripted):
    """Its value is the text in the field: `ui.form` reads it, `Request` judges it.

    key: of its name, in ui/languages. low, high: the reach of the slider and of the arrow keys, not of what may be
    typed.
    """

    script = "number.js"

    def __init__(self, key: str, value: str = "", *, low: float, high: float, step: float = 1, slider: bool = False,
                 render: bool = True):
        reach = f'min="{low:g}" max="{high:g}" step="{step:g}"'
        text = (f'<input data-part="text" class="number-text" type="text" role="spinbutton" inputmode="decimal" '
                f'autocomplete="off" spellcheck="false" data-say-label="{key}" aria-valuemin="{low:g}" '
                f'aria-valuemax="{high:g}" data-step="{step:g}">')
        bar = f'<input data-part="range" type="range" data-say-label="{key}" {reach}>' if slider else ""
        template = f'<div class="number"><span class="field-label" data-say="{key}"></span>{text}{bar}</div>'
        super().__init__(value, template=template, elem_classes=["number-field"], render=render)
        self.label = say(key)  # in English: nobody asks yet
