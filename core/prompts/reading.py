"""What a prompt says in plain words, and what in it nobody meant: asked before a job is queued. No torch."""

from __future__ import annotations

import re
from functools import lru_cache

from core.errors import BadRequest
from core.prompts.composition import Change, compose
from core.prompts.emphasis import stretches
from core.prompts.networks import EXAMPLE, loras_in, shown, without_tags
from core.request import MAX_STEPS

MOST_PARTS = 16  # prompts joined by AND; each asks the network once more at every step

_NETWORK = re.compile(r"<\s*(lora|lyco|lycoris|hypernet)\s*:[^<>]*(>?)", re.IGNORECASE)
_COMMA = re.compile(r"\([^()]*:\s*([+-]?\d+),(\d+)\s*\)", re.ASCII)
_AND = re.compile(r"\bAND\b")


@lru_cache(maxsize=512)
def texts_of(prompt: str, steps: int, joined: bool = True) -> tuple[str, ...]:
    """Every text that some step reads, each once. joined: as in `compose`."""
    composition = compose(prompt, joined)
    return tuple(dict.fromkeys(part.text for step in range(steps) for part in composition.at(step, steps)))


def plain_words(prompt: str, steps: int, joined: bool = True) -> str:
    """All words that some step reads, without the grammar around them."""
    return " ".join(_bare(text) for text in texts_of(prompt, steps, joined))


def last_words(prompt: str) -> str:
    """What the last steps read, without the grammar."""
    return ", ".join(_bare(part.text) for part in compose(prompt).at(MAX_STEPS - 1, MAX_STEPS))


def refuse(prompt: str, joined: bool = True) -> None:
    """Raises BadRequest for what would be read as words though it was meant as something else."""
    for network in _NETWORK.finditer(prompt):
        tag = shown(network[0])
        if network[1].lower() == "hypernet":
            raise BadRequest(f"{tag} asks for a hypernetwork, which is not known here: delete it from the prompt.")
        if not network[2]:
            raise BadRequest(f"{tag} is not closed: write {EXAMPLE}.")
        if not joined:
            raise BadRequest(f"{tag} stands in a negative prompt, where it means nothing: move it to the prompt, or "
                             "delete it.")
    loras_in(prompt)
    parts = compose(prompt, joined).parts
    if len(parts) > MOST_PARTS:
        raise BadRequest(f"{len(parts)} prompts are joined by AND; at most {MOST_PARTS} can be: put commas for some.")


def remarks(prompt: str, steps: int, joined: bool = True) -> list[str]:
    """What a person should know of how a prompt is read, each one line."""
    composition, found = compose(prompt, joined), []
    prompt = without_tags(prompt)
    if composition.literal and re.search(r"\[[^\[\]]*[:|]", prompt):
        found.append("A | outside of [a|b], or a \\ at the end, switches all [from:to:when] and [a|b] beside it off: "
                     "write \\| for a mere |.")
    for change in composition.changes():
        if change.step(steps) >= steps and change.after:
            found.append(f"{_shown(change)} changes after step {change.when}, and there are {steps}: that never comes.")
    if comma := _COMMA.search(prompt):
        found.append(f"{comma[1]},{comma[2]} is read as words, not as a weight: write {comma[1]}.{comma[2]}.")
    if not joined and _AND.search(prompt):
        found.append("AND joins prompts only; in a negative prompt it is a word like any other.")
    return found


def _bare(text: str) -> str:
    return " ".join(part.strip() for part, _ in stretches(text) if part and part.strip())


def _shown(change: Change) -> str:
    after = "".join(piece if isinstance(piece, str) else "[...]" for piece in change.after)
    return f"[...:{_short(after, 24)}:{change.when[:8]}]"


def _short(text: str, most: int) -> str:
    """On one line, printable."""
    text = "".join(c for c in " ".join(text.split()) if c.isprintable())
    return text if len(text) <= most else text[:most - 3] + "..."
