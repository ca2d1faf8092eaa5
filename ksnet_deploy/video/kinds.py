"""Kinds of sources: a video file, a folder of pictures, or a pipe. Nothing heavy is imported."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from ksnet_deploy.base.errors import InputError

__all__ = [
    "DEFAULT_RATE",
    "PICTURE_OUTPUTS",
    "PICTURE_SUFFIXES",
    "PIPE",
    "VIDEO_SUFFIXES",
    "Source",
    "SourceKind",
    "by_number",
    "check_is_no_address",
    "is_folder",
]

PIPE = "-"
"""Text for standard input or output in the place of a path."""
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
"""Suffixes of the files that are taken for frames in a folder."""
PICTURE_OUTPUTS = (".png", ".jpg", ".jpeg", ".webp")
"""Suffixes of the pictures that are written."""
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv", ".vob"}
    | {".ogv", ".3gp", ".y4m", ".mxf"}
)
"""Suffixes of the files that are taken for videos in a folder; a file that is named itself may have any."""
DEFAULT_RATE = Fraction(25)
"""Frames per second of a folder of pictures, which says none."""

SourceKind = Literal["file", "folder", "pipe"]


@dataclass(frozen=True)
class Source:
    """Frames to read: a video or a part of one, a folder of pictures, or YUV4MPEG on standard input.

    Raises:
        InputError: the part ends before it starts, or the path is no regular file, as a named pipe is none, or an
            address.
    """

    path: Path
    """A video, a folder of pictures (the frames, by name), or ``-`` for standard input."""
    start_s: Fraction | None = None
    """Seconds from the beginning of the file to the first frame wanted. That moment is time zero then; where it is
    None, all times are as they are in the file."""
    end_s: Fraction | None = None
    """Seconds from the beginning of the file; frames from there on are left out."""
    rate: Fraction = DEFAULT_RATE
    """Frames per second of a folder of pictures."""
    kind: SourceKind = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if self.start_s is not None and self.end_s is not None and self.end_s <= self.start_s:
            raise InputError(f"the part of {self.path} to read ends before it starts; give an --end after --start")
        object.__setattr__(self, "kind", _kind_of(self.path))

    @property
    def stem(self) -> str:
        """Name without a file's suffix; a folder has none."""
        path = self.path if self.path.name not in ("", "..") else self.path.resolve()
        return path.name if self.kind == "folder" else path.stem

    @property
    def is_part(self) -> bool:
        """Whether a start or an end was given."""
        return self.start_s is not None or self.end_s is not None

    @property
    def part_in_words(self) -> str:
        """Part for names of files: empty for the whole, ``_90s-105s`` or ``_90s-end`` for a part."""
        if not self.is_part:
            return ""
        end = "end" if self.end_s is None else f"{float(self.end_s):g}s"
        return f"_{float(self.start_s or 0):g}s-{end}"


def by_number(path: Path) -> list[str | int]:
    """Key that sorts frame_2 before frame_10."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split("([0-9]+)", path.name))]


def check_is_no_address(path: Path) -> None:
    """Raise InputError for an address such as ``https://example.com/film.mp4``, of which a path keeps one slash."""
    if (found := re.match(r"([a-z][a-z0-9+.-]+:)/", str(path), re.IGNORECASE)) and not os.path.exists(path):  # noqa: PTH110 - Path's fails on long names
        if found[1].lower() == "file:":
            place = "/" + str(path)[found.end() :].lstrip("/")
            raise InputError(f"file://{place} is an address; give the path alone, {place}")
        address = f"{found[1]}//{str(path)[found.end() :].removeprefix('/')}"
        raise InputError(f"{address} is an address, not a file; download the video first and give its path")


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; what the system refuses to look at, such as too long a name, counts as a file."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _kind_of(path: Path) -> SourceKind:
    if str(path) == PIPE:
        return "pipe"
    if is_folder(path):
        return "folder"
    try:
        mode = path.stat().st_mode
    except OSError:  # which opening it will tell
        check_is_no_address(path)
        return "file"
    if not stat.S_ISREG(mode):
        what = "a named pipe" if stat.S_ISFIFO(mode) else "a device or socket"
        raise InputError(
            f"{path} is {what}, which cannot be read twice; give a regular file, or - to read YUV4MPEG from standard "
            "input"
        )
    return "file"
