"""What a path names, and the order of a folder's frames."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from runners import RepeatRunner

from ksnet_deploy.base.errors import InputError, OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.pairing import open_version
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.clips.find import find_clips
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.picture import read_picture, write_png
from ksnet_deploy.video.reading import sources
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.reading.sources import missing_numbers, picture_files
from ksnet_deploy.video.writing.sinks import Y4mPipe


def test_kinds_are_told_once(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"")
    kinds = {path: Source(Path(path)).kind for path in ("-", str(tmp_path), str(tmp_path / "v.mp4"), "none.mp4")}
    assert list(kinds.values()) == ["pipe", "folder", "file", "file"]


@pytest.mark.parametrize("address", ["https://example.com/a.mp4", "s3://bucket/a.mp4"])
def test_an_address_keeps_its_slashes(tmp_path: Path, address: str) -> None:
    for use in (Source, find_clips, VideoReader):
        with pytest.raises(InputError, match=f"^{address} is an address, not a file"):
            list(use(Path(address)))
    with ExitStack() as stack, pytest.raises(InputError, match=f"^{address} is an address, not a file"):
        open_version(Path(address), stack)
    assert Source(tmp_path / "a:/b.mp4").kind == "file"


@pytest.mark.parametrize("address", ["file:///films/a.mp4", "FILE:/films/a.mp4"])
def test_the_address_of_a_file_is_answered_with_its_path(address: str) -> None:
    with pytest.raises(InputError, match=r"^file:///films/a.mp4 is an address; give the path alone, /films/a.mp4$"):
        Source(Path(address))


def test_a_line_break_in_a_folders_name_is_said(tmp_path: Path) -> None:
    (tmp_path / "a\nb").mkdir()
    for number in (9, 10):
        write_png(tmp_path / f"a\nb/{number}.png", np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(InputError, match="has a line break in its path"):
        VideoReader(tmp_path / "a\nb")


def test_closed_standard_streams_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputError, match="standard input is closed"):
        VideoReader(Path("-"))
    write_png(tmp_path / "a.png", np.zeros((16, 16, 3), np.uint8))
    monkeypatch.setattr("sys.stdout", None)
    with VideoReader(tmp_path / "a.png") as reader, pytest.raises(OutputError, match="standard output is closed"):
        Y4mPipe(reader, FrameSize(64, 64))


@pytest.mark.parametrize(
    "names", [["1.png", "2.PNG", "3.png"], ["1.jpg", "2.jpeg", "3.JPG"], ["1.tif", "2.TIFF", "10.tif"]], ids=" ".join
)
def test_suffixes_of_one_kind_are_one_kind(tmp_path: Path, names: list[str]) -> None:
    (frames := tmp_path / "frames").mkdir()
    for index, name in enumerate(names):
        Image.new("RGB", (24, 16), (60 * index, 0, 0)).save(frames / name)
    found = upscale_video(frames, tmp_path / "out", Upscaler(open_runner=RepeatRunner))
    assert found.frames == 3
    shown = [read_picture(tmp_path / "out" / f"{Path(name).stem}.png")[0, 0, 0] for name in names]
    assert shown == pytest.approx([0, 60, 120], abs=3)
    Image.new("RGB", (24, 16)).save(frames / "4.bmp")
    with pytest.raises(InputError, match="give a folder whose frames are of one kind"):
        VideoReader(frames)


def test_a_terminal_is_neither_read_nor_filled_with_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any work: nothing would come from it, or what it shows would be lost in the samples."""

    def opened(*_arguments: object, **_settings: object) -> RepeatRunner:
        pytest.fail("a network was opened")

    terminal = SimpleNamespace(buffer=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("sys.stdin", terminal)
    with pytest.raises(InputError, match="standard input is a terminal; give YUV4MPEG"):
        upscale_video("-", tmp_path / "frames", Upscaler(open_runner=opened))
    write_png(tmp_path / "a.png", np.zeros((16, 16, 3), np.uint8))
    monkeypatch.setattr("sys.stdout", terminal)
    with pytest.raises(OutputError, match="standard output is a terminal"):
        upscale_video(tmp_path / "a.png", "-", Upscaler(open_runner=opened))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"is a named pipe, which cannot be read twice; give a regular file, or -"):
        Source(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"is a device or socket"):
        Source(Path(os.devnull))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        with pytest.raises(InputError, match=r"is a device or socket"):
            upscale_video(tmp_path / "s")
    read, write = os.pipe()
    with pytest.raises(InputError, match="is a named pipe"):  # as the shell's <(...) gives it
        upscale_video(f"/dev/fd/{read}")
    os.close(read)
    os.close(write)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe", "s"] or len(list(tmp_path.iterdir())) == 2


def numbered(folder: Path, names: list[str]) -> Path:
    """Pictures that are as grey as their place in the list."""
    folder.mkdir()
    for place, name in enumerate(names):
        write_png(folder / name, np.full((16, 24, 3), place, np.uint8))
    return folder


@pytest.mark.parametrize("patterns", [True, False])
def test_a_folder_is_read_alike_where_ffmpeg_has_no_patterns(
    tmp_path: Path, patterns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows: the pictures are listed to FFmpeg one by one, and no pattern is given."""
    folder = numbered(tmp_path / "f", [f"{i:03}.png" for i in range(5)])
    opened: list[str | None] = []
    av_open = av.open

    def noting(*arguments: Any, **options: Any) -> Any:
        opened.append(options.get("format"))
        return av_open(*arguments, **options)

    monkeypatch.setattr(av, "open", noting)
    monkeypatch.setattr(sources, "HAS_PATTERNS", patterns)
    rate = Fraction(24000, 1001)
    with VideoReader(Source(folder, rate=rate)) as reader:
        found = [(int(frame.rgb[0, 0, 0]), frame.pts * reader.time_base) for frame in reader.frames()]
        assert reader.rate == rate
    assert found == [(place, place / rate) for place in range(5)]
    assert opened == ["image2" if patterns else "concat"]


@pytest.mark.parametrize(
    "names",
    [
        [f"frame_{i}.png" for i in range(1, 13)],
        [f"{i}.png" for i in range(8, 104)],
        ["a1b9.png", "a1b10.png", "a2b1.png", "a10b1.png"],
        ["it's 1.png", "it's 2.png", "it's 10.png"],
        ["[1] %d 9.png", "[1] %d 10.png"],
    ],
)
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(24000, 1001)])
def test_numbers_in_names_count_by_their_value(tmp_path: Path, names: list[str], rate: Fraction) -> None:
    folder = numbered(tmp_path / "f", names)
    assert [path.name for path in picture_files(folder)] == names
    with VideoReader(Source(folder, rate=rate)) as reader:
        found = [(int(frame.rgb[0, 0, 0]), frame.pts * reader.time_base) for frame in reader.frames()]
        assert reader.rate == rate
    assert found == [(place, place / rate) for place in range(len(names))]
    with VideoReader(Source(folder, start_s=1 / rate, rate=rate)) as reader:
        assert [int(frame.rgb[0, 0, 0]) for frame in reader.frames()] == list(range(1, len(names)))


def test_frames_keep_their_names_in_that_order(tmp_path: Path) -> None:
    names = [f"frame_{i}.png" for i in range(1, 13)]
    result = upscale_video(numbered(tmp_path / "f", names), None, Upscaler(open_runner=RepeatRunner))
    assert {path.name: int(read_picture(path)[0, 0, 0]) for path in result.target.iterdir()} == {
        name: place for place, name in enumerate(names)
    }
    assert not any("missing" in note for note in result.notes)


def test_gaps_in_the_numbers_are_said(tmp_path: Path) -> None:
    folder = numbered(tmp_path / "f", [f"f{i:03}.png" for i in (1, 2, 5, 6, 7, 8, 10)])
    result = upscale_video(folder, None, Upscaler(open_runner=RepeatRunner))
    assert "3 numbers are missing in the names of the pictures (3, 4, 9); frames may be too." in result.notes
    assert result.frames == 7


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["a.png", "b.png"], []),
        (["1.png", "2.png"], []),
        (["1.png", "x3.png"], []),
        (["20240101.png", "20240315.png"], []),
        (["9.png", "11.png", "12.png"], [10]),
        (["x_09_b.png", "x_10_b.png", "x_12_b.png"], [11]),
    ],
)
def test_only_what_counts_frames_has_gaps(names: list[str], missing: list[int]) -> None:
    assert missing_numbers([Path(name) for name in names]) == missing
