"""Frames to where no file is muxed: a folder of pictures, or a pipe."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Protocol

import av
import av.error
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream

from ksnet_deploy.config import FrameSize
from ksnet_deploy.errors import OutputError
from ksnet_deploy.video.conversion import picture_of
from ksnet_deploy.video.picture import write_png
from ksnet_deploy.video.reader import Frame, VideoReader
from ksnet_deploy.video.sources import reason_of

__all__ = ["FrameSink", "PictureFolder", "Y4mPipe"]


class FrameSink(Protocol):
    """Takes the upscaled frames, in order."""

    pixel_format: str

    def write(self, frame: Frame) -> None:
        """The next frame, (H, W, 3), uint8 or uint16."""

    def finish(self) -> None:
        """All frames are written."""

    def abort(self) -> None:
        """They will not be: leave nothing behind."""


class PictureFolder:
    """A folder of PNG files, of 8 or 16 bits, which gets its name when it is complete."""

    def __init__(self, folder: Path, names: list[str] | None) -> None:
        """``names``: of the frames, without suffix; None to number them from zero."""
        self._folder, self._names = folder, names
        self._unfinished = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(self._unfinished, ignore_errors=True)
        try:
            self._unfinished.mkdir()
        except OSError as error:
            raise OutputError(
                f"the folder {folder} cannot be made ({error.strerror}); choose another with --output"
            ) from error
        self._written = 0
        self.pixel_format = "rgb"

    def write(self, frame: Frame) -> None:
        name = f"{self._written:08}" if self._names is None else self._names[self._written]
        try:
            write_png(self._unfinished / f"{name}.png", frame.rgb)
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(
                f"the picture {name}.png cannot be written to {self._folder} ({reason_of(error)})"
            ) from error
        self._written += 1

    def finish(self) -> None:
        if self._folder.is_dir():
            shutil.rmtree(self._folder)
        self._unfinished.rename(self._folder)

    def abort(self) -> None:
        shutil.rmtree(self._unfinished, ignore_errors=True)


class Y4mPipe:
    """YUV4MPEG on standard output, with the source's chroma, 8 or 10 bits."""

    def __init__(self, reader: VideoReader, size: FrameSize) -> None:
        depth = "p10le" if reader.depth > 8 else "p"
        self.pixel_format = f"yuv{reader.chroma}{depth}"
        self._colour, self._time_base, self._size = reader.colour, 1 / reader.rate, size
        self._container: OutputContainer = av.open(
            sys.stdout.buffer, "w", format="yuv4mpegpipe", options={"strict": "unofficial"}
        )
        stream = self._container.add_stream("rawvideo", rate=reader.rate)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = size.height, size.width, self.pixel_format
        stream.codec_context.color_range = reader.colour.range
        self._stream = stream
        self._written = 0

    def write(self, frame: Frame) -> None:
        rgb = np.ascontiguousarray(frame.rgb)
        # As the header says: FFmpeg writes "420jpeg" into it.
        picture = picture_of(rgb, self._colour, self.pixel_format, self._size, centred=True)
        picture.pts, picture.time_base = self._written, self._time_base
        self._written += 1
        try:
            self._container.mux(self._stream.encode(picture))
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(
                f"standard output was closed ({reason_of(error)}) after {self._written} frames"
            ) from error

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()

    def abort(self) -> None:
        """What was piped cannot be taken back."""
