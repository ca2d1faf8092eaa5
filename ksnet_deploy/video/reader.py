"""Decoding: frames of the video, packets of the other tracks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import av
import av.error
import av.logging
import av.stream
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ksnet_deploy.config import FrameSize
from ksnet_deploy.errors import InputError
from ksnet_deploy.video.colour import SWSCALE, Colour

__all__ = ["CopiedPacket", "Frame", "VideoReader", "reason_of"]

CopiedPacket: TypeAlias = "Packet[Any]"
"""A compressed packet of a track that is not decoded."""

COPIED_TRACKS = ("audio", "subtitle", "attachment")

# What FFmpeg has to say reaches the user in our own words.
av.logging.set_level(av.logging.FATAL)


@dataclass(frozen=True)
class Frame:
    """A decoded frame."""

    rgb: NDArray[np.uint8]
    """(H, W, 3)."""
    pts: int
    """Presentation time in units of the stream's time base."""


class VideoReader:
    """Decodes the first real video stream of a file and hands through the packets of the other tracks.

    Damaged packets are skipped and counted, so that what can be decoded is.
    """

    def __init__(self, path: Path) -> None:
        """Open a file. Raises InputError when there is no video to read in it."""
        self.path = path
        if not path.exists():
            raise InputError(f"{path} does not exist; give the path of a video file")
        if path.is_dir():
            raise InputError(f"{path} is a folder; give the path of a video file")
        try:
            self.container: InputContainer = av.open(f"file:{path}", metadata_errors="ignore")
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(
                f"{path} cannot be read as a video ({reason_of(error)}); it is damaged or not a video file"
            ) from error
        cover = av.stream.Disposition.attached_pic
        videos = [s for s in self.container.streams.video if not s.disposition & cover]
        # A text file named .mp4 is sometimes taken for subtitles or raw data; a stream without a size is no video.
        videos = [s for s in videos if s.codec_context is not None and s.codec_context.width > 0]
        if not videos:
            kinds = sorted({s.type for s in self.container.streams})
            self.container.close()
            raise InputError(
                f"{path} has no video track ({', '.join(kinds) or 'no track at all'} found); give a file with video"
            )
        self.stream = videos[0]
        self.stream.thread_type = "AUTO"
        self.size = FrameSize(self.stream.codec_context.height, self.stream.codec_context.width)
        self.colour = Colour.of(self.stream)
        self.time_base: Fraction = self.stream.time_base or Fraction(1, 90_000)
        self.rate: Fraction = self.stream.guessed_rate or self.stream.average_rate or Fraction(25)
        self.tracks: list[Stream] = [s for s in self.container.streams if s.type in COPIED_TRACKS]
        self.left_out = [
            f"{s.type} track {s.index}" for s in self.container.streams if s not in self.tracks and s is not self.stream
        ]
        self.rotation = 0
        """Counter-clockwise rotation in degrees that a player applies; known once a frame was read."""
        self.damaged_packets = 0
        self.decoded = 0
        self.repaired_timestamps = 0
        self._last_pts: int | None = None
        # AVI stores no presentation times, but one decoding time per frame, in steps of the frame rate: the n-th frame
        # shown takes the n-th of them.
        self._clock: deque[int] | None = deque() if self.container.format.name == "avi" else None
        self._end_s = Fraction(0)  # of the last packet of any track

    @property
    def expected_frames(self) -> int | None:
        """Frames that the file says it has; None when it does not say.

        Only MP4 and MOV list their frames. What an edit list hides, as in a clip trimmed without re-encoding, is not
        counted: the index holds it marked as discarded, or not at all.
        """
        if "mp4" not in self.container.format.name:
            return None
        return sum(not entry.is_discard for entry in self.stream.index_entries) or None

    @property
    def estimated_frames(self) -> int | None:
        """:attr:`expected_frames`, or a guess from the duration, for progress only."""
        if self.expected_frames:
            return self.expected_frames
        if self.stream.duration and self.stream.time_base:
            return round(self.stream.duration * self.stream.time_base * self.rate)
        return round(self.container.duration / av.time_base * self.rate) if self.container.duration else None

    @property
    def depth(self) -> int:
        """Bits per sample."""
        video_format = self.stream.codec_context.format
        return video_format.components[0].bits if video_format is not None else 8

    @property
    def frames_lost(self) -> int:
        """Frames that the file announces but did not give, once the stream is read to its end.

        MP4 and MOV announce a number. Elsewhere it is one per packet that could not be decoded, and, where all tracks
        end before the duration in the header, as many as fit into the difference.
        """
        if self.expected_frames is not None:
            return max(self.expected_frames - self.decoded, 0)
        missing = 0
        if self.container.duration is not None:
            missing = int((Fraction(self.container.duration, av.time_base) - self._end_s) * self.rate)
        return self.damaged_packets + (missing if missing > max(2.0, float(self.rate) / 5) else 0)

    def __iter__(self) -> Iterator[Frame | CopiedPacket]:
        """Video frames decoded, and packets of the other tracks as they are, in file order."""
        read = [self.stream, *(track for track in self.tracks if track.type != "attachment")]
        packets = self.container.demux(*read)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, OSError):
                # The container is broken from here on: what the decoder still holds is all there is.
                self.damaged_packets += 1
                yield from self._decode(None)
                return
            if packet.pts is not None:
                self._end_s = max(self._end_s, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.stream is self.stream:
                if self._clock is not None and packet.dts is not None and packet.size:
                    self._clock.append(packet.dts)
                yield from self._decode(packet)
            elif packet.dts is not None:
                yield packet

    def _decode(self, packet: CopiedPacket | None) -> Iterator[Frame]:
        try:
            frames = self.stream.codec_context.decode(packet) if packet is None else packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            self.damaged_packets += 1
            return
        for frame in frames:
            if isinstance(frame, VideoFrame):
                self.decoded += 1
                self.rotation = frame.rotation
                yield Frame(self._rgb(frame), self._timestamp(frame))

    def _rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        if (frame.height, frame.width) != (self.size.height, self.size.width):
            raise InputError(
                f"{self.path} changes its frame size from {self.size} to {frame.height}x{frame.width} at frame "
                f"{self.decoded}; cut it there and upscale the parts"
            )
        frame.colorspace = self.colour.matrix
        frame.color_range = self.colour.range
        return np.asarray(frame.to_ndarray(format="rgb24", interpolation=SWSCALE), dtype=np.uint8)

    def _timestamp(self, frame: VideoFrame) -> int:
        """The frame's own, or, where it has none or one in the past, the earliest that keeps the order."""
        pts, last = frame.pts, self._last_pts
        if self._clock:
            pts = self._clock.popleft()
        if pts is not None and frame.time_base is not None and frame.time_base != self.time_base:
            pts = round(pts * frame.time_base / self.time_base)
        if pts is None:
            self.repaired_timestamps += 1
            pts = 0 if last is None else last + max(round(1 / (self.rate * self.time_base)), 1)
        elif last is not None and (last - pts) * self.time_base > 1:
            raise InputError(
                f"the timestamps of {self.path} jump back by {float((last - pts) * self.time_base):.1f} s at frame "
                f"{self.decoded}, as in recordings that were joined byte by byte; cut it there and upscale the parts"
            )
        elif last is not None and pts <= last:
            self.repaired_timestamps += 1
            pts = last + 1
        self._last_pts = pts
        return pts

    def close(self) -> None:
        self.container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def reason_of(error: Exception) -> str:
    """FFmpeg's words for an error, without its numbers."""
    return getattr(error, "strerror", None) or str(error)
