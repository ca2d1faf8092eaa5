"""Opening of what frames can be read from: a file, a folder of pictures, standard input."""

from __future__ import annotations

import contextlib
import glob
import io
import os
import re
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
import av.error
import av.logging
import av.stream
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.video.kinds import PICTURE_SUFFIXES, PIPE, Source, by_number
from ksnet_deploy.video.reading.beginnings import kind_in_words, starts_as_jpeg
from ksnet_deploy.video.reading.heif import films_first

__all__ = [
    "ICON",
    "INTRA_ONLY",
    "CopiedPacket",
    "check_self_contained",
    "lossy_codec_of",
    "missing_numbers",
    "open_source",
    "open_video",
    "picture_files",
    "reason_of",
    "video_of",
]

# What FFmpeg has to say reaches the user in our own words. PyAV's way of handing it to Python must not be used: a
# codec's own thread waits for Python's lock then, which whoever closes the codec holds while it waits for the thread.
av.logging.restore_default_callback()
av.logging.set_libav_level(av.logging.PANIC)

INTRA_ONLY, LOSSY, LOSSLESS = 1 << 0, 1 << 1, 1 << 2
"""Flags AV_CODEC_PROP_INTRA_ONLY, _LOSSY and _LOSSLESS of FFmpeg's codec_desc.h."""

ICON = "ico"
"""FFmpeg's name of the format of icons, whose tracks are the same picture in several sizes."""

TEXTS = frozenset({"tty", "bin", "xbin", "adf", "idf"})
"""FFmpeg's names of the formats of texts and drawings made of letters, which it knows by the file's suffix alone."""
LISTS = (".ffconcat", ".concat")
"""Suffixes by which a list of files to be shown one after the other is taken for one."""

ALIKE = {".jpeg": ".jpg", ".tiff": ".tif"}
"""Suffixes of pictures of the same kind as another's."""

HAS_PATTERNS = os.name != "nt"
"""Whether FFmpeg expands patterns of names; it has no glob() on Windows."""

SELF_CONTAINED = (
    *("mov", "mp4", "m4a", "3gp", "3g2", "mj2", "matroska", "webm", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "asf"),
    *("ogg", "mxf", "rm", "dv", "nut", "ivf", "obu", "wtv", "h264", "hevc", "m4v", "yuv4mpegpipe", "gif", "apng"),
    *("image2", "png_pipe", "jpeg_pipe", "webp_pipe", "webp", "tiff_pipe", "bmp_pipe"),
)
"""FFmpeg's names of the formats whose files hold all of their frames themselves, and name no others."""
_ALONE = {"format_whitelist": ",".join(SELF_CONTAINED), "protocol_whitelist": "file"}

CopiedPacket: TypeAlias = "Packet[Any]"
"""A compressed packet of a track that is not decoded."""


def open_source(path: Path, rate: Fraction) -> InputContainer:
    """Open a video, a folder of pictures shown at a rate, or YUV4MPEG on standard input.

    Raises:
        av.error.FFmpegError, OSError: it cannot be opened.
        InputError: a folder holds no pictures, or several kinds, or has a name that FFmpeg's lists cannot hold; or
            standard input is closed, or a terminal.
    """
    if str(path) == PIPE:
        if sys.stdin is None:
            raise InputError("standard input is closed; give YUV4MPEG through a pipe, or the path of a video")
        if sys.stdin.buffer.isatty():
            raise InputError("standard input is a terminal; give YUV4MPEG through a pipe, or the path of a video")
        return av.open(sys.stdin.buffer, "r", format="yuv4mpegpipe")
    if not path.is_dir():
        return av.open(f"file:{path}", "r", metadata_errors="ignore")
    files = picture_files(path)
    if files != sorted(files) or len({file.suffix for file in files}) > 1 or not HAS_PATTERNS:
        return _open_in_order(files, rate)
    # With "file:" before it, the pattern would be taken for a name.
    pattern = f"{glob.escape(str(path.absolute()))}/*{files[0].suffix}"
    return av.open(pattern, "r", format="image2", options={"pattern_type": "glob", "framerate": str(rate)})


def _open_in_order(files: list[Path], rate: Fraction) -> InputContainer:
    """Open pictures in an order that FFmpeg's patterns do not give: frame_2 before frame_10."""
    lines = ["ffconcat version 1.0"]
    for index, file in enumerate(files):
        # FFmpeg adds the durations up in microseconds: each is what keeps the sum right.
        begin, end = (round(1_000_000 * count / rate) for count in (index, index + 1))
        if "\n" in str(file.absolute()):
            raise InputError(
                f"{file} has a line break in its path, which FFmpeg's lists of files cannot hold; rename it"
            )
        quoted = str(file.absolute()).replace("'", r"'\''")
        lines += [f"file 'file:{quoted}'", f"option framerate {rate}", f"duration {end - begin}us"]
    return av.open(io.BytesIO("\n".join(lines).encode()), "r", format="concat", options={"safe": "0"})


def open_video(source: Source) -> tuple[InputContainer, VideoStream]:
    """A source, opened, and its video track.

    Raises:
        InputError: it cannot be read, or there is no video in it.
    """
    try:
        container = open_source(source.path, source.rate)
    except (av.error.FFmpegError, OSError) as error:
        if source.kind == "pipe":
            raise InputError(
                f"standard input cannot be read as YUV4MPEG ({reason_of(error)}); it is empty, or of another kind"
            ) from error
        with contextlib.suppress(OSError):
            _refuse_other_kinds(source.path)
        raise InputError(
            f"{source.path} cannot be read as a video ({reason_of(error)}); it is damaged or not a video file"
        ) from error
    try:
        _check_format(container.format.name, source)
        return container, video_of(container, source.path)
    except InputError:
        container.close()
        raise


def _check_format(name: str, source: Source) -> None:
    """Raise InputError where FFmpeg makes a film of what is none: of a text, or of a list of files named otherwise."""
    if source.kind == "file" and name in TEXTS:
        raise InputError(f"{source.path} is not a video: FFmpeg would draw it as a text; give a video")
    if name == "concat":
        _refuse_other_kinds(source.path)


def _refuse_other_kinds(path: Path) -> None:
    """Raise InputError where a file's first bytes say that it is no video. Raises OSError where it cannot be read."""
    if path.suffix.lower() not in LISTS and (kind := kind_in_words(path)):
        raise InputError(f"{path} is not a video: it is {kind}")


def video_of(container: InputContainer, path: Path) -> VideoStream:
    """The first video track of a file that is no cover, of an icon the largest picture. Raises InputError where there
    is none."""
    if container.format.name == "mjpeg" and path.is_file() and not starts_as_jpeg(path):
        _refuse_other_kinds(path)  # in which FFmpeg finds pictures
        raise InputError(f"{path} is not a video, though there are JPEG pictures in it; extract them first")
    cover = av.stream.Disposition.attached_pic
    videos = films_first(container, container.streams.video)
    if container.format.name == ICON:
        videos.sort(key=lambda video: -video.codec_context.width * video.codec_context.height)
    for video in videos:
        # A text file named .mp4 is sometimes taken for subtitles or raw data; a stream without a size is no video.
        if not video.disposition & cover and video.codec_context is not None and video.codec_context.width > 0:
            return video
    if container.streams.video and _is_animated_webp(path):
        raise InputError(f"{path} is an animated WebP, which FFmpeg does not decode; convert it to GIF or MP4 first")
    if any(video.codec_context is None for video in container.streams.video):
        raise InputError(
            f"the video in {path} is of a codec that FFmpeg does not know, or has no decoder for here; convert it first"
        )
    if any(not video.disposition & cover for video in container.streams.video):
        raise InputError(
            f"{path} cannot be read as a video or a picture: what should be its frames has no size; it is damaged, of "
            "another kind than its name says, or of a variety that FFmpeg does not decode"
        )
    found = {"a cover" if stream.type == "video" else stream.type for stream in container.streams}
    kinds = " and ".join(sorted(found)) or "no track at all"
    _refuse_other_kinds(path)
    raise InputError(f"{path} has no video track ({kinds} found); give a file with video")


def _is_animated_webp(path: Path) -> bool:
    """Whether a file says so in its first bytes, by Google's "WebP Container Specification"."""
    if not path.is_file():  # of a folder FFmpeg was given a list
        return False
    with path.open("rb") as file:
        head = file.read(21)
    return len(head) == 21 and head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)


def check_self_contained(path: Path) -> None:
    """Refuse a film that might have its frames from other files: a playlist names them, and whoever wrote it chose.

    Raises:
        InputError: it is of no kind in :data:`SELF_CONTAINED`, or no video.
    """
    try:
        with av.open(f"file:{path}", "r", metadata_errors="ignore", options=_ALONE) as container:
            video_of(container, path)
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(
            f"{path} cannot be read as a video of its own ({reason_of(error)}); it is damaged, no video, or a playlist "
            "of other files, which is not taken here"
        ) from error


def lossy_codec_of(source: Source) -> str | None:
    """FFmpeg's name of a video's codec unless that is a lossless one; None for those, and for folders and pipes.

    A codec that can do both, such as H.264, counts as lossy: hardly anyone uses its lossless mode. So does one of which
    FFmpeg says neither.

    Raises:
        InputError: the file cannot be read as a video.
    """
    if source.kind != "file":
        return None
    container, video = open_video(source)
    with container:
        codec = video.codec_context.codec
    return None if codec.properties & (LOSSY | LOSSLESS) == LOSSLESS else codec.canonical_name


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of the frames: by name, numbers by their value.

    Raises:
        InputError: there is none, they are of several kinds, or one is empty or cannot be opened.
    """
    pictures = (p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith("."))
    files = sorted(pictures, key=lambda path: (by_number(path), path))
    kinds = sorted({path.suffix.lower() for path in files})
    if len({ALIKE.get(kind, kind) for kind in kinds}) != 1:
        raise InputError(
            f"{folder} holds {' and '.join(kinds) or 'no'} pictures; give a folder whose frames are of one kind"
        )
    for file in files:
        if not os.access(file, os.R_OK) or not file.stat().st_size:  # at which FFmpeg ends the sequence
            what = "is empty" if os.access(file, os.R_OK) else "cannot be opened"
            raise InputError(f"the picture {file} {what}; replace it, or take it out of the folder")
    return files


def missing_numbers(files: Sequence[Path]) -> list[int]:
    """Numbers that a sequence of numbered pictures lacks, ascending; none where the names are not all numbered."""
    found = [re.search(r"([0-9]+)(?=[^0-9]*$)", path.stem) for path in files]
    prefixes = {path.stem[: match.start()] if match else None for path, match in zip(files, found, strict=True)}
    if len(prefixes) != 1 or None in prefixes:
        return []
    numbers = {int(match[1]) for match in found if match}
    if max(numbers) - min(numbers) >= 2 * len(numbers):  # times of day or the like, no count of frames
        return []
    return sorted(set(range(min(numbers), max(numbers) + 1)) - numbers)


def reason_of(error: Exception) -> str:
    """FFmpeg's words for an error, without its numbers."""
    return getattr(error, "strerror", None) or str(error)
