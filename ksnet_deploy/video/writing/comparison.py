"""A new video of composed pictures that keeps the clock, the colours and the sound of another.

Pictures are uint8 RGB, (H, W, 3).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
import av.error
import numpy as np
from av.stream import Stream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ksnet_deploy.base.closing import Closing
from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.video.conversion import picture_of
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.reading.sources import CopiedPacket, reason_of
from ksnet_deploy.video.writing.tracks import TrackPlanner, add_copy

__all__ = ["CONTAINERS", "ComparisonWriter", "Picture"]

Picture: TypeAlias = NDArray[np.uint8]

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Containers that hold H.264, by the suffix of the file's name."""
CRF = "12"
"""Quality of libx264; low, so that the encoder adds little to the differences that are to be seen."""
LEAD_S = Fraction(1, 10)
"""Seconds by which the sound may begin before the pictures: audio encoders put a priming packet before their first."""


class ComparisonWriter(Closing):
    """Encodes pictures, upright, with the times and the sound of a video.

    Unlike :class:`~ksnet_deploy.video.writing.writer.VideoWriter` it copies the sound only, of the
    time that the frames cover.
    A context manager: on exit the file is closed, in whatever state it is; it is whole after :meth:`finish`.
    """

    def __init__(self, path: Path, suffix: str, source: VideoReader, size: FrameSize) -> None:
        """Create the file and its tracks.

        Args:
            path: to write; its name need not say the container.
            suffix: of the container, one of CONTAINERS.
            source: of the times, the colour tags and the sound; its first frame has been read.
            size: of the pictures.

        Raises:
            OutputError: the file cannot be created.
        """
        self.notes: list[str] = []
        """Notes for a user on the file, one sentence each."""
        self._source = source
        self._start_s: Fraction | None = None
        self._end_s = Fraction(0)
        name = CONTAINERS[suffix.lower()]
        with contextlib.ExitStack() as files:
            with _refused(f"{source.path} cannot be opened once more", "see that it stays where it is"):
                # So that sound is read as far as the frames have come and none has to be kept.
                self._sound = files.enter_context(av.open(f"file:{source.path}", metadata_errors="ignore"))
            with _refused(f"a {suffix} file cannot be begun in {path.parent}", "choose another folder"):
                self._container = files.enter_context(av.open(f"file:{path}", "w", format=name))
            with _refused(
                f"video of {size} (height x width) cannot be encoded", "choose another mode, or smaller videos"
            ):
                self._stream = self._add_video(size)
                self._stream.codec_context.open()
            with _refused(
                f"a {suffix} file cannot be begun in {path.parent}", "choose another folder, or another suffix"
            ):
                self._copies = self._add_sound(suffix)
                self._container.start_encoding()
            self._files = files.pop_all()
        self._packets = self._sound_packets()
        self._packet = next(self._packets, None)

    def _add_video(self, size: FrameSize) -> VideoStream:
        source, colour = self._source, self._source.colour
        stream = self._container.add_stream("libx264", rate=source.rate, options={"crf": CRF})
        assert isinstance(stream, VideoStream)
        self._padding = ((0, size.height % 2), (0, size.width % 2), (0, 0))
        stream.height, stream.width = size.height + size.height % 2, size.width + size.width % 2
        stream.pix_fmt = "yuv420p"
        if (stream.height, stream.width) != (size.height, size.width):
            self.notes.append(f"The output is {stream.height}x{stream.width}: its last row or column is there twice.")
        context = stream.codec_context
        context.time_base = stream.time_base = source.time_base
        aspect = source.stream.sample_aspect_ratio or Fraction(1)
        context.sample_aspect_ratio = 1 / aspect if source.rotation % 180 else aspect
        context.colorspace, context.color_range = colour.matrix, colour.range
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        return stream

    def _add_sound(self, suffix: str) -> dict[int, Stream]:
        """Output track by index of the sound track that it is a copy of."""
        copies: dict[int, Stream] = {}
        for plan in TrackPlanner(self._source, "copy").plan(suffix):
            if plan.kind == "audio" and plan.done == "copied":
                track = self._sound.streams[plan.index]
                copies[plan.index] = add_copy(self._container, track, track.metadata)
            elif plan.kind == "audio":
                why = f"{suffix} cannot hold" if plan.codec != "unknown" else "FFmpeg does not know"
                self.notes.append(f"Not copied: sound track {plan.index} ({plan.codec}), which {why}.")
        return copies

    def _sound_packets(self) -> Iterator[CopiedPacket]:
        """Packets of the tracks that are copied, to the end of what can be read."""
        tracks = [track for track in self._sound.streams.audio if track.index in self._copies]
        packets = self._sound.demux(*tracks) if tracks else iter(())
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.error.FFmpegError, OSError):
                return
            if packet.pts is not None and packet.dts is not None:
                yield packet

    def write(self, picture: Picture, time_s: Fraction) -> None:
        """Encode the next picture, shown at a time of the source's clock."""
        if self._start_s is None:
            self._start_s = time_s
        self._end_s = time_s + 1 / self._source.rate
        self._copy_sound(self._start_s - LEAD_S)
        padded = np.ascontiguousarray(np.pad(picture, self._padding, mode="edge"))
        frame = picture_of(padded, self._source.colour, "yuv420p")
        frame.pts, frame.time_base = round(time_s / self._source.time_base), self._source.time_base
        _guard(lambda: self._container.mux(self._stream.encode(frame)))

    def _copy_sound(self, from_s: Fraction) -> None:
        """Drop what is heard before a moment, and write what is heard before the end of the last frame."""
        while (packet := self._packet) is not None and packet.pts is not None:
            heard_s = packet.pts * packet.time_base
            if heard_s >= self._end_s:
                return
            if heard_s >= from_s:
                packet.stream = self._copies[packet.stream.index]
                _guard(lambda packet=packet: self._container.mux(packet))  # type: ignore[misc]
            self._packet = next(self._packets, None)

    def finish(self) -> None:
        """Write what the encoder still holds and the index. The file is playable after this."""
        _guard(lambda: self._container.mux(self._stream.encode(None)))
        _guard(self._container.close)

    def close(self) -> None:
        """Close both files in whatever state they are; errors no longer matter."""
        with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
            self._files.close()


@contextlib.contextmanager
def _refused(what: str, remedy: str) -> Iterator[None]:
    """Turn what FFmpeg refuses into a sentence."""
    try:
        yield
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise OutputError(f"{what} ({reason_of(error)}); {remedy}") from error


def _guard(action: Callable[[], None]) -> None:
    try:
        action()
    except (av.error.FFmpegError, OSError) as error:
        raise OutputError(
            f"the output cannot be written ({reason_of(error)}); free some space, or choose another disk"
        ) from error
