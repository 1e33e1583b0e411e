"""The words Storybook knows, by kind; a click puts one into the prompt."""

from __future__ import annotations

from core.storybook import vocabulary
from ui.components.base import Scripted


class Words(Scripted):
    """Value: `kinds()`, or {} for a model whose words are not known. Event `pick` carries {"word": str}."""

    script = "words.js"
    custom_events = ("pick",)
    template = """
<details class="words" data-part="words">
  <summary>Words Storybook knows</summary>
  <div data-part="kinds" class="words-kinds"></div>
</details>"""

    def __init__(self, value: dict[str, list[str]] | None = None, render: bool = True) -> None:
        super().__init__(value or {}, elem_classes=["words-box"], render=render)


def kinds() -> dict[str, list[str]]:
    """The vocabulary as people look for it."""
    return {
        "Things": list(vocabulary.THINGS),
        "Colours": list(vocabulary.COLOURS),
        "Places": list(vocabulary.SCENES),
        "Where": [phrases[0] if phrases else name for name, phrases in vocabulary.POSITIONS.items()],
        "Size": list(vocabulary.SIZES),
        "Time": [phrases[0] if phrases else name for name, phrases in vocabulary.TIMES.items()],
        "Styles": list(vocabulary.STYLES),
    }


def append(prompt: str, word: str) -> str:
    """The prompt with a word at its end."""
    kept = prompt.rstrip()
    return f"{kept} {word}" if kept else word
