"""Decoding: frames of the video, packets of the other tracks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import av.stream
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ksnet_deploy.base.closing import Closing
from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.video.colour import Chroma, Colour, chroma_of, has_hidden_alpha, is_grey, is_rgb
from ksnet_deploy.video.conversion import grey_levels, rgb_and_transparency
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.orientation import DisplayMatrix
from ksnet_deploy.video.reading.clock import FrameClock
from ksnet_deploy.video.reading.counting import FrameCount
from ksnet_deploy.video.reading.heif import Transparency, stills_beside, transparency_of
from ksnet_deploy.video.reading.part import Part
from ksnet_deploy.video.reading.sample import SamplePacket, first_packet, first_packets
from ksnet_deploy.video.reading.seeking import place_before
from ksnet_deploy.video.reading.sources import ICON, INTRA_ONLY, CopiedPacket, open_source, open_video
from ksnet_deploy.video.reading.stills import pictures_left_out
from ksnet_deploy.video.reading.tracks import COPIED, is_cover, is_text, is_timecode, is_unread
from ksnet_deploy.video.side_data import HdrMetadata, captions_in, display_matrix, named_side_data, shape_of_pixels
from ksnet_deploy.video.timecode import with_timecode_advanced

__all__ = ["Frame", "VideoReader"]


@dataclass(frozen=True)
class Frame:
    """A decoded frame."""

    rgb: NDArray[Any]
    """(H, W, 3); uint8, or uint16 in 0..65535 where the video has more than 8 bits."""
    pts: int
    """Presentation time in units of the stream's time base."""
    duration: int = 0
    """Duration in the same units; 0 when the file does not say."""


class VideoReader(Closing):
    """Decodes the first real video stream of a file and hands through the packets of the other tracks.

    Damaged packets are skipped and counted, so that what can be decoded is.
    """

    def __init__(self, source: Source | Path) -> None:
        """Open a source; a path alone is the whole of what it names.

        Raises:
            InputError: there is no video to read in it, or nothing between start and end.
        """
        self.source = source if isinstance(source, Source) else Source(source)
        self.path = path = self.source.path
        start_s, end_s = self.source.start_s, self.source.end_s
        if self.source.kind != "pipe" and not path.exists():
            raise InputError(f"{path} does not exist; give the path of a video file")
        self.container, self.stream = open_video(self.source)
        # With a thread for each frame, a damaged one near the end would take the whole ones after it along.
        intra = self.source.kind == "folder" or self.stream.codec_context.codec.properties & INTRA_ONLY
        self.stream.thread_type = "SLICE" if intra else "AUTO"
        self.size = FrameSize(self.stream.codec_context.height, self.stream.codec_context.width)
        self._codec = self.stream.codec_context.codec.canonical_name
        self.colour = Colour.of(self.stream.codec_context, self._codec)
        """Tags of the first frame, once it was read. A later one may have others, by which it is read."""
        self.time_base: Fraction = self.stream.time_base or Fraction(1, 90_000)
        self.rate: Fraction = self.stream.guessed_rate or self.stream.average_rate or Fraction(25)
        self.tracks: list[Stream] = [s for s in self.container.streams if s.type in COPIED or is_cover(s)]
        """Tracks that can be in the output beside the video."""
        others = [s for s in self.container.streams if s not in self.tracks and s is not self.stream]
        # FFmpeg discards the text track in which MP4 keeps chapters, because it has read them.
        self.left_out = pictures_left_out(self.source, self.container)
        beside = transparency_of(self.container, self.stream)
        self._transparency = None if beside is None else Transparency(path, beside)
        shown = [beside, *stills_beside(self.container, self.stream)]
        others = [s for s in others if s not in shown]
        if self.container.format.name != ICON:
            self.left_out += [f"{s.type} track {s.index}" for s in others if not (is_timecode(s) or is_unread(s))]
        """Names of what is not in the output; see :meth:`keeps`."""
        origin_s = Fraction(self.container.start_time or 0, av.time_base)
        self._part = Part(
            None if start_s is None else origin_s + start_s,
            None if end_s is None else origin_s + end_s,
            self.time_base,
        )
        self.rotation = 0
        """Counter-clockwise rotation in degrees that a player applies; known once a frame was read."""
        self.display: DisplayMatrix | None = None
        """Turns and mirrors that a player applies; None for none. Known once a frame was read."""
        self.is_transparent = has_hidden_alpha(self.stream)
        """Whether some of what was read is transparent."""
        self._frames_skipped = 0
        self.damaged_packets = self.decoded = self.interlaced_frames = 0
        self.hdr = HdrMetadata()
        """HDR metadata of the first frame; known once that was read."""
        avi = self.container.format.name == "avi"
        self._clock = FrameClock(path, self.time_base, self.rate, decoding_times=avi)
        self._count = FrameCount(self.container, self.stream, self.rate, self.source)
        self._sample: dict[int, list[SamplePacket]] | None = None

    @property
    def repaired_timestamps(self) -> int:
        """Frames that were given a time, because theirs was missing or no later than the one before."""
        return self._clock.repaired

    @property
    def pixel_aspect(self) -> Fraction:
        """Width of a pixel by its height; 0 when the file does not say. Known once a frame was read."""
        return self.stream.sample_aspect_ratio or Fraction(0, 1)

    def keeps(self, *facts: str) -> None:
        """Take back that these are left out, because an output holds them."""
        self.left_out = [fact for fact in self.left_out if fact not in facts]

    @property
    def expected_frames(self) -> int | None:
        """Frames that the file says it has; None when it does not say; see :class:`FrameCount`."""
        return self._count.expected

    @property
    def estimated_frames(self) -> int | None:
        """:attr:`expected_frames`, or a guess from the duration, for progress only."""
        return self._count.estimated

    @property
    def chapters(self) -> list[Any]:
        """Chapters of the part that is read, with its times; as PyAV gives them."""
        return self._part.chapters(self.container.chapters())

    @property
    def depth(self) -> int:
        """Bits per sample."""
        video_format = self.stream.codec_context.format
        return video_format.components[0].bits if video_format is not None else 8

    @property
    def chroma(self) -> Chroma:
        """Chroma subsampling: "420", "422" or "444"; what is between them counts as the next finer one."""
        return chroma_of(self.stream.codec_context.format)

    @property
    def is_grey(self) -> bool:
        """Whether the source is coded without colours."""
        return self.colour.monochrome or is_grey(self.stream.codec_context.format)

    @property
    def is_rgb(self) -> bool:
        """Whether the source is coded as R'G'B'."""
        return is_rgb(self.stream.codec_context.format)

    @property
    def frames_lost(self) -> int:
        """Frames that the file announces but did not give, once the stream is read to its end."""
        return self._count.lost(self.decoded, self.damaged_packets)

    def frames(self, *, eight_bits: bool = False) -> Iterator[Frame]:
        """The frames of the video, in presentation order; ``eight_bits`` rounds those that have more.

        Raises:
            InputError: none is in the part that is read, or they cannot be one video.
        """
        self._eight_bits = eight_bits or self.depth <= 8
        empty = True
        self._seek()
        for frame in self._all_frames():
            time_s = frame.pts * self.time_base
            if self._part.ends_before(time_s):
                break
            if not self._part.starts_after(time_s):
                if empty and self._part.start_s is not None:
                    before = (frame.pts - (self.stream.start_time or 0)) * self.time_base
                    self._frames_skipped = max(round(before * self.rate), 0)
                empty = False
                yield replace(frame, pts=self._part.moved(frame.pts, self.time_base))
        if empty and self.source.is_part:
            start_s, end_s = self.source.start_s, self.source.end_s
            until = "the end" if end_s is None else f"{float(end_s):g} s"
            raise InputError(
                f"no frame of {self.path} lies between {float(start_s or 0):g} s and {until}; choose another part of it"
            )

    def seconds_of(self, frame: Frame) -> Fraction:
        """Seconds from the beginning of the file to one of :meth:`frames`, as a source's ``start_s`` counts them."""
        origin_s = Fraction(self.container.start_time or 0, av.time_base)
        return (frame.pts - self._part.moved(0, self.time_base)) * self.time_base - origin_s

    def _seek(self) -> None:
        """Seek to before the part, if it does not begin with the file."""
        if self._part.start_s is not None and self.source.kind != "pipe":
            with open_source(self.path, self.source.rate) as trial:
                place = place_before(trial, self.stream.index, self._part.start_s)
            if place is not None:
                self.container.seek(place, backward=True)

    def _all_frames(self) -> Iterator[Frame]:
        # Of all tracks, for where only one that is not wanted goes on, the file is read so far and not cut off.
        for packet in self._demux([s for s in self.container.streams if s.type != "attachment" and not is_unread(s)]):
            self._count.packet_read(packet)
            if packet.stream is not self.stream:
                continue
            if packet.dts is not None and packet.size:
                self._clock.packet_read(packet.dts)
            yield from self._decode(packet)

    @property
    def _copied(self) -> list[Stream]:
        """The other tracks that have packets with a time."""
        return [track for track in self.tracks if track.type != "attachment" and not is_cover(track)]

    def copied_packets(self) -> Iterator[CopiedPacket]:
        """The packets of the other tracks, as they are, in file order; of a part those that :class:`Part` takes."""
        read = self._copied
        if not any(map(is_text, read)):  # a subtitle that is shown at the start may begin anywhere before it
            self._seek()
        for packet in self._demux(read) if read else ():
            if packet.dts is not None and packet.stream in read and self._part.take(packet):
                yield packet

    @property
    def sample(self) -> dict[int, list[SamplePacket]]:
        """The first packets of the other tracks, by the tracks' indices; all of a cover, which is one."""
        if self._sample is None:
            with self.reopened() as again:
                self._sample = first_packets(again.copied_packets(), again._copied)
            for cover in filter(is_cover, self.tracks):
                with self.reopened() as again:
                    self._sample[cover.index] = first_packet(again.container, cover.index)
        return self._sample

    def metadata_of(self, holder: Stream | InputContainer) -> dict[str, str]:
        """Metadata of a track or of the file, with the time code of the first frame that is read, once that was."""
        return with_timecode_advanced(holder.metadata, self._frames_skipped, self.rate)

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
            self._clock.packet_lost()
            return
        captions = captions_in(bytes(packet))
        for frame in frames:
            if isinstance(frame, VideoFrame):
                self.decoded += 1
                self.interlaced_frames += frame.interlaced_frame
                if self.decoded == 1:
                    self._notice(frame)
                elif self.source.kind == "folder" and display_matrix(frame) != self.display:
                    raise InputError(
                        f"{self.path} changes how its pictures are to be turned at frame {self.decoded}; turn them "
                        "upright first, or upscale them one by one"
                    )
                self.left_out += [name for name in captions if name not in self.left_out]
                pts, duration = self._clock.time_of(frame, self.decoded), self._clock.duration_of(frame)
                yield Frame(self._rgb(frame), pts, duration)

    def _notice(self, frame: VideoFrame) -> None:
        """Note what the first frame carries beside its picture: left out until an output says that it keeps it."""
        self.hdr, self.display, self.rotation = HdrMetadata.of(frame), display_matrix(frame), frame.rotation
        self.left_out += named_side_data(frame)
        if self.pixel_aspect not in (0, 1):
            self.left_out.append(shape_of_pixels(self.pixel_aspect))

    def _rgb(self, frame: VideoFrame) -> NDArray[Any]:
        if (frame.height, frame.width) != (self.size.height, self.size.width):
            raise InputError(
                f"{self.path} changes its frame size from {self.size} to {frame.height}x{frame.width} at frame "
                f"{self.decoded}; cut it there and upscale the parts"
            )
        colour = self.colour.of_next(frame, self._codec)
        colour.check(self.path)
        if self.decoded == 1:
            self.colour = colour
        rgb, is_transparent = rgb_and_transparency(
            frame, colour, eight_bits=self._eight_bits, alpha=self._alpha_beside(frame)
        )
        self.is_transparent |= is_transparent
        return rgb

    def _alpha_beside(self, frame: VideoFrame) -> NDArray[np.float32] | None:
        """Transparency of a frame by a track of its own, where there is one."""
        if self._transparency is None or (found := self._transparency.at(frame)) is None:
            return None
        return grey_levels(found, Colour.of(found, self._transparency.codec))

    def reopened(self) -> VideoReader:
        """Another reader of the same part of the file, at its beginning; it knows what this one has seen."""
        again = VideoReader(self.source)
        again.display, again.rotation, again._frames_skipped = self.display, self.rotation, self._frames_skipped
        again._sample = self._sample
        return again

    def close(self) -> None:
        if self._transparency is not None:
            self._transparency.close()
        self.container.close()
