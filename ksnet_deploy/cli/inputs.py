"""Which videos a user means: files, folders of them, and patterns."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ksnet_deploy.base.errors import ConfigError, InputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.output import RESULT_SUFFIX
from ksnet_deploy.video.kinds import PICTURE_SUFFIXES, PIPE, VIDEO_SUFFIXES, is_folder

if TYPE_CHECKING:
    from ksnet_deploy.upscale.memory import TileChoice

__all__ = ["find_videos", "parse_height", "parse_rate", "parse_tiles", "parse_time"]


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
    elif is_folder(path):
        videos = [p for p in sorted(path.iterdir()) if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file()]
        sources = [p for p in videos if not p.stem.removesuffix(".partial").endswith(RESULT_SUFFIX)]
        sources = [p for p in sources if not p.name.startswith(".")]
        if sources:
            yield from sources
        elif any(p.suffix.lower() in PICTURE_SUFFIXES for p in path.iterdir()):
            yield path  # the frames of one video
        else:
            raise InputError(f"{path} holds no video or picture to upscale; give a folder of them, or a video's path")
    elif not glob.has_magic(text) or _exists(path):
        yield path
    else:
        found = [Path(name) for name in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207 - of any pattern
        if not (files := [p for p in found if p.is_file()]):
            raise InputError(f"no file matches {text}; check the pattern, or give the path of a video")
        yield from files


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


_WHOLE = r"[0-9]{1,9}"
_DECIMAL = rf"(?:{_WHOLE}(?:\.[0-9]{{0,9}})?|\.{_WHOLE})"
"""Figures only, and few: ``Fraction`` takes 1e999999999 too, and builds that number."""


def parse_height(text: str) -> int:
    """Lines of a target such as ``1080p``, ``4k`` or ``1080``. Raises InputError for anything else."""
    digits = {"4k": "2160", "8k": "4320"}.get(text.lower(), text.lower().removesuffix("p"))
    if not re.fullmatch(_WHOLE, digits):
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
    if re.fullmatch(rf"{_DECIMAL}|{_WHOLE}/0*[1-9][0-9]{{0,8}}", text) and 0 < (rate := Fraction(text)) <= 1000:
        return rate
    raise InputError(f"'{text}' is not a frame rate; give for example 25 or 24000/1001")


def parse_time(text: str) -> Fraction:
    """Seconds of a time such as ``90``, ``12.5``, ``1:30`` or ``0:01:30.25``.

    Raises:
        InputError: it is no time.
    """
    parts = text.split(":")
    numbers = len(parts) <= 3 and re.fullmatch(rf"(?:{_WHOLE}:)*{_DECIMAL}", text)
    if not numbers or any(Fraction(part) >= 60 for part in parts[1:]):
        raise InputError(f"'{text}' is not a time; give seconds or [HOURS:]MINUTES:SECONDS, as 12.5 or 1:30")
    return sum((Fraction(part) * 60**power for power, part in enumerate(reversed(parts))), Fraction(0))
