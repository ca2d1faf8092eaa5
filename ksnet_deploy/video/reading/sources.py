"""What frames can be read from: a file, a folder of pictures, standard input."""

from __future__ import annotations

import glob
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
import av.logging
import av.stream
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.video.kinds import PICTURE_SUFFIXES, PIPE

__all__ = ["CopiedPacket", "open_source", "picture_files", "reason_of", "video_of"]

# What FFmpeg has to say reaches the user in our own words. PyAV's way of handing it to Python must not be used: a
# codec's own thread waits for Python's lock then, which whoever closes the codec holds while it waits for the thread.
av.logging.restore_default_callback()
av.logging.set_libav_level(av.logging.PANIC)

CopiedPacket: TypeAlias = "Packet[Any]"
"""A compressed packet of a track that is not decoded."""


def open_source(path: Path, rate: Fraction) -> InputContainer:
    """Open a video, a folder of pictures shown at a rate, or YUV4MPEG on standard input.

    Raises:
        av.error.FFmpegError, OSError: it cannot be opened.
        InputError: a folder holds no pictures, or several kinds.
    """
    if str(path) == PIPE:
        return av.open(sys.stdin.buffer, "r", format="yuv4mpegpipe")
    if not path.is_dir():
        return av.open(f"file:{path}", "r", metadata_errors="ignore")
    # With "file:" before it, the pattern would be taken for a name.
    pattern = f"{glob.escape(str(path.absolute()))}/*{picture_files(path)[0].suffix}"
    return av.open(pattern, "r", format="image2", options={"pattern_type": "glob", "framerate": str(rate)})


def video_of(container: InputContainer, path: Path) -> VideoStream:
    """The first video track of a file that is no cover. Raises InputError where there is none."""
    cover = av.stream.Disposition.attached_pic
    for video in container.streams.video:
        # A text file named .mp4 is sometimes taken for subtitles or raw data; a stream without a size is no video.
        if not video.disposition & cover and video.codec_context is not None and video.codec_context.width > 0:
            return video
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "no track at all"
    raise InputError(f"{path} has no video track that can be read ({kinds} found); give a file with video")


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a folder by name, which is the order of the frames.

    Raises:
        InputError: there is none, or they are of several kinds.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith("."))
    kinds = sorted({path.suffix for path in files})
    if len(kinds) != 1:
        raise InputError(
            f"{folder} holds {' and '.join(kinds) or 'no'} pictures; give a folder whose frames are of one kind"
        )
    return files


def reason_of(error: Exception) -> str:
    """FFmpeg's words for an error, without its numbers."""
    return getattr(error, "strerror", None) or str(error)
