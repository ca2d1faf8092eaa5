"""What a user writes, read exactly and at once, or refused in a sentence."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path

import command
import pytest
from media import make_video

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.cli.inputs import find_videos
from ksnet_deploy.upscale.destination import is_for_frames
from ksnet_deploy.upscale.values import parse_height, parse_rate, parse_time
from ksnet_deploy.video.kinds import Source

FOREIGN = ["1e999999999", "1e2", "-1", "+1", "1_000", " 1", "1 ", "٣", "nan", "inf", "", ".", "1.2.3", "9" * 5000]
"""What Python takes for a number, or nearly, and a user does not write."""


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", Fraction(90)),
        (".5", Fraction(1, 2)),
        ("5.", Fraction(5)),
        ("1:30", Fraction(90)),
        ("90:00", Fraction(5400)),
        ("1:02:03.004", Fraction(3723004, 1000)),
        ("100:00:00", Fraction(360_000)),
    ],
)
def test_times_are_exact(text: str, seconds: Fraction) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", [*FOREIGN, "1/2", ":30", "1:", "1::2", "1:2:3:4", "1:60", "1:60:00", "1.5:00", "1:-5"])
def test_what_is_no_time_is_refused_at_once(text: str) -> None:
    began = time.perf_counter()
    with pytest.raises(InputError, match="is not a time; give seconds or"):
        parse_time(text)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("24", Fraction(24)),
        ("29.97", Fraction(2997, 100)),
        ("30000/1001", Fraction(30000, 1001)),
        ("1/60", Fraction(1, 60)),
        ("1000", Fraction(1000)),
    ],
)
def test_rates_are_exact(text: str, rate: Fraction) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", [*FOREIGN, "0", "0.0", "1001", "1/0", "1/00", "0/1", "24/1.001", "1/2/3", "1/1e999999999"]
)
def test_what_is_no_rate_is_refused_at_once(text: str) -> None:
    began = time.perf_counter()
    with pytest.raises(InputError, match="is not a frame rate; give for example"):
        parse_rate(text)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("text", ["x", "1080i", "p", "9" * 5000, "-2", "٣"])
def test_what_is_no_height_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a target height"):
        parse_height(text)
    assert parse_height("4K") == 2160


def test_a_name_that_is_too_long_is_taken_for_a_file_and_stops_no_other(tmp_path: Path) -> None:
    long = tmp_path / f"{'x' * 300}.mp4"
    with pytest.raises(OSError, match="too long"):
        long.stat()
    (tmp_path / "a.mp4").touch()
    assert find_videos([str(long), str(tmp_path)]) == [long, tmp_path / "a.mp4"]
    assert not is_for_frames(Source(long), None)
    assert not is_for_frames(Source(long), tmp_path)


def test_a_pattern_that_is_too_long_matches_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file matches"):
        find_videos([str(tmp_path / f"*{'x' * 300}.mp4")])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["upscale", ""], "an argument is empty"),
        (["upscale", "v.mp4", "-o", ""], "the value of -o is empty"),
        (["upscale", "v.mp4", "--report="], "the value of --report is empty"),
        (["compare", "", "v.mp4"], "an argument is empty"),
        (["export", ""], "an argument is empty"),
    ],
    ids=str,
)
def test_an_empty_argument_is_not_taken_for_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    """As "$FILM" is one where that is not set."""
    monkeypatch.setenv("COLUMNS", "200")
    film = make_video(tmp_path / "v.mp4", FrameSize(16, 24), frames=2)
    done = command.run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == [film]
