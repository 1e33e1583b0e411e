"""What the gallery is told: only as much as is in sight, however many pictures there are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from core.history import History
from ui.shelf import Shelf

MANY = 10_000


def filled(outputs: Path) -> History:
    found = History(outputs)
    row = {"folder": "x", "stamp": 1, "bytes": 1, "width": 512, "height": 512, "negative": "", "model": "storybook",
           "sampler": "Euler", "steps": 20, "regions": 0, "program": "Latent Loom", "deleted": None}
    found._write([{**row, "file": f"x/{k}.png", "place": f"x/{k}.png", "made": k / 10, "seed": k,
                   "prompt": f"a boat {k}"} for k in range(MANY)], [])
    return found


def ask(shelf: Shelf, name: str, **question: Any) -> dict[str, Any]:
    return asyncio.run(getattr(shelf, name)(question))


def test_ten_thousand_pictures_are_opened_and_scrolled_without_loading_them_all(tmp_path: Path) -> None:
    shelf = Shelf(filled(tmp_path / "outputs").outputs, tmp_path)
    statements: list[str] = []
    shelf.history.index._db.set_trace_callback(statements.append)
    first = ask(shelf, "look", offset=0, count=60)
    assert first["total"] == MANY and len(first["rows"]) == 60 and len(statements) <= 5
    middle = ask(shelf, "look", offset=5040, count=60)
    assert [row["prompt"] for row in middle["rows"][:2]] == ["a boat 4959", "a boat 4958"]
    assert len(statements) <= 10
    assert len(ask(shelf, "look", offset=0, count=MANY)["rows"]) == 500  # whoever asks for all of them
    assert ask(shelf, "look", words="boat 77", offset=0, count=60)["total"] == 111
    shelf.history.close()


def test_questions_that_mean_nothing_are_answered_with_one_line(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "outputs", tmp_path)
    for name, question in (("detail", {"id": 5}), ("detail", {"id": "../../etc/passwd"}), ("detail", {}),
                           ("look", {"since": "x"}), ("look", {"offset": "x"}), ("change", {"id": 1, "tags": 5}),
                           ("thumbs", {}), ("thumbs", {"ids": 5})):
        answer = ask(shelf, name, **question)
        assert set(answer) == {"error", "field"} and len(answer["error"].splitlines()) == 1
    assert ask(shelf, "thumbs", ids=[1, 2]) == {"urls": {"1": "", "2": ""}}
    shelf.history.close()
