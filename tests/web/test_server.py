"""The server as a whole: what it is asked for over the network, and what it asks of others, which is nothing."""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from command import failure_of, run
from web_server import WebServer, serving

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.cli.web import parse_bytes
from ksnet_deploy.web import server as module

SECRET = "what nobody may read"


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4 * 10**9), ("500mb", 5 * 10**8), ("1.5 GB", 15 * 10**8), ("20kB", 20_000), ("77", 77)]
)
def test_a_size_of_uploads_is_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["0", "much", "-1GB", "4GiB", "1e9", "GB", "0.0001"])
def test_what_is_no_size_is_refused(text: str) -> None:
    assert "no size of a file; give for example 500MB or 4GB" in failure_of(run("web", "--max-upload", text))


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("127.0.0.2", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_only_this_machine_reaches_a_loopback_address(host: str, alone: bool) -> None:
    assert module._is_loopback(host) == alone


def test_what_cannot_be_listened_on_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _name: object())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 cannot be listened on .*--port"):
            module.serve(tmp_path / "jobs", port=port)
    with pytest.raises(ConfigError, match=r"'no.such.host.invalid' is no name or address of this machine"):
        module.serve(tmp_path / "jobs", host="no.such.host.invalid", port=0)
    assert not (tmp_path / "jobs").exists()


def test_without_gradio_a_sentence_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _name: None)
    said = failure_of(run("web", "--folder", tmp_path / "jobs"))
    assert "pip install 'ksnet-deploy[web]'" in said
    assert not (tmp_path / "jobs").exists()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    if find_spec("gradio") is None:  # importing it takes seconds, and the server is another process
        pytest.skip("Gradio is not installed; it is in the extra web")
    with serving(tmp_path_factory.mktemp("jobs"), 0.0, "--max-upload", "1MB") as found:
        yield found


def raw(server: WebServer, *lines: str, body: bytes = b"") -> tuple[int, str]:
    """Status and text of an answer to a request as it is, which a client would tidy up first."""
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = [*lines, "Connection: close", "", ""]
        connection.sendall("\r\n".join(head).encode("latin-1") + body)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return int(answer.split(b" ", 2)[1]), answer.decode("utf-8", "replace")


def ask(server: WebServer, path: str, data: Any = None, **headers: str) -> tuple[int, str]:
    body = None if data is None else json.dumps(data).encode()
    asked = urllib.request.Request(server.address + path, body, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")


def upload(server: WebServer, content: bytes, name: str) -> tuple[int, str]:
    mark = uuid.uuid4().hex
    body = b"".join(
        (
            f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode(),
            content,
            f"\r\n--{mark}--\r\n".encode(),
        )
    )
    host = server.address.removeprefix("http://")
    return raw(
        server,
        "POST /gradio_api/upload HTTP/1.1",
        f"Host: {host}",
        f"Content-Type: multipart/form-data; boundary={mark}",
        f"Content-Length: {len(body)}",
        body=body,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "way",
    [
        "/gradio_api/file={secret}",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file%3D/etc/passwd",
        "/gradio_api//file=/etc/passwd",
        "/gradio_api/queue/../file=/etc/passwd",
        "/gradio_api/queue/%2e%2e/file=/etc/passwd",
        "/assets/..%2f..%2f..%2f..%2f..%2fetc/passwd",
        "/assets/../../../../../../etc/passwd",
        "/static/%2e%2e/%2e%2e/%2e%2e/routes.py",
        "/jobs/{job}/../../lock",
        "/jobs/{job}%2f..%2f..%2fsecret/result",
        "/jobs/{job}/job.json",
        "/file={secret}",
        "/gradio_api/file={uploads}",
        "http://127.0.0.1/gradio_api/file={secret}",
    ],
)
def test_no_file_is_read_by_a_trick_of_paths(server: WebServer, tmp_path: Path, way: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    host = server.address.removeprefix("http://")
    path = way.format(secret=secret, job="0123456789ab", uploads=secret.parent)
    status, text = raw(server, f"GET {path} HTTP/1.1", f"Host: {host}")
    assert status in (400, 404)
    assert SECRET not in text
    assert "root:" not in text


@pytest.mark.slow
def test_no_file_of_the_server_and_of_no_other_becomes_a_film(server: WebServer, clip: Path) -> None:
    """As the page's own script asks, but with what it would never send, in every place that takes a value."""
    config = json.loads(ask(server, "/config")[1])
    folder = server.folder
    (folder / "uploads" / "link.mp4").symlink_to(clip)
    before = set(folder.rglob("*"))
    events = [each for each in config["dependencies"] if each["backend_fn"]]
    assert len(events) >= 8
    paths = (str(clip), f"{folder}/uploads/../lock", f"{folder}/uploads/link.mp4", "https://evil.example/film.mp4")
    for event in events:
        is_drop = any(target[1] == "upload" for target in event["targets"])
        for path in paths if is_drop else paths[:1]:
            film = {"path": path, "url": path, "orig_name": "film.mp4", "meta": {"_type": "gradio.FileData"}}
            data = {"data": [film] * len(event["inputs"]), "fn_index": event["id"], "session_hash": uuid.uuid4().hex}
            assert ask(server, "/gradio_api/queue/join", data)[0] == 200
            said = ask(server, f"/gradio_api/queue/data?session_hash={data['session_hash']}")[1]
            assert "process_completed" in said
            assert str(folder) not in said
            assert not is_drop or "has not arrived" in said
    assert set(folder.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../../evil.mp4", "/etc/evil.mp4", "..", "a\\..\\evil.mp4", "x" * 400 + ".mp4"])
def test_an_upload_stays_where_uploads_arrive(server: WebServer, name: str) -> None:
    folder = server.folder
    before = {path for path in folder.parent.rglob("*") if not path.is_relative_to(folder / "uploads")}
    status, text = upload(server, b"content", name)
    assert status in (200, 400)
    if status == 200:
        (place,) = json.loads(text.split("\r\n\r\n", 1)[1])
        assert Path(place).resolve().is_relative_to((folder / "uploads").resolve())
    assert {path for path in folder.parent.rglob("*") if not path.is_relative_to(folder / "uploads")} == before
    assert not Path("/etc/evil.mp4").exists()


@pytest.mark.slow
def test_an_upload_that_is_too_large_is_refused_before_it_is_read(server: WebServer) -> None:
    host = server.address.removeprefix("http://")
    lines = ["POST /gradio_api/upload HTTP/1.1", f"Host: {host}", "Content-Type: multipart/form-data; boundary=x"]
    status, text = raw(server, *lines, "Content-Length: 900000000000")
    assert status == 413
    assert "larger than 1 MB" in text
    assert raw(server, *lines, "Transfer-Encoding: chunked", body=b"0\r\n\r\n")[0] == 411


@pytest.mark.slow
def test_other_sites_and_foreign_names_are_refused(server: WebServer) -> None:
    assert ask(server, "/", Host="evil.example")[0] == 421
    join = {"data": [], "fn_index": 0, "session_hash": "x"}
    assert ask(server, "/gradio_api/queue/join", join, Origin="http://evil.example")[0] == 403
    assert ask(server, "/gradio_api/call/start", join)[0] == 404


@pytest.mark.slow
def test_the_page_names_no_other_host_and_no_place_on_the_disk(server: WebServer) -> None:
    _, page = ask(server, "/")
    for tag in re.findall(r"<(?:script|link|img|iframe)[^>]*>", page):
        assert "//" not in tag, tag
    folder = str(server.folder)
    _, config = ask(server, "/config")
    for text in (page, config):
        assert folder not in text
        assert '"analytics_enabled":true' not in text.replace(" ", "")


@pytest.mark.slow
def test_the_server_has_asked_nothing_of_other_machines(server: WebServer) -> None:
    """Last, when the server has done what it does: a connection to elsewhere would have been told, and refused."""
    ask(server, "/")
    ask(server, "/gradio_api/startup-events")
    assert server.stop() == 130
    assert [line for line in server.said if "asked for" in line] == []
