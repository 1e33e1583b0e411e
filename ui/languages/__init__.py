"""What the page says, in every language it speaks: all its words are in the .toml files beside this one.

English has every key; each other language has the same. A text may hold {names} of values. Where a number decides, a
text has two forms, one and other, chosen by the value `n`. What `core` says is English, but for what it calls its
samplers, schedules and styles: that has a table of its own.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
from gradio.context import LocalContext
from gradio.i18n import I18nData

ENGLISH = "en"
LANGUAGES = (ENGLISH, "zh-CN")
PREFIX = "loom."  # of the names that gradio is told: it has words of its own

T = TypeVar("T")

_asking: ContextVar[str | None] = ContextVar("asking", default=None)  # what the HTTP request at hand accepts
_words: dict[str, dict[str, str]] = {}  # what gradio's components say: name -> the text in every language
_spoken: ContextVar[str] = ContextVar("spoken", default="")  # whatever is accepted


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


def word(key: str, **values: object) -> Any:
    """A text as gradio's own components take it: an event's is said at once, the page's is left to the browser.

    With values it must be made before the page is served. Raises KeyError for a key or a value that is missing.
    """
    if _asked():
        return say(key, **values)
    name = PREFIX + "|".join([key, *map(str, values.values())])
    _words[name] = {language: _filled(language, key, values) for language in LANGUAGES}
    return I18nData(name)


def say(key: str, **values: object) -> str:
    """A text in the language of who is asking; in English when nobody is, as while the page is built.

    Raises KeyError for a key or a value that is missing.
    """
    return _filled(_language(), key, values)


def _filled(language: str, key: str, values: Mapping[str, object]) -> str:
    texts = table(language)
    if key not in texts:
        key += ".one" if values.get("n") == 1 else ".other"
    return texts[key].format(**values)


def told(text: str) -> str:
    """Words of core in the language of who is asking, where it has them; else as they are."""
    return table(_language()).get(f"core.{text}", text)


@contextmanager
def speaking(language: str = ENGLISH) -> Iterator[None]:
    """Whoever asks in here is told in this language: a program, which reads an endpoint's answer, in English."""
    held = _spoken.set(language)
    try:
        yield
    finally:
        _spoken.reset(held)


def everywhere(make: Callable[[], T]) -> dict[str, T]:
    """What is made of words while the page is built, in every language; its script takes its own."""
    made = {}
    for language in LANGUAGES:
        with speaking(language):
            made[language] = make()
    return made


def asks(accepted: str | None) -> None:
    """From now on, in this context, somebody asks whose browser accepts these languages. For `ui.guard`."""
    _asking.set(accepted)


def _language() -> str:
    """The first language that the browser asks for, if the page speaks it: as gradio chooses on the other side."""
    return _spoken.get() or accepted(LocalContext.request.get(None))


def accepted(request: gr.Request | None) -> str:
    """The language of an event's request; of the HTTP request at hand, as when a component asks, where there is none.
    """
    header = request.headers.get("accept-language", "") if request else _asking.get() or ""
    first = header.split(",")[0].split(";")[0].strip().lower()
    return next((name for name in LANGUAGES if name.lower() == first), ENGLISH)


def _asked() -> bool:
    """Whether somebody asks: no page is being built."""
    return LocalContext.request.get(None) is not None or _asking.get() is not None


def for_gradio() -> gr.I18n:
    """What `launch` takes: all that gradio's components were given, once the page is built."""
    return gr.I18n(**{language: {name: texts[language] for name, texts in _words.items()} for language in LANGUAGES})


def script() -> str:
    """The tables for the page's scripts, which say.js reads: an element of the page's head."""
    tables = json.dumps({name: table(name) for name in LANGUAGES}, ensure_ascii=False).replace("<", "\\u003c")
    return f"<script>window.latentLoomWords = {tables};</script>"
