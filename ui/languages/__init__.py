"""What the page says, in every language it speaks: all its words are in the .toml files beside this one.

English has every key; each other language has the same. A text may hold {names} of values. Where a number decides, a
text has two forms, one and other, chosen by the value `n`. What `core` says (errors, notes) is English everywhere.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import LocalContext
from gradio.i18n import I18nData

ENGLISH = "en"
LANGUAGES = (ENGLISH, "zh-CN")
PREFIX = "loom."  # of the keys that gradio is told: it has words of its own

_asking: ContextVar[str] = ContextVar("language", default="")  # of the HTTP request at hand, as its header says it


@cache
def table(language: str) -> Mapping[str, str]:
    """All texts of a language: "tab.history" -> "History"."""
    path = Path(__file__).parent / f"{language}.toml"
    return dict(_flat(tomllib.loads(path.read_text(encoding="utf-8"))))


def _flat(tables: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in tables.items():
        if isinstance(value, str):
            yield before + name, value
        else:
            yield from _flat(value, f"{before}{name}.")


def word(key: str) -> I18nData:
    """A text without values, as gradio's own components take it: the browser says it in its language.

    Raises KeyError for a key that there is not.
    """
    table(ENGLISH)[key]
    return I18nData(PREFIX + key)


def say(key: str, **values: object) -> str:
    """A text in the language of who is asking; in English when nobody is, as while the page is built.

    Raises KeyError for a key or a value that is missing.
    """
    texts = table(_language())
    if key not in texts:
        key += ".one" if values.get("n") == 1 else ".other"
    return texts[key].format(**values)


def asks(accepted: str) -> None:
    """From now on, in this context, somebody asks whose browser accepts these languages. For `ui.guard`."""
    _asking.set(accepted)


def _language() -> str:
    """The first language that the browser asks for, if the page speaks it: as gradio chooses on the other side."""
    request = LocalContext.request.get(None)  # of an event; what a component asks the server has none
    accepted = request.headers.get("accept-language", "") if request else _asking.get()
    first = accepted.split(",")[0].split(";")[0].strip().lower()
    return next((name for name in LANGUAGES if name.lower() == first), ENGLISH)


def for_gradio() -> gr.I18n:
    """What `launch` takes."""
    return gr.I18n(**{name: {PREFIX + key: text for key, text in table(name).items()} for name in LANGUAGES})


def script() -> str:
    """The tables for the page's scripts, which say.js reads: an element of the page's head."""
    tables = json.dumps({name: table(name) for name in LANGUAGES}, ensure_ascii=False).replace("<", "\\u003c")
    return f"<script>window.latentLoomWords = {tables};</script>"
