"""Sinks of frames that need no muxing: a picture, a folder of pictures, or a pipe."""

from __future__ import annotations

import shutil
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import av
import av.error
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.files import publish
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.hidden import hidden_name, temporary_beside
from ksnet_deploy.base.words import counted
from ksnet_deploy.video.conversion import picture_of
from ksnet_deploy.video.picture import write_picture, write_png
from ksnet_deploy.video.reading.reader import Frame, VideoReader
from ksnet_deploy.video.reading.sources import reason_of

__all__ = ["FrameSink", "PictureFile", "PictureFolder", "Y4mPipe", "check_new_folder", "check_standard_output"]


class FrameSink(Protocol):
    """Sink of the upscaled frames, in order."""

    pixel_format: str
    depth: int
    """Bits per sample, at most."""

    def write(self, frame: Frame) -> None:
        """Write the next frame, (H, W, 3), uint8 or uint16."""

    def finish(self) -> None:
        """Complete the output: all frames are written."""

    def abort(self) -> None:
        """Leave nothing behind: the rest will not be written."""


def check_new_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise OutputError unless a folder of pictures may get that name, with nothing lost but what it is to replace."""
    if folder.is_symlink():
        raise OutputError(f"{folder} is a link to something else; remove it, or give another name for the output")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file; give the name of a folder, or of a .mp4, .mov or .mkv file")
    held = sorted(folder.iterdir())
    if held and not overwrite:
        raise OutputError(f"{folder} already holds files; pass --overwrite to replace the folder, or another name")
    for path in held:
        if path.suffix.lower() != ".png" or path.is_symlink() or not path.is_file():
            raise OutputError(
                f"{folder} cannot be replaced because it holds {path.name}, and only .png files may be lost; move that "
                "elsewhere, or give another name for the output"
            )


def check_standard_output() -> None:
    """Raise OutputError where frames cannot be piped: standard output is closed, or a terminal."""
    if sys.stdout is None:
        raise OutputError("standard output is closed; give a file or a folder with --output")
    if sys.stdout.buffer.isatty():
        raise OutputError(
            "standard output is a terminal, which shows no frames; pipe them on, or give another --output"
        )


class PictureFile:
    """A single picture, in the format that its suffix names, which gets its name when it is complete."""

    def __init__(self, path: Path, *, grey: bool, overwrite: bool = False) -> None:
        """``grey``: the source has no colours, and so the picture gets none."""
        self._path, self._grey, self._overwrite = path, grey, overwrite
        self._suffix = path.suffix.lower()
        self.pixel_format, self.depth = "gray" if grey else "rgb", 16 if self._suffix == ".png" else 8

    def write(self, frame: Frame) -> None:
        levels = frame.rgb
        if self._grey:
            levels = np.rint(levels.mean(axis=2, dtype=np.float32)).astype(levels.dtype)
        unfinished = temporary_beside(self._path)
        try:
            write_picture(unfinished, self._suffix, levels)
            publish(unfinished, self._path, overwrite=self._overwrite)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            size = FrameSize(*levels.shape[:2])
            raise OutputError(
                f"a picture of {size} cannot be written to {self._path} ({reason_of(error)}); make room, or choose "
                "another place or format with --output"
            ) from error
        finally:
            unfinished.unlink(missing_ok=True)

    def finish(self) -> None:
        """Nothing to do: it is written."""

    def abort(self) -> None:
        """Do nothing: there is nothing unfinished."""


class PictureFolder:
    """A folder of PNG files, of 8 or 16 bits, which gets its name when it is complete."""

    def __init__(self, folder: Path, names: list[str] | None, *, overwrite: bool = False) -> None:
        """Begin a folder under a hidden name.

        Args:
            folder: its name in the end.
            names: of the pictures, without suffix, by the frames' ``pts``; None to number the frames from zero.
            overwrite: replace a folder of PNG files that has the name.

        Raises:
            OutputError: it cannot be made.
        """
        self._folder, self._names, self._overwrite = folder, names, overwrite
        self._unfinished = folder.with_name(hidden_name(folder.name, ".part"))
        shutil.rmtree(self._unfinished, ignore_errors=True)
        try:
            self._unfinished.mkdir()
        except OSError as error:
            raise OutputError(
                f"the folder {folder} cannot be made ({error.strerror}); choose another with --output"
            ) from error
        self._written = 0
        self.pixel_format, self.depth = "rgb", 16

    def write(self, frame: Frame) -> None:
        name = f"{self._written:08}" if self._names is None else self._names[frame.pts]
        try:
            write_png(self._unfinished / f"{name}.png", frame.rgb)
        except (av.error.FFmpegError, OSError) as error:
            remedy = "make room, or choose another folder with --output"
            raise OutputError(
                f"the picture {name}.png cannot be written to {self._folder} ({reason_of(error)}); {remedy}"
            ) from error
        self._written += 1

    def finish(self) -> None:
        check_new_folder(self._folder, overwrite=self._overwrite)  # once more, for the work may have taken hours
        older = self._folder.with_name(f".{uuid.uuid4().hex}.old")
        try:
            if self._folder.exists():
                self._folder.rename(older)
            try:
                self._unfinished.rename(self._folder)
            except OSError:
                if older.exists():
                    older.rename(self._folder)
                raise
        except OSError as error:
            raise OutputError(
                f"the folder {self._folder} cannot get its name ({error.strerror}); choose another with --output"
            ) from error
        shutil.rmtree(older, ignore_errors=True)

    def abort(self) -> None:
        shutil.rmtree(self._unfinished, ignore_errors=True)


class Y4mPipe:
    """YUV4MPEG on standard output, with the source's chroma, 8 or 10 bits."""

    def __init__(self, reader: VideoReader, size: FrameSize) -> None:
        self.depth = 10 if reader.depth > 8 else 8
        self.pixel_format = f"yuv{reader.chroma}p{'10le' if reader.depth > 8 else ''}"
        self._colour, self._time_base, self._size = reader.colour, 1 / reader.rate, size
        check_standard_output()
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
        self._guard(lambda: self._container.mux(self._stream.encode(picture)))

    def finish(self) -> None:
        self._guard(lambda: self._container.mux(self._stream.encode(None)))
        self._guard(self._container.close)

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(
                f"standard output was closed ({reason_of(error)}) after {counted(self._written, 'frame')}"
            ) from error

    def abort(self) -> None:
        """Do nothing: what was piped cannot be taken back."""
