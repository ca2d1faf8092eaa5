"""Subtitles in words, in another codec."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import av.error
from av.container import OutputContainer
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
    """Turns the packets of a track of subtitles in words into those of another codec, at the same times."""

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
        self.stream.codec_context.time_base = self.stream.time_base = track.time_base or Fraction(1, 1000)
        stream.disposition = track.disposition
        self.damaged_packets = 0

    def convert(self, packet: CopiedPacket) -> Iterator[CopiedPacket]:
        """The packet in the other codec; none where it has no words."""
        try:
            said = self._source.decode2(packet)
            if said is None or not len(said) or packet.pts is None:
                return
            duration = packet.duration
            if not duration and said.end_display_time != UNTIL_THE_NEXT:
                duration = round(said.end_display_time / 1000 / packet.time_base)
            converted: Any = self.stream.codec_context.encode_subtitle(said)
        except (av.error.FFmpegError, ValueError):
            self.damaged_packets += 1
            return
        if not converted.size:
            return
        converted.stream, converted.time_base = self.stream, packet.time_base
        converted.pts = converted.dts = packet.pts
        converted.duration, converted.is_keyframe = duration or 0, True
        yield converted

    def finish(self) -> Iterator[CopiedPacket]:
        """Nothing is kept back."""
        return iter(())
