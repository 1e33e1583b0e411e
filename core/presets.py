"""Presets: small files below presets/ (TOML, layouts as JSON), read and checked once at the start. Data only."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core import layoutfile
from core.errors import BadRequest, StartError, closest
from core.registry import Registry
from core.request import MAX_PROMPT, Request

PRESETS = Path(__file__).parent.parent / "presets"
PLACE = "{prompt}"


@dataclass(frozen=True, kw_only=True)
class Style:
    """A way of painting: words put around both prompts. {prompt} says where what was typed goes, each time it stands
    there; words without it follow what was typed.

    Source: AUTOMATIC1111, modules/styles.py, merge_prompts.
    """

    name: str
    prompt: str = ""
    negative_prompt: str = ""
    words: str = ""  # one line for people
    storybook: bool = True  # the embedded model knows its words

    def apply(self, prompt: str, negative_prompt: str = "") -> tuple[str, str]:
        """Both prompts in this style. An empty prompt leaves the style's own words."""
        return _merged(self.prompt, prompt), _merged(self.negative_prompt, negative_prompt)


def _merged(words: str, typed: str) -> str:
    typed = typed.strip()
    if PLACE in words:
        return words.replace(PLACE, typed).strip(" ,")
    return ", ".join(part for part in (typed, words.strip()) if part)


def load_styles(path: Path = PRESETS / "styles.toml") -> Registry[Style]:
    """The styles of a file, in its order. Raises StartError, in one line, for a file that cannot be used."""
    styles: Registry[Style] = Registry("style", "style")
    for name, entry in read_tables(path).items():
        styles.add(name, parse_style(path.name, name, entry))
    return styles


def parse_style(file: str, name: str, entry: Any) -> Style:
    """The style of a table of `file`. Raises StartError, in one line, for one that cannot be used."""
    where = f"{file}: the style {name[:60]!r}"
    if not isinstance(entry, dict):
        raise StartError(f'{file}: {name[:60]!r} is not a style: write ["{name[:60]}"] and its settings below.')
    kinds = {"prompt": str, "negative_prompt": str, "words": str, "storybook": bool}
    for key, value in entry.items():
        if key not in kinds:
            raise StartError(f"{where} has an unknown setting {key[:40]!r}. {closest(key[:40], list(kinds))}")
        if type(value) is not kinds[key]:
            wanted = "true or false" if kinds[key] is bool else "text in quotes"
            raise StartError(f"{where} wants {wanted} for {key!r}, not {str(value)[:40]!r}.")
        if isinstance(value, str) and len(value) > MAX_PROMPT // 2:
            raise StartError(f"{where} has {len(value):,} characters in {key!r}: at most {MAX_PROMPT // 2:,} are used.")
    if not any(entry.get(key, "").strip() for key in ("prompt", "negative_prompt")):
        raise StartError(f"{where} has no words: give it a 'prompt', with {PLACE} where the typed words go.")
    return Style(name=name, **entry)


def read_tables(path: Path) -> dict[str, Any]:
    """A file's tables by name. Raises StartError, in one line, for one that cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StartError(f"The presets file {path} is missing: copy the project's presets folder anew.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"The presets file {path} cannot be read ({str(error)[:80]}).") from None
    except tomllib.TOMLDecodeError as error:
        raise StartError(f"The presets file {path} is not valid TOML: {str(error)[:120]}.") from None


def load_layouts(folder: Path = PRESETS / "layouts") -> dict[str, dict[str, Any]]:
    """What the layouts of a folder say, fields of a Request, by their names and in the order of their files.

    Each is a layout file, as `python -m core compose` takes it. Raises StartError, in one line, for one that is none.
    """
    layouts = {}
    for path in sorted(folder.glob("*.json")):
        try:
            fields = layoutfile.read(path)
            Request(**fields)  # which refuses what cannot be asked for
            layouts[layoutfile.spoken(path)] = fields
        except BadRequest as error:
            raise StartError(f"The preset {path.name} cannot be used: {error}") from None
    return layouts
