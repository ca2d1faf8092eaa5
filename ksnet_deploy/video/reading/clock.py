"""Times at which frames are shown, where the file says them, and where it does not."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from pathlib import Path

from av.video.frame import VideoFrame

from ksnet_deploy.base.errors import InputError

__all__ = ["FrameClock"]


class FrameClock:
    """Gives the frames of a video their presentation times, ascending, in units of its time base."""

    def __init__(self, path: Path, time_base: Fraction, rate: Fraction, *, decoding_times: bool) -> None:
        """``decoding_times``: the file has no others.

        So it is with AVI, which stores one per frame, in steps of the frame rate: the n-th frame shown takes the n-th
        of them.
        """
        self._path, self._time_base, self._rate = path, time_base, rate
        self._waiting: deque[int] | None = deque() if decoding_times else None
        self._last: int | None = None
        self.repaired = 0
        """Frames whose own time was missing or no later than the one before."""

    def packet_read(self, dts: int) -> None:
        """A packet of a frame, with its decoding time."""
        if self._waiting is not None:
            self._waiting.append(dts)

    def packet_lost(self) -> None:
        """The frame of the last packet will not be shown."""
        if self._waiting:
            self._waiting.pop()

    def time_of(self, frame: VideoFrame, number: int) -> int:
        """The frame's own time, or, where it has none or one in the past, the earliest that keeps the order.

        Args:
            number: of the frame, counted from one.

        Raises:
            InputError: its time is more than a second in the past.
        """
        pts, last = frame.pts, self._last
        if self._waiting:
            pts = self._waiting.popleft()
        if pts is not None and frame.time_base is not None and frame.time_base != self._time_base:
            pts = round(pts * frame.time_base / self._time_base)
        if pts is None:
            self.repaired += 1
            pts = 0 if last is None else last + max(round(1 / (self._rate * self._time_base)), 1)
        elif last is not None and (last - pts) * self._time_base > 1:
            raise InputError(
                f"the timestamps of {self._path} jump back by {float((last - pts) * self._time_base):.1f} s at frame "
                f"{number}, as in recordings that were joined byte by byte; cut it there and upscale the parts"
            )
        elif last is not None and pts <= last:
            self.repaired += 1
            pts = last + 1
        self._last = pts
        return pts

    def duration_of(self, frame: VideoFrame) -> int:
        """Duration for which a frame is shown; 0 when the file does not say."""
        if not frame.duration or frame.time_base is None:
            return 0
        return round(frame.duration * frame.time_base / self._time_base)
