"""Decoding: frames of the video, packets of the other tracks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import av
import av.error
import av.logging
import av.stream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ksnet_deploy.config import FrameSize
from ksnet_deploy.errors import InputError
from ksnet_deploy.video.colour import Chroma, Colour
from ksnet_deploy.video.conversion import rgb_of
from ksnet_deploy.video.seeking import place_before
from ksnet_deploy.video.sources import PIPE, open_source, reason_of

__all__ = ["CopiedPacket", "Frame", "VideoReader"]

CopiedPacket: TypeAlias = "Packet[Any]"
"""A compressed packet of a track that is not decoded."""

COPIED_TRACKS = ("audio", "subtitle", "attachment")

# What FFmpeg has to say reaches the user in our own words. PyAV's way of handing it to Python must not be used: a
# codec's own thread waits for Python's lock then, which whoever closes the codec holds while it waits for the thread.
av.logging.restore_default_callback()
av.logging.set_libav_level(av.logging.PANIC)


@dataclass(frozen=True)
class Frame:
    """A decoded frame."""

    rgb: NDArray[Any]
    """(H, W, 3); uint8, or uint16 in 0..65535 where the video has more than 8 bits."""
    pts: int
    """Presentation time in units of the stream's time base."""
    duration: int = 0
    """In the same units; 0 when the file does not say."""


class VideoReader:
    """Decodes the first real video stream of a file and hands through the packets of the other tracks.

    Damaged packets are skipped and counted, so that what can be decoded is.
    """

    def __init__(
        self,
        path: Path,
        start_s: Fraction | None = None,
        end_s: Fraction | None = None,
        *,
        rate: Fraction = Fraction(25),
    ) -> None:
        """Open a file.

        Args:
            path: a video, a folder of pictures (the frames, by name), or ``-`` for YUV4MPEG on standard input.
            start_s: seconds from the beginning of the file to the first frame wanted. That moment is time zero then;
                without it, all times are as they are in the file.
            end_s: seconds from the beginning of the file; frames from there on are left out.
            rate: of the frames of a folder, per second.

        Raises:
            InputError: there is no video to read in it, or nothing between start and end.
        """
        self.path = path
        if start_s is not None and end_s is not None and end_s <= start_s:
            raise InputError(f"the part of {path} to read ends before it starts; give an --end after --start")
        if not self.is_pipe and not path.exists():
            raise InputError(f"{path} does not exist; give the path of a video file")
        try:
            self.container: InputContainer = open_source(path, rate)
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
                f"{path} has no video track that can be read ({', '.join(kinds) or 'no track at all'} found); give a "
                "file with video"
            )
        self.stream = videos[0]
        self.stream.thread_type = "AUTO"
        self.size = FrameSize(self.stream.codec_context.height, self.stream.codec_context.width)
        self.colour = Colour.of(self.stream)
        self.time_base: Fraction = self.stream.time_base or Fraction(1, 90_000)
        self.rate: Fraction = self.stream.guessed_rate or self.stream.average_rate or Fraction(25)
        self.tracks: list[Stream] = [s for s in self.container.streams if s.type in COPIED_TRACKS]
        others = [s for s in self.container.streams if s not in self.tracks and s is not self.stream]
        # FFmpeg discards the text track in which MP4 keeps chapters, because it has read them.
        self.left_out = [f"{s.type} track {s.index}" for s in others if s.discard != av.stream.Discard.all]
        self._part = start_s, end_s, rate
        self._origin_s = Fraction(self.container.start_time or 0, av.time_base)
        self._start_s = None if start_s is None else self._origin_s + start_s
        self._stop_s = None if end_s is None else self._origin_s + end_s
        # In whole ticks of the video, so that all tracks move by the same.
        self._shift_s = (self._start_s or 0) // self.time_base * self.time_base
        if self._start_s is not None and not self.is_pipe:
            with open_source(path, rate) as trial:
                place = place_before(trial, self.stream.index, self._start_s)
            if place is not None:
                self.container.seek(place, backward=True)
        self.rotation = 0
        """Counter-clockwise rotation in degrees that a player applies; known once a frame was read."""
        self.damaged_packets = 0
        self.decoded = 0
        self.repaired_timestamps = 0
        self.interlaced_frames = 0
        self._last_pts: int | None = None
        # AVI stores no presentation times, but one decoding time per frame, in steps of the frame rate: the n-th frame
        # shown takes the n-th of them.
        self._clock: deque[int] | None = deque() if self.container.format.name == "avi" else None
        self._end_s = Fraction(0)  # of the last packet of any track

    @property
    def is_pipe(self) -> bool:
        """Whether the frames come through standard input."""
        return str(self.path) == PIPE

    @property
    def is_folder(self) -> bool:
        """Whether the frames are pictures in a folder."""
        return not self.is_pipe and self.path.is_dir()

    @property
    def expected_frames(self) -> int | None:
        """Frames that the file says it has; None when it does not say.

        Only MP4 and MOV list their frames. What an edit list hides, as in a clip trimmed without re-encoding, is not
        counted: the index holds it marked as discarded, or not at all.
        """
        if "mp4" not in self.container.format.name or self.is_part:
            return None
        return sum(not entry.is_discard for entry in self.stream.index_entries) or None

    @property
    def estimated_frames(self) -> int | None:
        """:attr:`expected_frames`, or a guess from the duration, for progress only."""
        if self.expected_frames:
            return self.expected_frames
        duration_s = None
        if self.stream.duration and self.stream.time_base:
            duration_s = self.stream.duration * self.stream.time_base
        elif self.container.duration:
            duration_s = Fraction(self.container.duration, av.time_base)
        if self._stop_s is not None:
            wanted_s = self._stop_s - self._origin_s
            duration_s = wanted_s if duration_s is None else min(duration_s, wanted_s)
        if duration_s is None:
            return None
        if self._start_s is not None:
            duration_s = max(duration_s - (self._start_s - self._origin_s), Fraction(0))
        return round(duration_s * self.rate)

    @property
    def is_part(self) -> bool:
        """Whether a start or an end was given."""
        return self._start_s is not None or self._stop_s is not None

    @property
    def chapters(self) -> list[Any]:
        """Of the part that is read, with its times; as PyAV gives them."""
        if not self.is_part:
            return self.container.chapters()
        found = []
        for chapter in self.container.chapters():
            tick = chapter["time_base"] or Fraction(1, av.time_base)
            origin = round((self._start_s or Fraction(0)) / tick)
            stop = chapter["end"] if self._stop_s is None else min(chapter["end"], round(self._stop_s / tick))
            if stop > max(chapter["start"], origin):
                found.append({**chapter, "start": max(chapter["start"] - origin, 0), "end": stop - origin})
        return found

    @property
    def depth(self) -> int:
        """Bits per sample."""
        video_format = self.stream.codec_context.format
        return video_format.components[0].bits if video_format is not None else 8

    @property
    def chroma(self) -> Chroma:
        """Chroma subsampling: "420", "422" or "444"; what is between them counts as the next finer one."""
        video_format = self.stream.codec_context.format
        if video_format is None or len(video_format.components) < 3:
            return "420"  # grey
        if video_format.is_rgb:
            return "444"
        # Of a large size, so that the ratio is exact.
        width, height = video_format.chroma_width(1024), video_format.chroma_height(1024)
        return "444" if width == 1024 else "422" if height == 1024 else "420"

    @property
    def has_alpha(self) -> bool:
        video_format = self.stream.codec_context.format
        return video_format is not None and len(video_format.components) in (2, 4)

    @property
    def frames_lost(self) -> int:
        """Frames that the file announces but did not give, once the stream is read to its end.

        MP4 and MOV announce a number. Elsewhere it is one per packet that could not be decoded, and, where all tracks
        end before the duration in the header, as many as fit into the difference.
        """
        if self.expected_frames is not None:
            return max(self.expected_frames - self.decoded, 0)
        missing = 0
        if self.container.duration is not None and not self.is_part:
            missing = int((Fraction(self.container.duration, av.time_base) - self._end_s) * self.rate)
        return self.damaged_packets + (missing if missing > max(2.0, float(self.rate) / 5) else 0)

    def frames(self, *, eight_bits: bool = False) -> Iterator[Frame]:
        """The frames of the video, in presentation order; ``eight_bits`` rounds those that have more.

        Raises:
            InputError: none is in the part that is read, or they cannot be one video.
        """
        self._eight_bits = eight_bits or self.depth <= 8
        empty = True
        for frame in self._all_frames():
            time_s = frame.pts * self.time_base
            if self._stop_s is not None and time_s >= self._stop_s:
                break
            if self._start_s is None or time_s >= self._start_s:
                empty = False
                yield replace(frame, pts=self._in_part(frame.pts, self.time_base))
        if empty and self.is_part:
            start_s, end_s, _ = self._part
            until = "the end" if end_s is None else f"{float(end_s):g} s"
            raise InputError(
                f"no frame of {self.path} lies between {float(start_s or 0):g} s and {until}; choose another part of it"
            )

    def _all_frames(self) -> Iterator[Frame]:
        for packet in self._demux([self.stream, *self._copied]):
            if packet.pts is not None:
                self._end_s = max(self._end_s, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet.stream is not self.stream:
                continue
            if self._clock is not None and packet.dts is not None and packet.size:
                self._clock.append(packet.dts)
            yield from self._decode(packet)

    def _in_part(self, pts: int, time_base: Fraction) -> int:
        """A time of the file by the clock of the part that is read."""
        return pts - round(self._shift_s / time_base)

    @property
    def _copied(self) -> list[Stream]:
        """The other tracks that have packets."""
        return [track for track in self.tracks if track.type != "attachment"]

    def copied_packets(self) -> Iterator[CopiedPacket]:
        """The packets of the other tracks, as they are, in file order. Of a part: those that start in it."""
        read = self._copied
        for packet in self._demux(read) if read else ():
            if packet.dts is None or packet.stream not in read:
                continue
            if packet.pts is not None:
                time_s = packet.pts * packet.time_base
                before = self._start_s is not None and time_s < self._start_s
                if before or (self._stop_s is not None and time_s >= self._stop_s):
                    continue
                packet.pts = self._in_part(packet.pts, packet.time_base)
                packet.dts = self._in_part(packet.dts, packet.time_base)
            yield packet

    def _demux(self, read: list[Stream]) -> Iterator[CopiedPacket]:
        """Packets until the end of the file or of what is readable of it, then one that flushes the decoder."""
        packets = self.container.demux(*read)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.EOFError):
                return
            except (av.error.FFmpegError, OSError):
                # The container is broken from here on: what the decoder still holds is all there is.
                self.damaged_packets += 1
                flush: CopiedPacket = Packet()
                flush.stream = self.stream
                yield flush
                return
            yield packet

    def _decode(self, packet: CopiedPacket) -> Iterator[Frame]:
        try:
            frames = packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            self.damaged_packets += 1
            if self._clock:
                self._clock.pop()  # the frame's, which is not shown
            return
        for frame in frames:
            if isinstance(frame, VideoFrame):
                self.decoded += 1
                self.rotation = frame.rotation
                self.interlaced_frames += frame.interlaced_frame
                yield Frame(self._rgb(frame), self._timestamp(frame), self._duration(frame))

    def _rgb(self, frame: VideoFrame) -> NDArray[Any]:
        if (frame.height, frame.width) != (self.size.height, self.size.width):
            raise InputError(
                f"{self.path} changes its frame size from {self.size} to {frame.height}x{frame.width} at frame "
                f"{self.decoded}; cut it there and upscale the parts"
            )
        return rgb_of(frame, self.colour, eight_bits=self._eight_bits)

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

    def _duration(self, frame: VideoFrame) -> int:
        if not frame.duration or frame.time_base is None:
            return 0
        return round(frame.duration * frame.time_base / self.time_base)

    def reopened(self) -> VideoReader:
        """Another reader of the same part of the file, at its beginning."""
        start_s, end_s, rate = self._part
        return VideoReader(self.path, start_s, end_s, rate=rate)

    def close(self) -> None:
        self.container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
