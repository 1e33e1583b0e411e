"""Every language has the same words, and the page asks for no others."""

from __future__ import annotations

import re
import string
from pathlib import Path

import gradio as gr
import pytest
from gradio.context import LocalContext
from starlette.requests import Request

from core.presets import load_styles
from core.samplers import SAMPLERS, SCHEDULES
from ui import languages
from ui.languages import ENGLISH, LANGUAGES, say, table, told, word

UI = Path(languages.__file__).parent.parent
FORM = re.compile(r"\.(one|other)$")


def keys(language: str) -> set[str]:
    """Keys without their forms: Chinese has no plural. What core says has no key in English."""
    return {FORM.sub("", key) for key in table(language) if not key.startswith("core.")}


def holes(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_every_word_with_the_same_values(language: str) -> None:
    assert keys(language) == keys(ENGLISH)
    for key in keys(language) & set(table(language)):
        text = table(language)[key]
        assert text.strip()
        base = FORM.sub("", key)
        english = [other for name, other in table(ENGLISH).items() if FORM.sub("", name) == base]
        assert holes(text) <= set().union(*map(holes, english)), key
        if not FORM.search(key):
            assert holes(text) | {"n"} >= set.intersection(*map(holes, english)), key


def test_chinese_is_chinese() -> None:
    """A word left in English shows; what is a name in every language has no letters to translate or is listed here."""
    left = [key for key, text in table("zh-CN").items()
            if text == table(ENGLISH).get(key) and re.search("[a-z]{3}", re.sub(r"\{\w+\}", "", text))]
    assert left == NAMES


NAMES: list[str] = []


def test_all_that_core_says_of_samplers_schedules_and_styles_is_told_in_chinese() -> None:
    said = {*(entry.words for entry in SAMPLERS.values()), *SCHEDULES.values(),
            *(style.words for style in load_styles().values())}
    assert {key.removeprefix("core.") for key in table("zh-CN") if key.startswith("core.")} == said
    languages.asks("zh-CN")
    try:
        assert told("large square pixels") == "大块方形像素" and told("somebody's own") == "somebody's own"
        with languages.speaking():
            assert told("large square pixels") == "large square pixels" and say("tab.history") == "History"
        assert say("tab.history") == "历史"
    finally:
        languages.asks(None)


def sources() -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for path in UI.rglob("*") if path.suffix in (".py", ".js")}


# word("key"), say("key", ...), data-say="key", data-say-label="key", key: "key" of what is said elsewhere
ASKED = re.compile(r"""(?:\b(?:say|word)\(\s*f?["'`]|\bdata-say(?:-\w+)?=\\?["'])([a-z][\w-]*\.[^"'`\\\s]+)""")


def test_every_word_that_is_asked_for_is_there_and_every_word_is_asked_for() -> None:
    """A key that is put together, as `queue.acts.${act}`, asks for all that begin so."""
    text = "\n".join(sources().values())
    unused = keys(ENGLISH)
    for key in ASKED.findall(text):
        begin = re.split(r"[{$]", key)[0]
        found = {one for one in keys(ENGLISH) if one == key or begin != key and one.startswith(begin)}
        assert found, f"{key} is in no table"
        unused -= found
    unused = {key for key in unused if f'"{key}"' not in text}  # named first, said later
    assert not unused


def asking(accepted: str) -> gr.Request:
    return gr.Request(Request({"type": "http", "headers": [(b"accept-language", accepted.encode())]}))


@pytest.mark.parametrize(("accepted", "expected"), [
    ("zh-CN,zh;q=0.9,en;q=0.8", "历史"), ("ZH-cn", "历史"), ("en-GB,zh-CN;q=0.5", "History"), ("zh-TW", "History"),
    ("de", "History"), ("", "History"), ("*", "History")])
def test_the_first_language_a_browser_asks_for_is_spoken(accepted: str, expected: str) -> None:
    LocalContext.request.set(asking(accepted))
    try:
        assert say("tab.history") == expected
    finally:
        LocalContext.request.set(None)
    languages.asks(accepted)
    try:
        assert say("tab.history") == expected
    finally:
        languages.asks(None)


def test_values_are_put_in_and_a_missing_one_is_an_error() -> None:
    assert say("progress.step", step=3, total=20) == "step 3 of 20"
    assert say("queue.act", act="{prompt}", prompt="{act}") == "{prompt}: {act}"
    with pytest.raises(KeyError):
        say("progress.step", step=3)
    for unknown in (say, word):
        with pytest.raises(KeyError):
            unknown("no.such")


def test_gradio_is_told_every_word_under_a_name_of_its_own() -> None:
    history, named = word("tab.history"), word("form.automatic-schedule", schedule="Karras")
    told = languages.for_gradio().translations
    assert set(told) == set(LANGUAGES)
    assert told["zh-CN"][history.key] == "历史"
    assert (told["en"][named.key], told["zh-CN"][named.key]) == ("Automatic (Karras)", "自动（Karras）")
    assert "</script" not in languages.script()[len("<script>"):-len("</script>")]
