"""A real browser for tests of pages: the system's Chromium, driven by Playwright. Only this file imports Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Page", "opened", "started", "visited"]

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
Page = Any
"""A page of Playwright."""


@contextmanager
def started() -> Iterator[Any]:
    """The browser; skips the test, with the reason, where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed; it is in the extra dev"
    )
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed; on Debian run apt-get install chromium")
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if root else [])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, path: Path, width: int, *, touch: bool = False, dark: bool = False) -> Iterator[Page]:
    """A page from disk in a window of a width; what it complains of, or asks of the network, fails the test."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, has_touch=touch, color_scheme="dark" if dark else "light"
    )
    page, faults = context.new_page(), []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else faults.append(asked.url))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]")
    yield page
    assert not faults, "\n".join(faults)
    context.close()


@contextmanager
def visited(
    browser: Any, address: str, width: int = 1400, *, expected: tuple[str, ...] = (), **settings: Any
) -> Iterator[Page]:
    """A page of a server on this machine; what it complains of, or asks of another host, fails the test.

    Args:
        expected: parts of complaints that are part of the test.
        settings: of the browser's context.
    """
    context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
    page, faults = context.new_page(), []
    own = address.split("?", maxsplit=1)[0].rstrip("/")
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request", lambda asked: None if asked.url.startswith((own, "data:", "blob:")) else faults.append(asked.url)
    )
    page.goto(address)
    page.wait_for_selector("#panel h2, #panel .hint")
    yield page
    complaints = [fault for fault in faults if not any(part in fault for part in expected)]
    context.close()  # after which Gradio may complain of what it had asked for
    assert not complaints, "\n".join(complaints)
