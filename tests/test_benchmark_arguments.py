"""Arguments of the benchmarks: a wrong one is told before anything is measured."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ksnet_deploy.base.frames import FrameSize

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
arguments = pytest.importorskip("arguments", reason="needs a checkout")


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (arguments.positive, ["0", "-1", "x", "1.5", "٣", ""]),
        (arguments.count, ["-1", "x", ""]),
        (arguments.duration, ["0", "-1", "nan", "inf", "x", ""]),
        (arguments.frame_size, ["abc", "0x5", "180"]),
    ],
)
def test_what_is_none_of_a_kind_is_refused(kind: Callable[[str], object], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError):
            kind(text)


def test_what_is_of_a_kind_is_taken(tmp_path: Path) -> None:
    assert (arguments.positive("12"), arguments.count("0"), arguments.duration(".5")) == (12, 0, 0.5)
    assert arguments.frame_size("180x320") == FrameSize(180, 320)
    assert arguments.result_path(str(tmp_path / "a.json")) == tmp_path / "a.json"


def test_a_place_that_nothing_can_be_written_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is a folder; give a file"):
        arguments.result_path(str(tmp_path))
    with pytest.raises(argparse.ArgumentTypeError, match="lies in no folder that exists"):
        arguments.result_path(str(tmp_path / "none" / "a.json"))


@pytest.mark.parametrize("script", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.name)
def test_no_benchmark_reads_sizes_and_times_by_itself(script: Path) -> None:
    """A library's own reading of them ends in a traceback, or takes nan."""
    text = script.read_text()
    assert "type=FrameSize.parse" not in text
    assert '"--seconds", type=float' not in text
