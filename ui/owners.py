"""Whose a run is."""

from __future__ import annotations

import gradio as gr


def owner_of(request: gr.Request | None) -> str:
    """The name somebody logged in with. Without logins all who reach the studio are one: "", on any tab or device."""
    return str(getattr(request, "username", None) or "")
