"""The gate before the page: who may ask, from where, for what, and how much at once. Plain ASGI, without Gradio.

Every request passes here first. Refused is what names another host than this server (so that no foreign name can be
made to point here), what another site's page asks for, what does not know the password, every way that the page does
not need, and what is too large. So the file routes of the library that draws the page are closed, whatever they allow.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import shutil
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ksnet_deploy.web.login import Login

__all__ = ["Guard"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

UPLOAD = "/gradio_api/upload"
READ = tuple(
    map(
        re.compile,
        (
            r"/",
            r"/config",
            r"/theme\.css",
            r"/favicon\.ico",
            r"/(assets|static)/[\w./@-]+",
            r"/gradio_api/(queue/data|upload_progress|startup-events|heartbeat/[\w-]+)",
            r"/jobs/[0-9a-f]{12}/(result|preview)",
        ),
    )
)
"""Ways that may be read."""
WRITE = frozenset({UPLOAD, "/gradio_api/queue/join", "/gradio_api/reset", "/gradio_api/cancel"})
"""Ways that may be written to."""
FORWARDED = re.compile(r"(x-)?forwarded|x-direct|x-gradio|x-ip-token", re.IGNORECASE)
"""Headers by which a proxy says who asked for what; nobody is believed."""
MOST_ELSEWHERE = 1_000_000
"""Bytes of a request that is no upload."""
FORM_BYTES = 65_536
"""Bytes of a form around the file in it."""
RESERVE_BYTES = 500_000_000
"""Bytes of the disk that an upload leaves free."""
WRONG_S = 1.0
"""Seconds that an answer to a wrong password waits, so that guessing takes long."""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; frame-src 'self'; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
"""Content security policy of every answer that brings none of its own: nothing is asked of any other host."""
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"SAMEORIGIN",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"content-security-policy": POLICY.encode(),
}


@dataclass(frozen=True)
class Guard:
    """An ASGI application that lets through to another what may pass."""

    app: App
    hosts: frozenset[str]
    """Names under which this server may be asked for, in lower case; addresses in figures may always be, for nobody
    can make those point elsewhere."""
    folder: Path
    """Folder on whose disk uploads arrive."""
    most_upload: int
    """Bytes of the largest film that is taken."""
    login: Login = field(default_factory=Login)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":  # the page has none
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            # A page that is open keeps a request waiting for news; it is cancelled where the server ends, which is no
            # fault that anybody should read of.
            with contextlib.suppress(asyncio.CancelledError):
                await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope.get("query_string", b"").decode("latin-1")
        refused = self._foreign(headers)
        if refused is None and not self.login.allows(headers, query):
            if headers.get("authorization") or "token=" in query:
                await asyncio.sleep(WRONG_S)
            await _say(send, 401, _ASK, self.login.refusal_headers())
            return
        refused = refused or self._unneeded(scope) or self._too_large(scope, headers)
        if refused is not None:
            await _say(send, *refused)
        elif remembered := self.login.answer_headers(query):
            await _say(send, 303, "Welcome.", remembered)
        else:
            kept = [(name, value) for name, value in scope["headers"] if not FORWARDED.match(name.decode("latin-1"))]
            await self.app({**scope, "headers": kept}, receive, _with_headers(send))

    def _foreign(self, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and sentence for a request that comes from elsewhere; None for one that does not."""
        host = headers.get("host", "")
        name = _name_of(host)
        if not name or not (name in self.hosts or _is_address(name)):
            return 421, "this server is not known under that name; use the address that it printed"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "another site's page may not use this server"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate":
            return 403, "another site's page may not use this server"
        return None

    def _unneeded(self, scope: Scope) -> tuple[int, str] | None:
        path, method = scope["path"], scope["method"]
        if ".." in path or "//" in path or not path.isascii():
            return 404, "there is nothing here"
        if method in ("GET", "HEAD"):
            return None if any(way.fullmatch(path) for way in READ) else (404, "there is nothing here")
        return None if method == "POST" and path in WRITE else (404, "there is nothing here")

    def _too_large(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        if scope["method"] != "POST":
            return None
        length = headers.get("content-length", "")
        if not re.fullmatch(r"[0-9]{1,18}", length):
            return 411, "the request does not say how long it is"
        if scope["path"] != UPLOAD:
            return (413, "the request is too large") if int(length) > MOST_ELSEWHERE else None
        if int(length) > self.most_upload + FORM_BYTES:
            return 413, (
                f"the film is larger than {self.most_upload / 1e6:,.0f} MB, the most that is taken here; start the "
                "server with a larger --max-upload, or cut the film"
            )
        free = shutil.disk_usage(self.folder).free
        if int(length) > free - RESERVE_BYTES:
            return (
                507,
                f"the disk of the server has {free / 1e6:,.0f} MB free, too little for this film; make room there",
            )
        return None


_ASK = (
    "You are not logged in. Open the address that ksnet-deploy web printed, with the token in it, or give the name and "
    "the password that it was started with."
)


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def _with_headers(send: Send) -> Send:
    """Sender of answers with the headers of a careful page; those that an answer brings itself stay."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = {name.lower() for name, _ in message.get("headers", [])}
            others = [(name, value) for name, value in HEADERS.items() if name not in own]
            message = {**message, "headers": [*message.get("headers", []), *others]}
        await send(message)

    return sending


async def _say(send: Send, status: int, sentence: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    """Answer with a sentence."""
    body = f"{HTTPStatus(status).phrase}: {sentence}\n".encode()
    kept = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    start = {"type": "http.response.start", "status": status, "headers": [*kept, *(headers or [])]}
    await _with_headers(send)(start)
    await send({"type": "http.response.body", "body": body})
