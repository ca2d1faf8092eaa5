"""Films that arrive at the page's jobs, without a page."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from ksnet_deploy.web.jobs import FilmJob, JobStore

__all__ = ["add_film", "arrived", "wait_until"]


def arrived(store: JobStore, film: Path, name: str | None = None) -> Path:
    """A copy of a film where uploads arrive."""
    place = store.uploads / film.name
    place.mkdir(exist_ok=True)
    return Path(shutil.copy(film, place / (name or film.name)))


def add_film(store: JobStore, film: Path, name: str | None = None) -> FilmJob:
    """A job of a film that people call by a name."""
    return store.add(arrived(store, film), name or film.name)


def wait_until(true: Callable[[], bool], what: str, limit_s: float = 20.0) -> None:
    """Wait until something is so; fail when it is not in time."""
    end_s = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end_s, f"waited {limit_s} s: {what}"
        time.sleep(0.01)
