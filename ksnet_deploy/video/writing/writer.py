"""Muxing: encoded frames into a file, with the source's clock, tags and other tracks."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.files import no_room
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.reading.sources import CopiedPacket, reason_of
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.encoding import EncodedPacket, PictureFormat, refusal
from ksnet_deploy.video.writing.sound import SoundConverter, SoundFormat
from ksnet_deploy.video.writing.subtitles import SubtitleConverter
from ksnet_deploy.video.writing.tracks import FORMATS, TrackPlan, add_copy, add_cover

__all__ = ["VideoWriter", "decoding_times", "frame_times"]

DAMAGE = (av.error.InvalidDataError, av.error.ArgumentError)
"""Errors of FFmpeg for packets and tracks that are not as they should be."""

STALE_TAGS = frozenset({"alpha_mode", "encoder", "duration", "bps", "number_of_frames", "number_of_bytes"})
"""Metadata that describes the source's own encoding; alpha is lost with it."""


def decoding_times(in_decoding_order: Iterable[Iterable[int]], in_order: list[int]) -> Iterator[int]:
    """Decoding times for the frames of a file that was encoded in parts.

    Each part's encoder gave times of its own, which would run backwards where two parts meet. Instead the n-th packet
    takes the n-th presentation time of the file, moved back by as many frames as any packet is ahead of its turn.

    Args:
        in_decoding_order: per part, the presentation times of its packets.
        in_order: all presentation times, ascending.
    """
    rank = {pts: index for index, pts in enumerate(in_order)}
    decoded = [rank[pts] for part in in_decoding_order for pts in part]
    delay = max((index - place for index, place in enumerate(decoded)), default=0)
    step = in_order[1] - in_order[0] if len(in_order) > 1 else 1
    for index in range(len(decoded)):
        yield in_order[index - delay] if index >= delay else in_order[0] - (delay - index) * step


class VideoWriter:
    """Puts encoded frames and the other tracks of a source into a new file.

    The same packets and the same source give the same bytes: what FFmpeg would draw at random, it is asked not to.
    """

    def __init__(
        self,
        path: Path,
        suffix: str,
        reader: VideoReader,
        picture: PictureFormat,
        encoder: Encoder,
        plans: Sequence[TrackPlan] = (),
    ) -> None:
        """Create the file and its tracks.

        Args:
            path: to write; its name need not say the container.
            suffix: of the container, one of FORMATS, such as ``.mp4``.
            reader: source of the other tracks and metadata; what its first frame says is known.
            picture: of the video track.
            encoder: what makes the packets.
            plans: what becomes of the source's other tracks; those without one are left out.

        Raises:
            OutputError: the file or a track cannot be created.
        """
        self._reader, self._picture = reader, picture
        self._copies: dict[int, Stream] = {}
        self._converters: dict[int, SoundConverter | SubtitleConverter] = {}
        self.damaged_packets = 0
        """Packets of the other tracks, left out because they are damaged."""
        name = FORMATS[suffix.lower()]
        flags = {"fflags": "+bitexact"} | ({"movflags": "+faststart"} if name in ("mp4", "mov") else {})
        try:
            self._container: OutputContainer = av.open(f"file:{path}", "w", format=name, options=flags)
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(
                f"{path.parent} cannot be written to ({reason_of(error)}); choose another folder"
            ) from error
        try:
            stream = self._container.add_stream(encoder.codec, rate=picture.rate, options=picture.options_for(encoder))
            assert isinstance(stream, VideoStream)
            self._stream = stream
            if encoder.tag is not None and suffix.lower() != ".mkv":
                stream.codec_context.codec_tag = encoder.tag
            picture.describe_to(stream.codec_context)
            stream.time_base = picture.time_base
            stream.metadata.update(_current(reader.metadata_of(reader.stream)))
            stream.disposition = reader.stream.disposition
            if reader.display is not None:
                stream.set_display_matrix(reader.display.scaled(reader.size, picture.size).values)
            self._open(stream, encoder)
            covers = self._add_tracks(plans)
            self._container.metadata.update(reader.metadata_of(reader.container))
            if chapters := reader.chapters:
                self._container.set_chapters(chapters)
            # Writes the header, so that whatever the container refuses is known before the first frame.
            self._container.start_encoding()
            for write in covers:
                write()
        except (av.error.FFmpegError, ValueError) as error:
            self.abort()
            if problem := no_room(error):
                raise OutputError(f"{path.parent} cannot be written to: {problem}") from error
            raise OutputError(
                f"a {suffix} file cannot hold {encoder.name} video of {picture.size} with the other tracks of "
                f"{reader.path} ({reason_of(error)}); write to a .mkv file, or choose another encoder with --codec"
            ) from error

    def _add_tracks(self, plans: Sequence[TrackPlan]) -> list[Callable[[], None]]:
        """The other tracks, as planned; what is left to do for covers once the header is written."""
        tracks = {track.index: track for track in self._reader.tracks}
        covers = []
        for plan in plans:
            track = tracks[plan.index]
            metadata = self._reader.metadata_of(track)
            if plan.done == "copied" and plan.kind == "cover":
                covers.append(add_cover(self._container, track, self._reader.sample[plan.index]))
            elif plan.done == "copied":
                self._copies[plan.index] = add_copy(self._container, track, metadata)
            elif plan.done == "converted":
                converter: SoundConverter | SubtitleConverter
                if isinstance(plan.into, SoundFormat):
                    converter = SoundConverter(self._container, track, plan.into)
                else:
                    converter = SubtitleConverter(self._container, track, str(plan.into))
                converter.stream.metadata.update(_current(metadata))
                self._converters[plan.index] = converter
        return covers

    def _open(self, stream: VideoStream, encoder: Encoder) -> None:
        try:
            stream.codec_context.open(strict=False)
        except (av.error.FFmpegError, ValueError) as error:
            self.abort()
            raise OutputError(refusal(encoder, self._picture, error)) from error

    @property
    def header(self) -> bytes:
        """Parameter sets that the file announces; the packets' encoders must have had the same."""
        return bytes(self._stream.codec_context.extradata or b"")

    def try_tracks(self) -> None:
        """Write a file of the first packets of the other tracks alone, which shows whether it can hold them.

        Raises:
            OutputError: it cannot, or cannot be written at all.
        """
        sample = self._reader.sample
        packets = [p.packet_of(t) for t in self._reader.tracks if t.index in sample for p in sample[t.index]]
        try:
            for packet in sorted(packets, key=lambda p: 0 if p.dts is None else p.dts * p.time_base):
                self._copy(packet)
            self._finish()
        except OutputError as error:
            self.abort()
            if not isinstance(error.__cause__, DAMAGE):
                raise
            kinds = " and ".join(sorted({track.type for track in self._reader.tracks}))
            raise OutputError(
                f"the {kinds} of {self._reader.path} cannot be copied, because its description is damaged "
                f"({reason_of(error.__cause__)}); pass --tracks drop, or choose another container"
            ) from error

    def write(self, frames: Iterable[tuple[EncodedPacket, int, int]], end_s: Fraction | None = None) -> None:
        """Write the whole file: the frames, each with its decoding time and duration, and the source's other tracks.

        Args:
            end_s: leave out what the other tracks have from this moment on.

        Raises:
            OutputError: it cannot be written, or the disk is full.
        """
        copies = iter(self._reader.copied_packets())
        if end_s is not None:
            copies = (p for p in copies if p.pts is None or p.pts * p.time_base < end_s)
        copy = next(copies, None)
        for encoded, dts, duration in frames:
            moment = dts * self._picture.time_base
            while copy is not None and copy.dts is not None and copy.dts * copy.time_base <= moment:
                self._copy(copy)
                copy = next(copies, None)
            packet: Any = Packet(encoded.data)
            packet.stream, packet.time_base = self._stream, self._picture.time_base
            packet.pts, packet.dts, packet.duration = encoded.pts, dts, duration
            packet.is_keyframe = encoded.is_keyframe
            self._mux(packet)
        while copy is not None:
            self._copy(copy)
            copy = next(copies, None)
        self._finish()

    def _finish(self) -> None:
        for converter in self._converters.values():
            self._mux_all(converter.finish())
            self.damaged_packets += converter.damaged_packets
        self._guard(self._container.close)

    def _copy(self, packet: CopiedPacket) -> None:
        """A packet of another track, as it is or in another codec."""
        index = packet.stream.index
        if index in self._converters:
            self._mux_all(self._converters[index].convert(packet))
            return
        if index not in self._copies:
            return
        packet.stream = self._copies[index]
        try:
            self._mux(packet)
        except OutputError as error:
            if not isinstance(error.__cause__, DAMAGE):
                raise
            self.damaged_packets += 1  # what no file can hold: broken contents, or a time before the last one

    def _mux(self, packet: CopiedPacket) -> None:
        self._guard(lambda: self._container.mux(packet))

    def _mux_all(self, packets: Iterator[CopiedPacket]) -> None:
        """Packets of a converter, which fails as writing does."""
        found: list[CopiedPacket] = []
        self._guard(lambda: found.extend(itertools.islice(packets, 1)))
        while found:
            self._mux(found.pop())
            self._guard(lambda: found.extend(itertools.islice(packets, 1)))

    def abort(self) -> None:
        """Close the file in whatever state it is; errors no longer matter."""
        with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
            self._container.close()

    @staticmethod
    def _guard(action: Callable[[], None]) -> None:
        try:
            action()
        except (av.error.FFmpegError, OSError) as error:
            if problem := no_room(error):
                raise OutputError(f"the output cannot be written: {problem}, and start again") from error
            raise OutputError(f"the output cannot be written ({reason_of(error)})") from error


def _current(metadata: dict[str, str]) -> dict[str, str]:
    """Without what described the source's own encoding."""
    return {key: value for key, value in metadata.items() if key.lower() not in STALE_TAGS}


def frame_times(path: Path) -> list[Fraction]:
    """Times at which the frames of a file's video track are shown, in seconds, ascending; nothing is decoded."""
    with av.open(f"file:{path}") as container:
        packets = container.demux(container.streams.video[0])
        return sorted(p.pts * p.time_base for p in packets if p.pts is not None and p.size and not p.is_discard)
