"""Which videos a user means: files, folders of them, and patterns."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ksnet_deploy.config import FrameSize
from ksnet_deploy.errors import ConfigError, InputError
from ksnet_deploy.video.sources import PICTURE_SUFFIXES, PIPE

if TYPE_CHECKING:
    from ksnet_deploy.memory import TileChoice

__all__ = ["RESULT_SUFFIX", "VIDEO_SUFFIXES", "find_videos", "parse_height", "parse_rate", "parse_tiles", "parse_time"]

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv", ".vob"}
    | {".ogv", ".3gp", ".y4m", ".mxf"}
)
"""Of the files that are taken from a folder; a file that is named itself may have any."""

RESULT_SUFFIX = "_x4"
"""Of the names of results. In a folder, files of such names are taken for results and left alone."""


def find_videos(inputs: Sequence[str]) -> list[Path]:
    """The videos that inputs name, each once, in their order; those of a folder or pattern by name.

    A folder without videos but with pictures is one video, and ``-`` is standard input.

    Raises:
        InputError: a folder holds no video, or a pattern matches nothing.
    """
    return list(dict.fromkeys(path for text in inputs for path in _named_by(text)))


def _named_by(text: str) -> Iterator[Path]:
    path = Path(text)
    if text == PIPE:
        yield path
    elif path.is_dir():
        videos = [p for p in sorted(path.iterdir()) if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file()]
        sources = [p for p in videos if not p.stem.endswith(RESULT_SUFFIX) and not p.name.startswith(".")]
        if sources:
            yield from sources
        elif any(p.suffix.lower() in PICTURE_SUFFIXES for p in path.iterdir()):
            yield path  # the frames of one video
        else:
            raise InputError(f"{path} holds no video or picture to upscale; give a folder of them, or a video's path")
    elif path.exists() or not glob.has_magic(text):
        yield path
    else:
        found = [Path(name) for name in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207 - of any pattern
        if not (files := [p for p in found if p.is_file()]):
            raise InputError(f"no file matches {text}; check the pattern, or give the path of a video")
        yield from files


def parse_height(text: str) -> int:
    """Lines of a target such as ``1080p``, ``4k`` or ``1080``. Raises InputError for anything else."""
    digits = {"4k": "2160", "8k": "4320"}.get(text.lower(), text.lower().removesuffix("p"))
    if not digits.isascii() or not digits.isdigit():
        raise InputError(f"'{text}' is not a target height; give for example 1080p or 4k")
    return int(digits)


def parse_tiles(text: str) -> TileChoice:
    """What ``--tiles`` says: ``auto``, ``off``, or the largest tile. Raises ConfigError for anything else."""
    if text == "auto":
        return "auto"
    if text == "off":
        return "off"
    try:
        return FrameSize.parse(text)
    except ConfigError as error:
        raise ConfigError(
            f"'{text}' is no size of tiles; give HEIGHTxWIDTH, for example 270x480, or auto or off"
        ) from error


def parse_rate(text: str) -> Fraction:
    """Frames per second, such as ``24``, ``29.97`` or ``30000/1001``. Raises InputError for anything else."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise InputError(f"'{text}' is not a frame rate; give for example 25 or 24000/1001")
    return rate


def parse_time(text: str) -> Fraction:
    """Seconds of a time such as ``90``, ``12.5``, ``1:30`` or ``0:01:30.25``.

    Raises:
        InputError: it is no time.
    """
    try:
        seconds = Fraction(0)
        parts = text.split(":")
        if len(parts) > 3 or any(not part or part.strip() != part or part[0] in "+-" for part in parts):
            raise ValueError
        for index, part in enumerate(parts):
            value = Fraction(part)
            if "/" in part or (index and value >= 60) or (index < len(parts) - 1 and value.denominator != 1):
                raise ValueError
            seconds = seconds * 60 + value
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"'{text}' is not a time; give seconds or [HOURS:]MINUTES:SECONDS, as 12.5 or 1:30") from error
    return seconds
