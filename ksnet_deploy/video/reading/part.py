"""The part of a video that is wanted, and what of its tracks and chapters is in it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

import av
from av.packet import Packet

from ksnet_deploy.video.reading.tracks import is_text

__all__ = ["Part"]

FINE_S = Fraction(1, 1000)
"""Coarsest unit of time of packets; with coarser ones, as of sound in AVI, a part would not begin at a whole one."""


@dataclass(frozen=True)
class Part:
    """Part from a moment to another, in seconds by the file's own clock; None for its beginning and for its end."""

    start_s: Fraction | None
    stop_s: Fraction | None
    tick_s: Fraction
    """Seconds of a tick of the video. All tracks move by whole ticks, so that they move by the same."""

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the file."""
        return self.start_s is None and self.stop_s is None

    def moved(self, pts: int, time_base: Fraction) -> int:
        """A time of the file by the part's clock, which starts with it."""
        shift_s = (self.start_s or 0) // self.tick_s * self.tick_s
        return pts - round(shift_s / time_base)

    def starts_after(self, time_s: Fraction) -> bool:
        return self.start_s is not None and time_s < self.start_s

    def ends_before(self, time_s: Fraction) -> bool:
        """Whether a packet that begins at a time lies behind the part."""
        return self.stop_s is not None and time_s >= self.stop_s

    def take(self, packet: Packet[Any]) -> bool:
        """Move a packet of another track to the part's clock, if it is in the part.

        In it are packets that begin inside it, and text subtitles that are visible inside it, which are trimmed to it.
        """
        if packet.pts is None or packet.dts is None:
            return True
        if not self.is_whole and packet.time_base > FINE_S:
            _refine(packet)
        base, end = packet.time_base, packet.pts + (packet.duration or 0)
        text = is_text(packet.stream)
        shown_at_start = text and not self.starts_after((end - 1) * base)
        if self.ends_before(packet.pts * base) or (self.starts_after(packet.pts * base) and not shown_at_start):
            return False
        if text and self.stop_s is not None:
            end = min(end, ceil(self.stop_s / base))
        begin, end = self.moved(packet.pts, base), self.moved(end, base)
        if text and not self.is_whole:
            packet.pts = packet.dts = max(begin, 0)
            packet.duration = end - packet.pts
        else:
            packet.pts, packet.dts = begin, self.moved(packet.dts, base)
        return True

    def chapters(self, found: list[Any]) -> list[Any]:
        """Chapters of a file, as PyAV gives them, that are in the part, with its times."""
        if self.is_whole:
            return found
        taken = []
        for chapter in found:
            tick = chapter["time_base"] or Fraction(1, av.time_base)
            origin = round((self.start_s or Fraction(0)) / tick)
            stop = chapter["end"] if self.stop_s is None else min(chapter["end"], round(self.stop_s / tick))
            if stop > max(chapter["start"], origin):
                taken.append({**chapter, "start": max(chapter["start"] - origin, 0), "end": stop - origin})
        return taken


def _refine(packet: Packet[Any]) -> None:
    """Say a packet's times in units no coarser than FINE_S."""
    count = ceil(packet.time_base / FINE_S)
    times = packet.pts, packet.dts, packet.duration
    packet.time_base /= count
    packet.pts, packet.dts, packet.duration = (None if time is None else time * count for time in times)
