"""The gate: who may ask, from where, for what, and how much. A stand-in application is behind it."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.web import guard as module
from ksnet_deploy.web.guard import Guard
from ksnet_deploy.web.login import Login, PasswordLogin, TokenLogin, new_token

OWN = "127.0.0.1:7860"
MOST = 1_000_000
TOKEN = TokenLogin("the-token", "ksnet_7860")
ANNA = PasswordLogin.parse("anna:a secret: with colons")


class Behind:
    """An application that lets itself be asked anything, and remembers what got through."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.headers: list[tuple[bytes, bytes]] = []

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        self.headers = scope["headers"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"through"})


class Answer:
    def __init__(self, sent: list[dict[str, Any]], behind: Behind) -> None:
        self.status = sent[0]["status"]
        self.headers = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        self.text = b"".join(part.get("body", b"") for part in sent[1:]).decode()
        self.behind = behind
        assert (self.text == "through") == bool(behind.asked)


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "WRONG_S", 0.0)

    def ask(
        path: str = "/",
        method: str = "GET",
        *,
        query: str = "",
        login: Login | None = None,
        hosts: tuple[str, ...] = ("localhost",),
        **headers: str,
    ) -> Answer:
        given = {"host": OWN, **{name.replace("_", "-"): value for name, value in headers.items()}}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
        }
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        behind = Behind()
        gate = Guard(behind, frozenset(hosts), tmp_path, MOST, login or Login())
        asyncio.run(gate(scope, receive, send))
        return Answer(sent, behind)

    return ask


@pytest.mark.parametrize("host", [OWN, "localhost:7860", "LOCALHOST", "[::1]:7860", "192.168.1.9:7860", "localhost."])
def test_its_own_names_and_addresses_are_let_through(ask: Any, host: str) -> None:
    assert ask(host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", "", "[", "a@"]
)
def test_a_foreign_name_that_was_made_to_point_here_is_refused(ask: Any, host: str) -> None:
    assert ask(host=host).status == 421


def test_a_name_that_it_was_given_is_its_own(ask: Any) -> None:
    assert ask(host="studio.lan:7860").status == 421
    assert ask(host="studio.lan:7860", hosts=("studio.lan",)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8000"},
        {"origin": "http://localhost:7860"},
        {"origin": "http://127.0.0.1:7860.evil.example"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"},
        {"sec_fetch_site": "same-site", "sec_fetch_mode": "cors"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_another_site_s_page_asks_for_is_refused(ask: Any, headers: dict[str, str], method: str) -> None:
    path = "/" if method == "GET" else "/gradio_api/queue/join"
    assert ask(path, method, content_length="10", **headers).status == 403


def test_what_its_own_page_asks_for_is_let_through(ask: Any) -> None:
    own = {"origin": f"http://{OWN}", "sec_fetch_site": "same-origin", "sec_fetch_mode": "cors"}
    assert ask("/gradio_api/queue/join", "POST", content_length="10", **own).status == 200
    assert ask(sec_fetch_site="cross-site", sec_fetch_mode="navigate").status == 200  # a link to the page


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/proxy=http://evil.example/",
        "/gradio_api/stream/x/1/1/playlist.m3u8",
        "/gradio_api/component_server",
        "/gradio_api/info",
        "/gradio_api/openapi.json",
        "/gradio_api/call/add/1",
        "/gradio_api/runs",
        "/gradio_api/vibe-code",
        "/gradio_api/deep_link",
        "/gradio_api/dev/reload",
        "/monitoring",
        "/login",
        "/svelte/x.js",
        "/manifest.json",
        "/docs",
        "/openapi.json",
        "/jobs/../lock",
        "/jobs/0123456789ab/job.json",
        "/jobs/0123456789ab/../0123456789ab/result",
        "/jobs/0123456789AB/result",
        "/jobs//result",
        "/assets/../../../etc/passwd",
        "/assets/..%2f..%2fetc/passwd",
        "/static//etc/passwd",
        "/assets/x\\..\\y",
        "//evil.example",
        "/assets/\u2025/x",
    ],
)
def test_ways_that_the_page_does_not_need_are_closed(ask: Any, path: str) -> None:
    assert ask(path).status == 404
    assert ask(path, "POST", content_length="1").status == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused(ask: Any, method: str) -> None:
    assert ask("/", method, content_length="1").status == 404


@pytest.mark.parametrize("path", ["/", "/assets/index-a1.js", "/theme.css", "/jobs/0123456789ab/result"])
def test_what_the_page_needs_is_open_to_readers_alone(ask: Any, path: str) -> None:
    assert ask(path).status == ask(path, "HEAD").status == 200
    assert ask(path, "POST", content_length="1").status == 404


def test_a_film_may_be_so_large_and_no_larger(ask: Any) -> None:
    upload = "/gradio_api/upload"
    assert ask(upload, "POST", content_length=str(MOST)).status == 200
    large = ask(upload, "POST", content_length=str(MOST + 100_000))
    assert large.status == 413
    assert "larger than 1 MB" in large.text
    assert "--max-upload" in large.text
    for length in ({}, {"content_length": "-1"}, {"content_length": "1e9"}, {"transfer_encoding": "chunked"}):
        assert ask(upload, "POST", **length).status == 411
    assert ask("/gradio_api/queue/join", "POST", content_length="2000000").status == 413


def test_a_film_that_would_fill_the_disk_is_refused(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _folder: type("Disk", (), {"free": 500_500_000})())
    answer = ask("/gradio_api/upload", "POST", content_length="900000")
    assert answer.status == 507
    assert "500 MB free" in answer.text


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": basic("anna:wrong")},
        {"authorization": basic("anna:")},
        {"authorization": basic(":a secret: with colons")},
        {"authorization": "Basic !!!"},
        {"authorization": "Basic"},
        {"authorization": "Bearer the-token"},
        {"authorization": basic("anna:a secret: with colons")[:-4]},
    ],
)
@pytest.mark.parametrize("path", ["/", "/jobs/0123456789ab/result", "/gradio_api/queue/data", "/assets/a.js"])
def test_nothing_is_shown_without_the_password(ask: Any, headers: dict[str, str], path: str) -> None:
    answer = ask(path, login=ANNA, **headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Basic")


def test_the_password_lets_in(ask: Any) -> None:
    assert ask(login=ANNA, authorization=basic("anna:a secret: with colons")).status == 200
    assert "secret" not in repr(ANNA)


@pytest.mark.parametrize("text", ["", "anna", "anna:", ":secret"])
def test_a_login_without_a_name_or_password_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigError, match="no name and password") as caught:
        PasswordLogin.parse(text)
    assert "secret" not in str(caught.value)


def test_the_token_lets_in_once_and_a_cookie_from_then_on(ask: Any) -> None:
    assert ask(login=TOKEN).status == 401
    assert ask(login=TOKEN, query="token=wrong").status == 401
    assert ask(login=TOKEN, query="token=").status == 401
    welcome = ask(login=TOKEN, query="token=the-token")
    assert (welcome.status, welcome.headers["location"]) == (303, "/")
    assert "HttpOnly" in welcome.headers["set-cookie"]
    cookie = welcome.headers["set-cookie"].split(";")[0]
    assert ask(login=TOKEN, cookie=cookie).status == 200
    assert ask(login=TOKEN, cookie=f"other=1; {cookie}").status == 200
    for wrong in ("ksnet_7860=", "ksnet_7860=wrong", "ksnet_7861=the-token", ";;;=", "ksnet_7860"):
        assert ask(login=TOKEN, cookie=wrong).status == 401
    assert len({new_token() for _ in range(100)}) == 100
    assert min(len(new_token()) for _ in range(100)) >= 32


def test_a_wrong_password_waits_for_its_answer(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(module, "WRONG_S", 1.0)
    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    ask(login=ANNA, authorization=basic("anna:wrong"))
    ask(login=TOKEN, query="token=wrong")
    ask(login=ANNA)
    assert waits == [1.0, 1.0]


def test_every_answer_forbids_what_the_page_does_not_need(ask: Any) -> None:
    for answer in (ask(), ask("/nothing"), ask(host="evil.example"), ask(login=ANNA)):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "http" not in policy
        assert "*" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_nobody_is_believed_to_be_a_proxy(ask: Any) -> None:
    answer = ask(x_forwarded_host="evil.example", forwarded="host=evil.example", x_forwarded_proto="https", accept="x")
    assert {name for name, _ in answer.behind.headers} == {b"host", b"accept"}


def test_web_sockets_are_refused(tmp_path: Path) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    behind = Behind()
    gate = Guard(behind, frozenset({"localhost"}), tmp_path, MOST)
    asyncio.run(gate({"type": "websocket", "path": "/", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
    assert behind.asked == []
