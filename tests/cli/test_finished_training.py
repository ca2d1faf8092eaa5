"""A training that is started again when it is finished."""

from __future__ import annotations

from pathlib import Path

import pytest
from clips import folder_of_frames, moving_grain
from command import run


@pytest.mark.slow
def test_a_finished_run_says_that_nothing_was_trained(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "data" / "clip", moving_grain(4, 96, 96))
    command = ("train", tmp_path / "data", "-o", tmp_path / "run", "--size", "lite", "--stage", "2:1x2x16")
    first = run(*command)
    assert first.returncode == 0, first.stderr
    assert "nothing was trained" not in first.stderr
    again = run(*command)
    assert again.returncode == 0, again.stderr
    assert "This run was finished before, and nothing was trained" in again.stderr
    assert again.stdout == first.stdout
    assert "0/2" not in first.stderr + again.stderr
