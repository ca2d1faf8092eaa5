"""Number of frames that a file announces, and of those that it lacks."""

from __future__ import annotations

import re
from fractions import Fraction
from math import ceil

import av
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.reading.sources import CopiedPacket, picture_files

__all__ = ["FrameCount"]

READ = ("audio", "subtitle")
"""Tracks whose packets are wanted beside those of the video."""


class FrameCount:
    """Frames of a file's video track, or of a part of it, by what the container says."""

    def __init__(self, container: InputContainer, stream: VideoStream, rate: Fraction, source: Source) -> None:
        self._container, self._stream, self._rate = container, stream, rate
        self._source = source
        # Counted once, for others may be writing into it.
        self._pictures = len(picture_files(source.path)) if source.kind == "folder" else 0
        self._read_s = Fraction(0)  # end of the last packet of any track

    @property
    def expected(self) -> int | None:
        """Frames that the file says it has, or files of a folder; None when it does not say.

        Only MP4 and MOV list their frames. What an edit list hides, as in a clip trimmed without re-encoding, is not
        counted: the index holds it marked as discarded, or not at all.
        """
        if self._source.kind == "folder" and not self._source.is_part:
            return self._pictures
        if "mp4" not in self._container.format.name or self._source.is_part:
            return None
        return sum(not entry.is_discard for entry in self._stream.index_entries) or None

    @property
    def estimated(self) -> int | None:
        """:attr:`expected`, or a guess from the duration, for progress only."""
        if self.expected:
            return self.expected
        stream, duration_s = self._stream, None
        if stream.duration and stream.time_base:
            duration_s = stream.duration * stream.time_base
        elif (last_s := _matroska_duration(stream)) is not None:
            duration_s = last_s - (stream.start_time or 0) * (stream.time_base or Fraction(1, 90_000))
        elif self._container.duration:
            duration_s = Fraction(self._container.duration, av.time_base)
        if self._source.end_s is not None:
            duration_s = self._source.end_s if duration_s is None else min(duration_s, self._source.end_s)
        if duration_s is None:
            return None
        frames = max(duration_s - (self._source.start_s or 0), Fraction(0)) * self._rate
        return round(frames) if self._source.end_s is None else ceil(frames)  # the last frame begins before the end

    def packet_read(self, packet: CopiedPacket) -> None:
        """Note how far the file has been read."""
        if packet.pts is not None:
            self._read_s = max(self._read_s, (packet.pts + (packet.duration or 0)) * packet.time_base)

    def lost(self, decoded: int, damaged_packets: int) -> int:
        """Frames that the file announces but did not give, once the stream is read to its end.

        MP4 and MOV announce a number. Elsewhere it is one per packet that could not be decoded, and, where all tracks
        end before the duration in the header, as many as fit into the difference.
        """
        if self.expected is not None:
            return max(self.expected - decoded, 0)
        missing, announced_s = 0, self._announced_s
        if announced_s is not None and not self._source.is_part:
            missing = int((announced_s - self._read_s) * self._rate)
        return damaged_packets + (missing if missing > max(2.0, float(self._rate) / 5) else 0)

    @property
    def _announced_s(self) -> Fraction | None:
        """End in seconds of the tracks that are read, as the file says it, or else of the file."""
        if (last_s := _matroska_duration(self._stream)) is not None:
            others = (_matroska_duration(track) for track in self._container.streams if track.type in READ)
            return max([last_s, *(end_s for end_s in others if end_s is not None)])
        found = None if self._container.duration is None else Fraction(self._container.duration, av.time_base)
        if self._container.format.name == "avi" and self._stream.frames and self._stream.time_base:
            # FFmpeg shortens the duration of a file that was cut off, and leaves the number in the header as it is.
            return max(found or Fraction(0), self._stream.frames * self._stream.time_base)
        return found


def _matroska_duration(track: Stream) -> Fraction | None:
    """End of a track in seconds, as Matroska says it in a tag; its container's duration is that of all tracks."""
    match = re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", track.metadata.get("DURATION", ""))
    if match is None:
        return None
    hours, minutes, seconds = map(Fraction, match.groups())
    return hours * 3600 + minutes * 60 + seconds
