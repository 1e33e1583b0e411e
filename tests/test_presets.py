"""core.presets: what is in the project's files, and what is said of broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import StartError
from core.presets import Style, load_styles
from core.storybook import vocabulary


def styles_of(folder: Path, text: str) -> object:
    (folder / "styles.toml").write_text(text, encoding="utf-8")
    return load_styles(folder / "styles.toml")


def test_every_style_is_applied_and_described() -> None:
    styles = load_styles()
    assert len(styles) >= 6
    for name, style in styles.items():
        prompt, negative = style.apply("a red boat", "text")
        assert "a red boat" in prompt and "{" not in prompt, name
        assert negative.startswith("text")
        assert style.words and style.apply("")[0], name


def test_styles_for_storybook_use_its_words_only() -> None:
    for name, style in load_styles().items():
        if style.storybook:
            assert vocabulary.unknown_words(style.apply("")[0]) == [], name


@pytest.mark.parametrize(("prompt", "negative", "styled"), [
    ("ink of {prompt}", "", ("ink of boat", "fog")),
    ("{prompt}, ink, a painting of {prompt}", "", ("boat, ink, a painting of boat", "fog")),
    ("ink, black", "blur", ("boat, ink, black", "fog, blur")),
    ("", "blurred {prompt}, {prompt}", ("boat", "blurred fog, fog")),
    ("{prompt}", "{prompt}", ("boat", "fog")),
])
def test_a_style_goes_around_what_was_typed_as_in_a1111(prompt: str, negative: str, styled: tuple[str, str]) -> None:
    style = Style(name="A", prompt=prompt, negative_prompt=negative)
    assert style.apply(" boat ", "fog") == styled
    assert "{" not in "".join(style.apply("", "")) and not style.apply("", "")[0].startswith((",", " "))
    assert style.apply("{prompt}")[0].count("{prompt}") == max(prompt.count("{prompt}"), 1)  # typed: a text as others


@pytest.mark.parametrize(("text", "line"), [
    ('["A"]\npromt = "{prompt}, a"', "unknown setting 'promt'. Did you mean 'prompt'?"),
    ('["A"]\nwords = "no others"', "has no words: give it a 'prompt'"),
    ('["A"]\nprompt = " "\nnegative_prompt = ""', "has no words"),
    ('["A"]\nprompt = 7', "wants text in quotes for 'prompt', not '7'"),
    ('["A"]\nprompt = "{prompt}"\nstorybook = "no"', "wants true or false for 'storybook'"),
    ('A = "x"', "'A' is not a style"),
    ('["A"\n', "is not valid TOML"),
    ('["A"]\nprompt = "{prompt}' + "x" * 5000 + '"', "at most 2,500"),
])
def test_a_broken_file_gets_one_clear_line(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(StartError, match="styles.toml") as caught:
        styles_of(tmp_path, text)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_or_binary_file_gets_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="is missing"):
        load_styles(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StartError, match="cannot be read"):
        load_styles(tmp_path / "b.toml")
