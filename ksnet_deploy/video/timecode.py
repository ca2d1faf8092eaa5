"""SMPTE time code: the hour, minute, second and frame that a recorder counted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

__all__ = ["TIMECODE", "advanced", "with_timecode_advanced"]

TIMECODE = "timecode"
"""Key of the time code in metadata, in any case."""


def with_timecode_advanced(metadata: Mapping[str, str], frames: int, rate: Fraction) -> dict[str, str]:
    """Metadata whose time code, if it has one, is that of a later frame."""
    return {key: advanced(v, frames, rate) if key.lower() == TIMECODE else v for key, v in metadata.items()}


def advanced(timecode: str, frames: int, rate: Fraction) -> str:
    """The time code so many frames later, as ``01:12:20:06`` or, with dropped numbers, ``01:12:20;06``.

    Drop-frame time code leaves out the first two numbers of each minute but every tenth at 29.97 frames per second,
    four at 59.94. What is no time code is given back as it is.
    """
    match = re.fullmatch(r"(\d\d):(\d\d):(\d\d)([:;.])(\d\d\d?)", timecode.strip())
    per_second = round(rate)
    if match is None or not frames or per_second < 1:
        return timecode
    hours, minutes, seconds, frame = (int(match[group]) for group in (1, 2, 3, 5))
    dropped = per_second // 15 if match[4] != ":" and per_second % 30 == 0 else 0
    total_minutes = hours * 60 + minutes
    count = (total_minutes * 60 + seconds) * per_second + frame - dropped * (total_minutes - total_minutes // 10)
    per_minute, per_ten = 60 * per_second - dropped, 600 * per_second - 9 * dropped
    count = (count + frames) % (per_ten * 6 * 24)
    tens, rest = divmod(count, per_ten)
    if rest >= 60 * per_second:  # beyond the first minute of ten, which drops nothing
        count += dropped * (1 + (rest - 60 * per_second) // per_minute)
    count += dropped * 9 * tens
    whole_seconds, frame = divmod(count, per_second)
    hours, minutes, seconds = whole_seconds // 3600, whole_seconds // 60 % 60, whole_seconds % 60
    return f"{hours:02}:{minutes:02}:{seconds:02}{match[4]}{frame:0{len(match[5])}}"
