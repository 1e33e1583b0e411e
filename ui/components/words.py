"""Words at hand: those Storybook knows, LoRAs and textual inversions, as chips that go into the prompt and as
completions while somebody types; and ideas.
"""

from __future__ import annotations

import random
from typing import Any

from core.models.catalogue import ModelInfo
from core.models.extras import Extras
from core.storybook import vocabulary
from core.storybook.ideas import surprise
from ui.components.base import Scripted

Kinds = dict[str, list[list[str]]]


class Words(Scripted):
    """Value: `at_hand(...)`.

    field: CSS selector of the text areas that chips and ideas go into: the one that had the focus last, or the first.
    Completions are offered in every text area of the page that has the class "completes", or lies in what has it.
    """

    script = "words.js"
    template = """
<details class="words" data-part="words">
  <summary data-say="words.storybook"></summary>
  <div data-part="kinds" class="words-kinds"></div>
</details>
<details class="words" data-part="extras" hidden>
  <summary data-say="words.extras"></summary>
  <div data-part="list" class="words-kinds"></div>
</details>
<button type="button" class="linkish surprise" data-part="surprise" data-say-title="words.surprise-hint"
  data-say="words.surprise" hidden></button>"""

    def __init__(self, value: dict[str, Any] | None = None, field: str = "", render: bool = True) -> None:
        super().__init__(value or {}, elem_classes=["words-box"], render=render, field=field, server_functions=[idea])


def at_hand(info: ModelInfo | None, extras: Extras, words: bool = True) -> dict[str, Any]:
    """What can be put into a prompt for a model: {"kinds", "extras"}. words: the vocabulary of Storybook too."""
    return {"kinds": kinds() if words and info and info.is_storybook else {}, "extras": extras.rows(info)}


def kinds() -> Kinds:
    """The vocabulary as people look for it: kind -> words, each a list that begins with the word itself and goes on
    with others that mean the same. The kinds' names are in ui/languages; the words are the model's, in English."""
    def named(table: dict[str, tuple[str, ...]]) -> list[list[str]]:
        return [[name, *others] for name, others in table.items()]

    def phrased(table: dict[str, tuple[str, ...]]) -> list[list[str]]:
        return [list(phrases or (name,)) for name, phrases in table.items()]

    return {"things": named(vocabulary.THINGS), "colours": named(vocabulary.COLOURS),
            "places": named(vocabulary.SCENES), "where": phrased(vocabulary.POSITIONS),
            "size": named(vocabulary.SIZES), "time": phrased(vocabulary.TIMES), "styles": named(vocabulary.STYLES)}


def idea(_asked: Any = None) -> str:
    """A prompt that Storybook can do."""
    return surprise(random.SystemRandom())
