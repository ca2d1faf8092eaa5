"""A worker in a process of its own."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest

from ksnet_deploy.measure.speed import child


def test_a_worker_whose_parent_was_killed_leaves_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Any = None
    monkeypatch.setattr(child, "Worker", lambda *_: nothing)
    monkeypatch.setattr(child.signal, "signal", lambda *_: None)
    ours, theirs = multiprocessing.Pipe()
    ours.close()
    child._serve(theirs, "a way", nothing, nothing)
    theirs.close()
