"""The model bar: native size, device, precision, runs in the queue."""

from __future__ import annotations

from typing import Any

from core.errors import LoomError
from core.models import needs
from core.models.catalogue import ModelInfo
from ui.components.base import Scripted
from ui.languages import say
from ui.studio import Studio


class ModelBar(Scripted):
    """Value: see `bar_state`. Event `refresh` fires while a queue is shown, and when the page comes back into sight."""

    script = "bar.js"
    custom_events = ("refresh",)
    template = '<div class="bar" data-part="bar"></div>'

    def __init__(self, value: dict[str, Any] | None = None, render: bool = True):
        super().__init__(value or {}, elem_classes=["bar-box"], render=render)


def bar_state(studio: Studio, model: str) -> dict[str, Any]:
    """What the bar shows now. facts: short texts; queue: runs waiting or running, of everybody.

    starting: the engine is on its way, so that the script asks again.
    """
    info = studio.info(model)
    facts = [f"{info.width} × {info.height} px"] if info else [say("bar.unreadable")]
    starting = False
    if runner := studio.jobs.runner:
        facts.append(f"{runner.device} · {runner.precision}")
    elif starting := studio.jobs.warming:
        facts.append(say("bar.starting"))
    return {"facts": facts, "starting": starting, "queue": studio.jobs.queue_length(), "model": model,
            "title": _memory(studio, info)}


def _memory(studio: Studio, info: ModelInfo | None) -> str:
    """One quiet line: what the model takes of the memory, and what was chosen about that."""
    runner = studio.jobs.runner
    try:
        needed = needs.words(info, runner.precision if runner else "") if info else ""
    except LoomError:
        return ""
    return ". ".join(filter(None, (say("bar.memory", needed=needed) if needed else "", runner.tuned if runner else "")))
