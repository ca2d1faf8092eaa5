"""A worker in a process of its own."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.measure.speed import child


def test_a_worker_whose_parent_was_killed_leaves_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Any = None
    monkeypatch.setattr(child, "Worker", lambda *_: nothing)
    monkeypatch.setattr(child.signal, "signal", lambda *_: None)
    ours, theirs = multiprocessing.Pipe()
    ours.close()
    child._serve(theirs, "a way", nothing, nothing)
    theirs.close()


def test_a_worker_that_died_between_two_calls_is_told_in_a_sentence() -> None:
    process = multiprocessing.get_context("spawn").Process()
    process.join = lambda *_: None  # type: ignore[method-assign, assignment]
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    dead = object.__new__(child.Child)
    dead._label, dead._pipe, dead._process = "a way", ours, process
    with pytest.raises(BackendError, match="measuring a way died with exit code"):
        dead.call("engine", 1.0)
    ours.close()
