"""Stands before every route of the served page: knows who is asking, and keeps one person's files from another.

gradio serves what lies in the folders it was allowed, to anybody who is logged in and knows the address.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from core.owners import whose
from ui.owners import asks

_FILE = "/file="  # in gradio's addresses of files


class Guard:
    """outputs, frames: folders whose files have owners (core/owners.py). What has none there is nobody's among the
    outputs, and everybody's among the previews, as the models' small pictures are."""

    def __init__(self, app: ASGIApp, outputs: Path, frames: Path):
        self.app, self.outputs, self.frames = app, outputs, frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            owner = _logged_in(scope)
            asks(owner)
            _, mark, name = scope["path"].partition(_FILE)
            if mark and not self._may(owner, name):
                await PlainTextResponse("There is no such file.", 404)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _may(self, owner: str, name: str) -> bool:
        """Whether a person may have a file, by the path in its address. The server has decoded that once; a path that
        is encoded twice means the same file to nobody, so both readings must be the person's."""
        for path in {name, unquote(name)}:
            try:
                if whose(Path(path), self.outputs) not in (None, owner):
                    return False
                if whose(Path(path), self.frames) not in (None, "", owner):
                    return False
            except (OSError, ValueError):
                return False
        return True


def _logged_in(scope: Scope) -> str:
    """As gradio's own routes tell it: by the token in the cookie."""
    app: Any = scope.get("app")
    cookies, key = HTTPConnection(scope).cookies, getattr(app, "cookie_id", "")
    token = cookies.get(f"access-token-{key}") or cookies.get(f"access-token-unsecure-{key}")
    return str(getattr(app, "tokens", {}).get(token) or "")
