"""Values as users write them: heights, tiles, rates and times, as text or as what they are."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Literal, TypeAlias

from ksnet_deploy.base.errors import ConfigError, InputError
from ksnet_deploy.base.frames import FrameSize

__all__ = ["TileChoice", "parse_height", "parse_rate", "parse_scale", "parse_tiles", "parse_time"]

TileChoice: TypeAlias = FrameSize | Literal["auto", "off"]
"""The largest tiles to upscale a frame in; whole frames; or what the memory allows."""

_WHOLE = r"[0-9]{1,9}"
_DECIMAL = rf"(?:{_WHOLE}(?:\.[0-9]{{0,9}})?|\.{_WHOLE})"
"""Figures only, and few: ``Fraction`` takes 1e999999999 too, and builds that number."""


def parse_height(text: str | int) -> int:
    """Lines of a target such as ``1080p``, ``4k`` or ``1080``. Raises InputError for anything else."""
    text = str(text)
    digits = {"4k": "2160", "8k": "4320"}.get(text.lower(), text.lower().removesuffix("p"))
    if not re.fullmatch(_WHOLE, digits):
        raise InputError(f"'{text}' is not a target height; give for example 1080p or 4k")
    return int(digits)


def parse_scale(text: str | int) -> int:
    """Scale: ``2``, ``3``, ``4``, or ``x2`` and ``2x``. Raises InputError for anything else."""
    digit = str(text).lower().removeprefix("x").removesuffix("x")
    if digit not in ("2", "3", "4"):
        raise InputError(f"'{text}' is no scale that there is; give 2, 3 or 4, or a height with --target")
    return int(digit)


def parse_tiles(text: TileChoice | str) -> TileChoice:
    """``auto``, ``off``, or the largest tile. Raises ConfigError for anything else."""
    if isinstance(text, FrameSize):
        return text
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


def parse_rate(text: str | Fraction | float) -> Fraction:
    """Frames per second, such as ``24``, ``29.97`` or ``30000/1001``. Raises InputError for anything else."""
    text = str(text)
    if re.fullmatch(rf"{_DECIMAL}|{_WHOLE}/0*[1-9][0-9]{{0,8}}", text) and 0 < (rate := Fraction(text)) <= 1000:
        return rate
    raise InputError(f"'{text}' is not a frame rate; give for example 25 or 24000/1001")


def parse_time(text: str | Fraction | float) -> Fraction:
    """Seconds of a time such as ``90``, ``12.5``, ``1:30`` or ``0:01:30.25``.

    Raises:
        InputError: it is no time.
    """
    if isinstance(text, (Fraction, int, float)) and 0 <= text < math.inf:
        return Fraction(text)
    text = str(text)
    parts = text.split(":")
    numbers = len(parts) <= 3 and re.fullmatch(rf"(?:{_WHOLE}:)*{_DECIMAL}", text)
    if not numbers or any(Fraction(part) >= 60 for part in parts[1:]):
        raise InputError(f"'{text}' is not a time; give seconds or [HOURS:]MINUTES:SECONDS, as 12.5 or 1:30")
    return sum((Fraction(part) * 60**power for power, part in enumerate(reversed(parts))), Fraction(0))
