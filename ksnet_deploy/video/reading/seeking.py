"""Places to begin reading at, so that nothing after a moment is missed."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction

import av
import av.error
from av.container import InputContainer

__all__ = ["place_before"]

MARGINS_S = (1, 8, 60)
"""Seconds before a moment that are tried; more than none, because sound may lie behind its picture in a file."""


def place_before(trial: InputContainer, stream: int, time_s: Fraction) -> int | None:
    """A place to seek to, in microseconds, after which a stream's first keyframe is shown no later than a moment.

    Where a file has no index, FFmpeg guesses, and may land after the moment.

    Args:
        trial: the file, opened for this alone.
        stream: index of the stream.
        time_s: the moment, by the file's own clock.

    Returns:
        None where it is best to read from the beginning.
    """
    begin = trial.start_time or 0
    with suppress(av.error.FFmpegError, OSError):
        for margin_s in MARGINS_S:
            place = int((time_s - margin_s) * av.time_base)
            if place <= begin:
                return None
            trial.seek(place, backward=True)
            packets = trial.demux(trial.streams[stream])
            first = next((packet for packet in packets if packet.is_keyframe and packet.pts is not None), None)
            if first is not None and first.pts is not None and first.pts * first.time_base <= time_s:
                return place
    return None
