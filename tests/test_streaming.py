"""Folders of pictures and pipes, in and out."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from media import make_video, presentation_times
from numpy.typing import NDArray
from test_pipeline import RepeatRunner

from ksnet_deploy.config import FrameSize
from ksnet_deploy.errors import BackendError, InputError, OutputError
from ksnet_deploy.pipeline import upscale_video
from ksnet_deploy.streaming import is_stream, upscale_frames
from ksnet_deploy.upscaler import Upscaler
from ksnet_deploy.video import choose_encoder, read_picture, write_png

SIZE = FrameSize(32, 48)
SmallOnnx = Callable[..., Path]


def pictures(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE.height, SIZE.width, 3), dtype=np.uint8)


def enlarged(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return picture.repeat(4, axis=0).repeat(4, axis=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five frames, in a folder whose name has a meaning to patterns."""
    path = tmp_path / "shot [1] 100%"
    path.mkdir()
    for index, picture in enumerate(pictures(5)):
        write_png(path / f"frame_{index + 7:04}.png", picture)
    (path / "notes.txt").write_text("no picture")
    return path


def test_a_folder_of_frames_becomes_one_with_the_same_names(folder: Path) -> None:
    result = upscale_frames(folder, None, Upscaler(open_runner=RepeatRunner))
    assert result.target == folder.with_name("shot [1] 100%_x4")
    found = sorted(result.target.iterdir())
    assert [p.name for p in found] == [f"frame_{i:04}.png" for i in range(7, 12)]
    for path, picture in zip(found, pictures(5), strict=True):
        np.testing.assert_array_equal(read_picture(path), enlarged(picture))
    assert {p.name for p in folder.parent.iterdir()} == {folder.name, result.target.name}


def test_deep_pictures_stay_deep(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    deep = np.random.default_rng(1).integers(0, 65536, (SIZE.height, SIZE.width, 3), dtype=np.uint16)
    write_png(tmp_path / "in" / "a.png", deep)
    upscale_frames(tmp_path / "in", tmp_path / "out", Upscaler(open_runner=RepeatRunner))
    with av.open(str(tmp_path / "out" / "a.png")) as container:
        frame = next(container.decode(video=0))
    assert frame.format.name == "rgb48be"
    np.testing.assert_array_equal(frame.to_ndarray().astype(np.uint16), enlarged(deep))


def test_a_folder_of_frames_becomes_a_video_of_a_rate(folder: Path, tmp_path: Path) -> None:
    rate = Fraction(24000, 1001)
    result = upscale_video(
        folder, tmp_path / "o.mkv", Upscaler(open_runner=RepeatRunner), rate=rate, encoder=choose_encoder("ffv1")
    )
    assert (result.frames, result.pixel_format) == (5, "yuv444p")
    times = presentation_times(result.target)
    assert [float(t) for t in times] == pytest.approx([i / float(rate) for i in range(5)], abs=0.001)


def test_a_video_becomes_a_folder_of_frames(tmp_path: Path) -> None:
    source = make_video(tmp_path / "v.mp4", SIZE, frames=12)
    assert is_stream(source, tmp_path / "frames")
    result = upscale_frames(source, tmp_path / "frames", Upscaler(open_runner=RepeatRunner), start_s=Fraction(4, 25))
    assert result.frames == 8
    assert sorted(p.name for p in result.target.iterdir()) == [f"{i:08}.png" for i in range(8)]


def test_a_failure_leaves_no_folder(folder: Path) -> None:
    (folder / "frame_0009.png").write_bytes(b"broken")

    class Broken(RepeatRunner):
        def _step(self, _lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
            raise MemoryError

    with pytest.raises(BackendError, match="does not hold the network"):
        upscale_frames(folder, None, Upscaler(open_runner=Broken))
    assert {p.name for p in folder.parent.iterdir()} == {folder.name}


def test_bad_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for target, words in (
        (folder, "is the source itself"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "none" / "out", "does not exist"),
    ):
        with pytest.raises(OutputError, match=words):
            upscale_frames(folder, target, Upscaler(open_runner=RepeatRunner))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        upscale_frames(tmp_path / "empty", None, Upscaler(open_runner=RepeatRunner))
    (folder / "other.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds \.jpg and \.png pictures"):
        upscale_frames(folder, None, Upscaler(open_runner=RepeatRunner))


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p10le"])
def test_a_pipe_gives_the_frames_of_a_pipe(pixel_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = io.BytesIO()
    with av.open(source, "w", format="yuv4mpegpipe", options={"strict": "unofficial"}) as container:
        stream = container.add_stream("rawvideo", rate=Fraction(30000, 1001))
        stream.height, stream.width, stream.pix_fmt = SIZE.height, SIZE.width, pixel_format
        for index, picture in enumerate(pictures(6)):
            frame = av.VideoFrame.from_ndarray(picture).reformat(format=pixel_format)
            frame.pts = index
            container.mux(stream.encode(frame))
    target = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Unseekable(source.getvalue())))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=target))
    result = upscale_frames(Path("-"), None, Upscaler(open_runner=RepeatRunner))
    assert (result.frames, str(result.target), result.pixel_format) == (6, "-", pixel_format)
    with av.open(io.BytesIO(target.getvalue()), format="yuv4mpegpipe") as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.codec_context.pix_fmt) == (Fraction(30000, 1001), pixel_format)
        assert [(f.height, f.width) for f in container.decode(video=0)] == [(128, 192)] * 6


class Unseekable:
    """Bytes as a pipe gives them."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, count: int = -1) -> bytes:
        return self._data.read(count)


def test_the_command_line_pipes(small_onnx: SmallOnnx, tmp_path: Path) -> None:
    source = tmp_path / "v.y4m"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.height, stream.width, stream.pix_fmt = SIZE.height, SIZE.width, "yuv420p"
        for picture in pictures(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture).reformat(format="yuv420p")))
    command = [sys.executable, "-m", "ksnet_deploy.cli", "upscale", "-", "-o", "-", "-m", str(small_onnx("32x48"))]
    done = subprocess.run(command, input=source.read_bytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(b"YUV4MPEG2 W192 H128 F25:1")
    assert len(done.stdout) > 3 * 192 * 128 * 3 // 2
    assert b"3 frames of 128x192" in done.stderr
