"""Turns and mirrors: a video keeps its display matrix, frames come out upright."""

from __future__ import annotations

import io
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type
from numpy.typing import NDArray
from PIL import Image
from runners import RepeatRunner
from torture_run import upscale

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.result import UpscaleResult
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.orientation import DisplayMatrix
from ksnet_deploy.video.picture import read_picture, write_png
from ksnet_deploy.video.writing.presets import choose_encoder

ONE, W = 1 << 16, 1 << 30
SIZE = FrameSize(32, 64)
EXIF: dict[int, Any] = {
    2: (((-ONE, 0), (0, ONE)), lambda p: p[:, ::-1]),
    3: (((-ONE, 0), (0, -ONE)), lambda p: p[::-1, ::-1]),
    4: (((ONE, 0), (0, -ONE)), lambda p: p[::-1]),
    5: (((0, ONE), (ONE, 0)), lambda p: p.swapaxes(0, 1)),
    6: (((0, ONE), (-ONE, 0)), lambda p: np.rot90(p, -1)),
    7: (((0, -ONE), (-ONE, 0)), lambda p: np.rot90(p, -1)[::-1, :]),
    8: (((0, -ONE), (ONE, 0)), np.rot90),
}
"""By the orientation of EXIF: the matrix, and what a viewer does."""


def matrix_of(orientation: int, size: FrameSize = SIZE) -> tuple[int, ...]:
    """With the offsets that put the picture's corner at (0, 0)."""
    (a, b), (c, d) = EXIF[orientation][0]
    x = ONE * (size.width * (a < 0) + size.height * (c < 0))
    y = ONE * (size.width * (b < 0) + size.height * (d < 0))
    return a, b, 0, c, d, 0, x, y, W


def quadrants(size: FrameSize = SIZE) -> NDArray[np.uint8]:
    """A picture that differs from all of its turns and mirrors."""
    picture = np.full((size.height, size.width, 3), 40, np.uint8)
    picture[: size.height // 2, size.width // 2 :] = 100
    picture[size.height // 2 :, : size.width // 2] = 160
    picture[: size.height // 4, : size.width // 4] = 230
    return picture


def make(path: Path, matrix: tuple[int, ...], codec: str = "mpeg4") -> Path:
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = SIZE.height, SIZE.width, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.bit_rate = 6, 10_000_000
        stream.set_display_matrix(matrix)
        for index in range(2):
            frame = av.VideoFrame.from_ndarray(quadrants()).reformat(format="yuv420p")
            frame.pts = index
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def shown_by(path: Path) -> list[int] | None:
    with av.open(str(path)) as file:
        data: Any = next(file.decode(video=0)).side_data
        return list(struct.unpack("9i", bytes(data[Type.DISPLAYMATRIX]))) if Type.DISPLAYMATRIX in data else None


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("orientation", EXIF)
def test_a_video_keeps_its_turns_and_mirrors(tmp_path: Path, orientation: int, suffix: str) -> None:
    source = make(tmp_path / "v.mp4", matrix_of(orientation))
    encoder = choose_encoder("vp9", speed="8") if suffix == ".webm" else choose_encoder("h264")
    found = shown_by(upscale(source, tmp_path / f"o{suffix}", codec=encoder).target)
    expected = list(matrix_of(orientation, SIZE.upscaled))
    if suffix in (".mkv", ".webm"):  # which have no offsets
        expected[6:8] = 0, 0
    assert found == expected


def test_a_video_keeps_a_turn_by_any_angle(tmp_path: Path) -> None:
    matrix = (46341, 46341, 0, -46341, 46341, 0, 0, 0, W)
    source = make(tmp_path / "v.mp4", matrix)
    assert shown_by(upscale(source, tmp_path / "o.mp4").target) == list(matrix)
    result = frames_of(source, tmp_path / "frames")
    assert (
        "The source is shown changed in a way that is no turn or mirror; the frames are as they are stored."
        in result.notes
    )


def test_a_video_that_is_shown_as_it_is_gets_no_matrix(tmp_path: Path) -> None:
    source = make(tmp_path / "v.mp4", (ONE, 0, 0, 0, ONE, 0, 0, 0, W))
    assert shown_by(upscale(source, tmp_path / "o.mp4").target) is None


def frames_of(source: Path, target: Path) -> UpscaleResult:
    return upscale_video(source, target, Upscaler(open_runner=RepeatRunner))


@pytest.mark.parametrize("orientation", EXIF)
def test_frames_to_a_folder_are_upright(tmp_path: Path, orientation: int) -> None:
    result = frames_of(make(tmp_path / "v.mp4", matrix_of(orientation)), tmp_path / "frames")
    expected = EXIF[orientation][1](quadrants(SIZE.upscaled))
    assert result.size == FrameSize(*expected.shape[:2])
    for name in ("00000000.png", "00000001.png"):
        found = read_picture(tmp_path / "frames" / name)
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).mean() < 6


@pytest.mark.parametrize("orientation", [2, 5, 6])
def test_frames_to_a_pipe_are_upright(tmp_path: Path, orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source, piped = make(tmp_path / "v.mp4", matrix_of(orientation)), io.BytesIO()
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=piped))
    monkeypatch.setattr(piped, "close", lambda: None)
    frames_of(source, Path("-"))
    expected = EXIF[orientation][1](quadrants(SIZE.upscaled))
    with av.open(io.BytesIO(piped.getvalue()), format="yuv4mpegpipe") as file:
        found = next(file.decode(video=0)).to_ndarray(format="rgb24")
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 6


def with_exif(path: Path, orientation: int) -> None:
    """An EXIF block in a JPEG, or an eXIf chunk in a PNG, with nothing but an orientation."""
    tags = b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x0112, 3, 1, orientation, 0)
    content = path.read_bytes()
    if path.suffix == ".png":
        import zlib

        chunk = b"eXIf" + tags
        part = struct.pack(">I", len(tags)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        path.write_bytes(content[:33] + part + content[33:])
    else:
        block = b"Exif\0\0" + tags
        path.write_bytes(content[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + content[2:])


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", EXIF)
def test_folders_of_pictures_with_an_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    (folder := tmp_path / "photos").mkdir()
    for index in range(2):
        path = folder / f"{index}{suffix}"
        if suffix == ".png":
            write_png(path, quadrants())
        else:
            av.VideoFrame.from_ndarray(quadrants()).save(path)
        with_exif(path, orientation)
    frames_of(folder, tmp_path / "frames")
    expected = EXIF[orientation][1](quadrants(SIZE.upscaled))
    found = read_picture(tmp_path / "frames" / "0.png")
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 6
    matrix = shown_by(upscale(folder, tmp_path / "o.mp4").target)
    assert matrix is not None
    assert DisplayMatrix(tuple(matrix)).turns == DisplayMatrix(matrix_of(orientation)).turns


@pytest.mark.parametrize("orientations", [(1, 3), (6, 8), (1, 6), (6, 1)])
def test_pictures_of_a_folder_that_are_turned_differently_are_refused(
    tmp_path: Path, orientations: tuple[int, int]
) -> None:
    """As a phone's are, held this way and that: all would be turned as the first is."""
    (frames := tmp_path / "frames").mkdir()
    for index, orientation in enumerate((*orientations, orientations[0])):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (32, 24), (9 * index, 0, 0)).save(frames / f"{index}.jpg", exif=exif)
    with pytest.raises(InputError, match="changes how its pictures are to be turned at frame 2"):
        upscale_video(frames, tmp_path / "out", Upscaler(open_runner=RepeatRunner))
    assert list(tmp_path.iterdir()) == [frames]
