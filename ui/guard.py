"""Stands before every route of the served page: knows who is asking, keeps one person's files from another, and turns
away what is too large or comes too often.

gradio serves what lies in the folders it was allowed, to anybody who is logged in and knows the address.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.owners import whose
from ui import languages
from ui.owners import asks

log = logging.getLogger(__name__)

NO_ANSWER = "This question cannot be answered: reload the page, or look its arguments up in /gradio_api/info."
MAX_BODY = 20_000_000  # bytes of a question: 32 painted masks of 4096x4096 take less
_UPLOAD = "/gradio_api/upload"  # how its address ends, and no endpoint's can; files sent have a limit of their own
_LOGIN = "/login"
_FILE = re.compile("/file[=/]")  # in gradio's addresses of files: /file=PATH, and the older /file/PATH
_REMEMBERED = 1_000  # people or addresses whose questions are counted


class Budget:
    """So many at once, and so many a second from then on. For each name apart; safe between threads."""

    def __init__(self, at_once: int, a_second: float):
        self.at_once, self.a_second = at_once, a_second
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # name -> (what is left, when)
        self._lock = threading.Lock()

    def take(self, name: str) -> bool:
        """Whether there was one left."""
        now = time.monotonic()
        with self._lock:
            left, when = self._left.pop(name, (float(self.at_once), now))
            left = min(self.at_once, left + (now - when) * self.a_second)
            self._left[name] = (left - 1 if left >= 1 else left, now)
            while len(self._left) > _REMEMBERED:
                self._left.popitem(last=False)
        return left >= 1

    def give_back(self, name: str) -> None:
        """What was taken last was no harm."""
        with self._lock:
            if name in self._left:
                left, when = self._left[name]
                self._left[name] = (min(self.at_once, left + 1), when)


class Guard:
    """outputs, frames: folders whose files have owners (core/owners.py). What has none there is nobody's among the
    outputs, and everybody's among the previews, as the models' small pictures are. logins: people log in, and share the
    machine: what each may ask is counted.
    """

    def __init__(self, app: ASGIApp, outputs: Path, frames: Path, logins: bool):
        self.app, self.outputs, self.frames, self.logins = app, outputs, frames, logins
        self._tries = Budget(10, 0.1)  # of passwords: a person mistypes a few times, a program tries thousands
        self._questions = Budget(600, 20)  # a page asks some 100 when it opens, and 10 a second while one paints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            owner = _logged_in(scope)
            asks(owner)
            languages.asks(Headers(scope=scope).get("accept-language", ""))
            if refused := self._refused(scope, owner):
                await refused(scope, receive, send)
                return
            if self.logins and _tries_a_password(scope):
                send = self._forgiving(send, _address(scope))
            await self._answered(scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What nobody foresaw is logged, and told in one line, unless the answer has begun already."""
        begun = False

        async def told(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, told)
        except Exception:
            if begun:
                raise
            log.exception("a question was not answered")
            await JSONResponse({"detail": NO_ANSWER}, 500)(scope, receive, send)

    def _forgiving(self, send: Send, address: str) -> Send:
        """Only wrong passwords count: many people may log in from behind one address."""
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                self._tries.give_back(address)
            await send(message)

        return told

    def _refused(self, scope: Scope, owner: str) -> PlainTextResponse | None:
        path, headers = scope["path"], dict(scope["headers"])
        if not all(self._may(owner, path[mark.end():]) for mark in _FILE.finditer(path)):
            return PlainTextResponse("There is no such file.", 404)
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        path, size = path.rstrip("/"), headers.get(b"content-length", b"")
        if not path.endswith(_UPLOAD):
            if not size.isdigit() or b"transfer-encoding" in headers:  # which goes before a length
                return PlainTextResponse("A question must say how long it is: send its Content-Length.", 411)
            if int(size) > MAX_BODY:
                return PlainTextResponse(f"This question is larger than {MAX_BODY // 10**6} MB: shorten the prompt, or "
                                         "paint fewer masks.", 413)
        if self.logins:
            address = _address(scope)
            if _tries_a_password(scope) and not self._tries.take(address):
                return PlainTextResponse("Too many logins from here: wait ten seconds.", 429)
            if not self._questions.take(owner or f"@{address}"):
                return PlainTextResponse("Too many questions at once: wait a second.", 429)
        return None

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


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("",))[0])


def _tries_a_password(scope: Scope) -> bool:
    return scope["method"] == "POST" and scope["path"].rstrip("/").endswith(_LOGIN)


def _logged_in(scope: Scope) -> str:
    """As gradio's own routes tell it: by the token in the cookie."""
    app: Any = scope.get("app")
    cookies, key = HTTPConnection(scope).cookies, getattr(app, "cookie_id", "")
    token = cookies.get(f"access-token-{key}") or cookies.get(f"access-token-unsecure-{key}")
    return str(getattr(app, "tokens", {}).get(token) or "")
