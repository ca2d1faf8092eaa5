"""The page as people use it: in Chromium, wide and narrow, alone and together, with a server that is killed."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import command
import numpy as np
import pytest
from browser import Page, visited
from media import make_video
from PIL import Image
from web_server import SEGMENT, WebServer, serving

from ksnet_deploy.base.frames import FrameSize

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("gradio") is None, reason="Gradio is not installed; it is in the extra web"),
]

FRAMES = 60
STEP_S = 0.1
HOSTILE = '"><img src=x onerror=alert(1)> ${alert(2)} {{alert(3)}} long-without-a-break-that-goes-on-and-on-and-on.mp4'
REFUSED = "Failed to load resource: the server responded with a status of"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("film") / "film.mp4", FrameSize(36, 64), frames=FRAMES, sound=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with serving(tmp_path_factory.mktemp("jobs"), STEP_S, "--max-upload", "1MB") as found:
        yield found
        assert found.stop() == 130
        assert not [line for line in found.said if "Traceback" in line], "".join(found.said)


@pytest.fixture
def expected(film: Path, tmp_path: Path, costless: None) -> bytes:  # noqa: ARG001
    """What the command line makes of the film."""
    target = tmp_path / "by_command.mp4"
    assert command.run("upscale", film, "-o", target).returncode == 0
    return target.read_bytes()


def drop(page: Page, path: Path, name: str | None = None) -> None:
    """Drop a file on the page, as a file manager does."""
    content = base64.b64encode(path.read_bytes()).decode()
    transfer = page.evaluate_handle(
        """([content, name]) => {
          const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], name, { type: "video/mp4" }));
          return transfer;
        }""",
        [content, name or path.name],
    )
    for kind in ("dragenter", "dragover", "drop"):
        page.dispatch_event("#film button", kind, {"dataTransfer": transfer})


def add(page: Page, path: Path, name: str) -> None:
    """Drop a film and wait until it is the one that is shown."""
    lines = page.locator("#jobs label").count()
    drop(page, path, name)
    page.wait_for_function("count => document.querySelectorAll('#jobs label').length > count", arg=lines)
    page.wait_for_function("name => document.querySelector('#panel h2')?.textContent.trim() === name", arg=name)


def is_whole(page: Page, width: int, *selectors: str) -> None:
    """Nothing flows over, and all of it is seen."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for selector in selectors:
        part = page.locator(selector).first
        part.scroll_into_view_if_needed()
        assert part.is_visible(), selector
        box = part.bounding_box()
        assert box["x"] >= 0, selector
        assert box["x"] + box["width"] <= width + 0.5, selector


def colours(part: Any) -> float:
    """How much the pixels of a part of the page differ: a picture is there, or nothing is."""
    shot = part.screenshot()
    return float(np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).std())


def frames_finished(page: Page) -> int:
    """Frames that the page says are finished of an interrupted film."""
    found = re.search(r"Interrupted, ([0-9]+) frames finished: resume it", page.locator("#panel").inner_text())
    assert found is not None
    assert int(found[1]) in (SEGMENT, 2 * SEGMENT)
    return int(found[1])


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (400, True)])
def test_a_film_is_dropped_looked_at_started_cancelled_resumed_and_fetched(
    browser: Any, server: WebServer, film: Path, expected: bytes, tmp_path: Path, width: int, dark: bool
) -> None:
    name = f"Holiday {width}.mp4"
    with visited(browser, server.address, width, color_scheme="dark" if dark else "light", has_touch=dark) as page:
        add(page, film, name)
        is_whole(page, width, "#film", "#jobs", "#panel h2", "#start", "#preview-button", "#remove", "#model", "#to")
        page.locator("#preview-button").click()
        page.wait_for_selector("#cancel:visible")
        page.wait_for_selector("iframe.preview", timeout=60_000)
        is_whole(page, width, "iframe.preview", "#start")
        look = page.frame_locator("iframe.preview")
        look.locator("#divider").focus()
        look.locator("#divider").press("Home")
        assert look.locator("#divider").get_attribute("aria-valuenow") == "0"
        assert [look.locator("#left option").nth(n).inner_text() for n in range(3)] == ["bicubic", "lite", "lite-video"]
        assert look.locator("table tbody tr").count() == 2
        assert look.locator("#title").inner_text() == name
        page.wait_for_function("document.querySelector('iframe.preview').style.height !== ''")
        assert colours(look.locator("#stage")) > 5
        page.locator("#start").click()
        page.wait_for_selector("#panel figure.last img")
        page.wait_for_function(
            "/[0-9.]+ fps, [0-9:]+ left/.test(document.querySelector('#panel .figures').textContent)"
        )
        is_whole(page, width, "#panel .track", "#panel .figures", "#panel figure.last img", "#cancel")
        assert colours(page.locator("#panel figure.last img")) > 5
        assert not page.locator("#settings").is_visible()
        page.wait_for_function(
            "least => parseInt(document.querySelector('#panel .figures').textContent) >= least", arg=SEGMENT + 6
        )
        page.locator("#cancel").click()
        page.wait_for_selector("#resume:visible")
        finished = frames_finished(page)
        is_whole(page, width, "#resume", "#start")
        page.locator("#resume").click()
        page.wait_for_selector("#panel a.download", timeout=60_000)
        is_whole(page, width, "#panel a.download", "#start", "#remove")
        assert f"{finished} of the frames were finished by an earlier run" in page.locator("#panel").inner_text()
        with page.expect_download() as waiting:
            page.locator("#panel a.download").click()
        assert waiting.value.suggested_filename == f"Holiday {width}_x4.mp4"
        waiting.value.save_as(tmp_path / "fetched.mp4")
    assert (tmp_path / "fetched.mp4").read_bytes() == expected


def test_what_a_killed_server_had_finished_is_gone_on_from(
    browser: Any, film: Path, expected: bytes, tmp_path: Path
) -> None:
    with serving(tmp_path / "jobs", STEP_S) as server:
        with visited(browser, server.address, expected=(REFUSED,)) as page:
            add(page, film, "film.mp4")
            page.locator("#start").click()
            page.wait_for_selector("#panel .figures")
            page.wait_for_function(
                "least => parseInt(document.querySelector('#panel .figures').textContent) >= least", arg=SEGMENT + 6
            )
        server.kill()  # when the page is closed, which would complain of a server that is gone
    with serving(tmp_path / "jobs") as server, visited(browser, server.address) as page:
        finished = frames_finished(page)
        assert f"interrupted, {finished} frames finished" in page.locator("#jobs").inner_text()
        page.locator("#resume").click()
        page.wait_for_selector("#panel a.download", timeout=60_000)
        assert f"{finished} of the frames were finished by an earlier run" in page.locator("#panel").inner_text()
        with page.expect_download() as waiting:
            page.locator("#panel a.download").click()
        waiting.value.save_as(tmp_path / "fetched.mp4")
    assert (tmp_path / "fetched.mp4").read_bytes() == expected


def test_two_people_see_the_same_films_and_a_closed_page_ends_nothing(
    browser: Any, server: WebServer, film: Path
) -> None:
    with visited(browser, server.address) as one, visited(browser, server.address, 400) as other:
        add(one, film, "of the one.mp4")
        other.wait_for_selector("#jobs label:has-text('of the one.mp4')")
        add(other, film, "of the other.mp4")
        one.wait_for_selector("#jobs label:has-text('of the other.mp4')")
        assert one.locator("#panel h2").inner_text() == "of the one.mp4"  # each goes on looking at their own
        assert other.locator("#panel h2").inner_text() == "of the other.mp4"
        one.locator("#start").click()
        one.wait_for_selector("#panel figure.last img")
        other.locator("#start").click()
        other.wait_for_selector("#panel .state:has-text('Waiting')")
        one.wait_for_selector("#jobs label:has-text('of the other.mp4 · waiting')")
        one.close()
        other.wait_for_selector("#jobs label:has-text('of the one.mp4 · done')", timeout=60_000)
        other.wait_for_selector("#panel a.download", timeout=60_000)
        other.on("dialog", lambda dialog: dialog.accept())
        other.locator("#remove").click()
        other.wait_for_selector("#jobs label:has-text('of the other.mp4')", state="detached")


def test_a_hostile_name_is_text_wherever_it_is_shown(browser: Any, server: WebServer, film: Path) -> None:
    for width in (1400, 400):
        hostile = HOSTILE.replace("long", f"long-{width}")  # a film of the same name would be taken for the one before
        with visited(browser, server.address, width) as page:
            page.on("dialog", lambda dialog: pytest.fail(f"code of a name has run: {dialog.message}"))
            add(page, film, hostile)
            assert hostile in page.locator("#jobs").inner_text()
            page.locator("#start").click()
            page.wait_for_selector("#panel a.download", timeout=60_000)
            assert hostile in page.locator("#panel").inner_text()
            assert page.locator("img[src='x']").count() == 0
            is_whole(page, width, "#jobs", "#panel h2", "#panel a.download")
            with page.expect_download() as waiting:
                page.locator("#panel a.download").click()
            assert "/" not in waiting.value.suggested_filename
            assert waiting.value.suggested_filename.endswith("_x4.mp4")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no film at all", "cannot be read as a video of its own"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "a playlist of other files"),
        (b"", "cannot be read as a video of its own"),
    ],
)
def test_what_is_no_film_is_refused_in_a_sentence(
    browser: Any, server: WebServer, tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "broken.mp4").write_bytes(content)
    before = set(server.folder.iterdir())
    with visited(browser, server.address, 400) as page:
        drop(page, tmp_path / "broken.mp4")
        page.wait_for_selector("#notice .error")
        said = page.locator("#notice").inner_text()
        assert said.strip().startswith("broken.mp4")
        assert words in said
        assert set(server.folder.iterdir()) == before
        is_whole(page, 400, "#notice .error")


def test_a_film_that_is_too_large_is_refused_and_the_page_goes_on(
    browser: Any, server: WebServer, film: Path, tmp_path: Path
) -> None:
    (tmp_path / "large.mp4").write_bytes(bytes(3_000_000))
    before = set(server.folder.iterdir())
    with visited(browser, server.address, expected=(REFUSED,)) as page:
        drop(page, tmp_path / "large.mp4")
        page.wait_for_selector("text=/exceed the maximum allowed size/")
        assert set(server.folder.iterdir()) == before
        page.reload()
        page.wait_for_selector("#panel h2, #panel .hint")
        add(page, film, "small enough.mp4")


def test_settings_that_cannot_be_are_refused_in_a_sentence(browser: Any, server: WebServer, film: Path) -> None:
    with visited(browser, server.address) as page:
        add(page, film, "settings.mp4")
        for field, text, words in (
            ("#from textarea, #from input", "soon", "'soon' is not a time"),
            ("#quality textarea, #quality input", "best", "'best' is no quality"),
            ("#quality textarea, #quality input", "99", "qualities from 0 to 51"),
        ):
            page.locator(field).first.fill(text)
            page.locator("#start").click()
            page.wait_for_selector(f'#notice:has-text("{words}")')
            page.locator(field).first.fill("")
        page.locator("#start").click()
        page.wait_for_selector("#panel a.download", timeout=60_000)
        assert page.locator("#notice .error").count() == 0


def test_the_page_asks_for_a_password_and_a_token(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path / "a", 0.0, "--auth", "anna:secret") as server:
        with visited(browser, server.address, http_credentials={"username": "anna", "password": "secret"}) as page:
            assert page.locator("#panel .hint").is_visible()
        context = browser.new_context(http_credentials={"username": "anna", "password": "wrong"})
        answer = context.new_page().goto(server.address)
        assert answer.status == 401
        context.close()
    with serving(tmp_path / "b", 0.0, "--host", "0.0.0.0") as server:
        assert "/?token=" in server.address
        port = server.address.split(":")[2].split("/")[0]
        local = f"http://127.0.0.1:{port}"
        token = server.address.split("?")[1]
        with visited(browser, f"{local}/?{token}") as page:
            assert page.url == f"{local}/"
            assert page.locator("#panel .hint").is_visible()
        context = browser.new_context()
        assert context.new_page().goto(local).status == 401
        context.close()
