"""Subtitles in words, in another codec."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream

from ksnet_deploy.video.reading.sources import CopiedPacket

__all__ = ["SubtitleConverter", "formats_of_text"]

STYLED = ("ass", "ssa")
UNTIL_THE_NEXT = 2**32 - 1
"""FFmpeg's end of a subtitle that does not say when it ends."""


def formats_of_text(codec: str) -> tuple[str, ...]:
    """Encoders of subtitles, the one first that keeps most of what a codec says."""
    return tuple(dict.fromkeys(("ass" if codec in STYLED else "subrip", "subrip", "mov_text", "webvtt")))


class SubtitleConverter:
    """Turns the packets of a track of subtitles in words into those of another codec, at the same times.

    Closed captions (EIA-608) are built up over several packets, and known when they are to vanish.
    """

    def __init__(self, file: OutputContainer, track: Stream, codec: str) -> None:
        """A converter whose packets go into a new track of a file.

        Raises:
            av.error.FFmpegError, ValueError: the file cannot hold the codec, or the track's words cannot be decoded.
        """
        assert isinstance(track, SubtitleStream)
        self._source = track.codec_context
        if not self._source.is_open:
            self._source.open()
        stream = file.add_stream(codec)
        assert isinstance(stream, SubtitleStream)
        self.stream: Any = stream
        # All codecs of text go through ASS in FFmpeg, and begin with its description of styles.
        stream.codec_context.subtitle_header = self._source.subtitle_header
        self._tick = track.time_base or Fraction(1, 1000)
        self.stream.codec_context.time_base = self.stream.time_base = self._tick
        stream.disposition = track.disposition
        self._unit = self._tick
        self.damaged_packets = 0

    def convert(self, packet: CopiedPacket) -> Iterator[CopiedPacket]:
        """The packet in the other codec; none where it has no words."""
        if packet.pts is not None:
            self._unit = packet.time_base
            yield from self._convert(packet)

    def _convert(self, packet: CopiedPacket) -> Iterator[CopiedPacket]:
        try:
            said = self._source.decode2(packet)
            if said is None or not len(said):
                return
            begin, duration = self._times(packet, said)
            converted: Any = self.stream.codec_context.encode_subtitle(said)
        except (av.error.FFmpegError, ValueError):
            self.damaged_packets += 1
            return
        if not converted.size:
            return
        converted.stream, converted.time_base = self.stream, self._unit
        converted.pts = converted.dts = begin
        converted.duration, converted.is_keyframe = duration, True
        yield converted

    def _times(self, packet: CopiedPacket, said: Any) -> tuple[int, int]:
        """Begin and duration of what a packet made known, in its units of time; 0 for an unknown duration."""
        # The decoder takes a packet's numbers for ticks of the track, whatever time base a part of it was given.
        begin, duration = round(Fraction(said.pts, av.time_base) / self._tick), 0
        if packet.pts is not None and abs(begin - packet.pts) * self._tick < Fraction(2, av.time_base):
            begin, duration = packet.pts, packet.duration or 0
        if not duration and said.end_display_time != UNTIL_THE_NEXT:
            duration = round(Fraction(said.end_display_time, 1000) / self._tick)
        return begin, duration

    def finish(self) -> Iterator[CopiedPacket]:
        """The caption that nothing made vanish."""
        return self._convert(Packet())
