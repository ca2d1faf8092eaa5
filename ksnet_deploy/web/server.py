"""The front door: the server of the page, until it is stopped."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ksnet_deploy.base.errors import BackendError, ConfigError, InputError, OutputError
from ksnet_deploy.web.guard import Guard
from ksnet_deploy.web.jobs import JobStore
from ksnet_deploy.web.login import Login, PasswordLogin, TokenLogin, new_token
from ksnet_deploy.web.turns import Turns

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["HOST", "MOST_UPLOAD", "PORT", "serve"]

HOST, PORT = "127.0.0.1", 7860
MOST_UPLOAD = 4_000_000_000
"""Bytes of the largest film that is taken."""
PREVIEW_POLICY = (
    "sandbox allow-scripts; default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "frame-ancestors 'self'"
)
"""Policy of a preview beside its own: it runs as if it came from nowhere."""
QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}
"""Variables that keep the libraries from asking other hosts for anything, or telling them."""


def serve(
    folder: Path,
    *,
    host: str = HOST,
    port: int = PORT,
    auth: str | None = None,
    most_upload: int = MOST_UPLOAD,
    on_ready: Callable[[str], None] = lambda _address: None,
) -> None:
    """Serve the page until the process is told to stop; works that are being done then keep what they finished.

    Args:
        folder: where the jobs are kept; made where it does not exist.
        host: name or address to listen on. Whoever may reach the server from elsewhere needs a login.
        port: 0 for any that is free.
        auth: ``NAME:PASSWORD`` of the login (default: none on this machine alone, else a token in the address).
        most_upload: bytes of the largest film that is taken.
        on_ready: told the address of the page, once it can be opened.

    Raises:
        BackendError: the extra ``web`` is not installed.
        ConfigError: the login, the host or the port cannot be.
        OutputError: the folder cannot be used.
    """
    if importlib.util.find_spec("gradio") is None:
        raise BackendError("the page needs Gradio, which is not installed; run pip install 'ksnet-deploy[web]'")
    given = None if auth is None else PasswordLogin.parse(auth)
    with _listening(host, port) as listener, JobStore(folder) as store, Turns(store) as turns:
        port = listener.getsockname()[1]
        login: Login = given or Login()
        if given is None and not _is_loopback(host):
            login = TokenLogin(new_token(), f"ksnet_{port}")
        guard = Guard(
            _application(store, turns, most_upload),
            hosts=frozenset({"localhost", host.lower(), socket.gethostname().lower()}),
            folder=store.folder,
            most_upload=most_upload,
            login=login,
        )
        _run(guard, listener, lambda: on_ready(_address(host, port, login)))


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens; no other program gets the port."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(f"'{host}' is no name or address of this machine; give for example --host 0.0.0.0") from error
    with socket.socket(family, kind, protocol) as listener:
        if os.name == "posix":  # elsewhere it would let two servers have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(128)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"port {port} of {host} cannot be listened on ({reason}); give another with --port, or end what uses it"
            ) from error
        yield listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _address(host: str, port: int, login: Login) -> str:
    """The page's address, as people open it; with the token where there is one."""
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    token = f"/?token={login.token}" if isinstance(login, TokenLogin) else ""
    return f"http://{shown}:{port}{token}"


def _application(store: JobStore, turns: Turns, most_upload: int) -> FastAPI:
    """Everything behind the gate: the page, and the files of a job that may be fetched."""
    os.environ.update(QUIET, GRADIO_TEMP_DIR=str(store.uploads))
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import FileResponse, PlainTextResponse, Response

    from ksnet_deploy.web.page import mount_page

    def file_of(request: Request, find: Callable[[Any], Path | None]) -> tuple[Any, Path] | None:
        try:
            job = store.get(request.path_params["job"])
        except InputError:
            return None
        path = find(job)
        return None if path is None or not path.is_file() else (job, path)

    def result(request: Request) -> Response:
        found = file_of(request, store.result)
        if found is None:
            return PlainTextResponse("There is no such file.\n", 404)
        return FileResponse(found[1], media_type="application/octet-stream", filename=found[0].result_name)

    def preview(request: Request) -> Response:
        found = file_of(request, store.preview_page)
        if found is None:
            return PlainTextResponse("There is no such preview.\n", 404)
        headers = {"content-security-policy": PREVIEW_POLICY, "cache-control": "no-store"}
        return FileResponse(found[1], media_type="text/html", headers=headers)

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_route("/jobs/{job}/result", result, methods=["GET"])
    app.add_route("/jobs/{job}/preview", preview, methods=["GET"])
    mount_page(app, store, turns, most_upload=most_upload)
    return app


def _run(guard: Guard, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM; then raise SystemExit as such a signal does elsewhere."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                on_ready()

    config = uvicorn.Config(
        guard,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=1,
    )
    got: list[int] = []
    # uvicorn ends by itself on these, and sends them once more when it has: to whoever handled them before.
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, lambda number, _frame: got.append(number)) for kind in kinds}
    try:
        Server(config).run(sockets=[listener])
    except OSError as error:
        raise OutputError(f"the server cannot go on ({error.strerror or error}); start it again") from error
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
    if got:
        raise SystemExit(128 + got[0])
