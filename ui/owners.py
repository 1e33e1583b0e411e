"""Who is asking."""

from __future__ import annotations

from contextvars import ContextVar

import gradio as gr

_asking: ContextVar[str] = ContextVar("asking", default="")  # of the HTTP request at hand


def owner_of(request: gr.Request | None = None) -> str:
    """The name somebody logged in with. Without logins all who reach the studio are one: "", on any tab or device.

    request: an event's. What a component asks the server has none: then it is whoever sent the HTTP request at hand.
    """
    return str(getattr(request, "username", None) or "") if request is not None else _asking.get()


def asks(owner: str) -> None:
    """From now on, in this context, `owner` is asking. For `ui.guard`."""
    _asking.set(owner)
