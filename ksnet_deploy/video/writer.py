"""Encoding: the upscaled frames, with the source's clock, tags and other tracks."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import av
import av.codec.codec
import av.error
from av.container import OutputContainer
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ksnet_deploy.config import FrameSize
from ksnet_deploy.errors import OutputError
from ksnet_deploy.video.colour import SWS_MATRIX, SWSCALE
from ksnet_deploy.video.reader import CopiedPacket, Frame, VideoReader, reason_of

__all__ = ["VideoWriter", "check_encoder", "container_problem", "fitting_suffixes"]

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Containers that are written, by the suffix of the file's name."""

QUIET = {"libx265": {"x265-params": "log-level=none"}}
"""Encoders that write to the terminal by themselves, and what stops them."""

STALE_TAGS = frozenset({"encoder", "duration", "bps", "number_of_frames", "number_of_bytes"})
"""Metadata that describes the source's own encoding."""


def container_problem(reader: VideoReader, suffix: str, codec: str) -> str | None:
    """Why a container cannot hold the encoded video and the copied tracks of a source; None when it can."""
    name = FORMATS.get(suffix.lower())
    if name is None:
        return f"'{suffix}' is not a container that can be written"
    with av.open(os.devnull, "w", format=name) as probe:
        supported = probe.supported_codecs
    tracks = [("video", av.Codec(codec, "w").canonical_name), *((t.type, _codec_name(t)) for t in reader.tracks)]
    for kind, track_codec in tracks:
        fits = name == "matroska" if kind == "attachment" else track_codec in supported
        if not fits:
            return f"a {suffix} file cannot hold the {kind} track ({track_codec})"
    return None


def fitting_suffixes(reader: VideoReader, codec: str) -> list[str]:
    """The containers that can hold everything, the source's own first, then Matroska."""
    order = dict.fromkeys([reader.path.suffix.lower(), ".mkv", *FORMATS])
    return [suffix for suffix in order if container_problem(reader, suffix, codec) is None]


def check_encoder(codec: str) -> None:
    """Raise OutputError unless there is a video encoder of that name."""
    try:
        kind = av.Codec(codec, "w").type
    except av.codec.codec.UnknownCodecError as error:
        raise OutputError(f"there is no encoder named '{codec}' here; use for example libx264") from error
    if kind != "video":
        raise OutputError(f"'{codec}' encodes {kind}, not video; use for example libx264")


def _codec_name(track: Stream) -> str:
    context = track.codec_context
    return context.codec.canonical_name if context is not None else "unknown"


class VideoWriter:
    """Encodes frames and copies the other tracks of a source into a new file."""

    def __init__(
        self,
        path: Path,
        suffix: str,
        reader: VideoReader,
        size: FrameSize,
        *,
        codec: str = "libx264",
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Create the file and its tracks.

        Args:
            path: to write; its name need not say the container.
            suffix: of the container, one of FORMATS, such as ``.mp4``.
            reader: source of the time base, colour tags, other tracks and metadata; its first frame has been read.
            size: of the frames; even numbers.
            codec: name of an FFmpeg video encoder.
            options: of the encoder.

        Raises:
            OutputError: the file or a track cannot be created, or an option is refused.
        """
        self._reader = reader
        try:
            self._container: OutputContainer = av.open(
                f"file:{path}",
                "w",
                format=FORMATS[suffix.lower()],
                options={} if FORMATS[suffix.lower()] == "matroska" else {"movflags": "+faststart"},
            )
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(
                f"{path.parent} cannot be written to ({reason_of(error)}); choose another folder"
            ) from error
        try:
            settings = {**QUIET.get(codec, {}), **(options or {})}
            stream = self._container.add_stream(codec, rate=reader.rate, options=settings)
            assert isinstance(stream, VideoStream)  # see check_encoder
            self._stream = stream
            known = {option.name for option in self._stream.codec_context.supported_options.private}
            if unknown := sorted(set(options or {}) - known):
                raise OutputError(f"the encoder {codec} has no setting named {' or '.join(unknown)}; leave it out")
            self._set_up(reader, size)
            self._copies = {track.index: self._container.add_stream_from_template(track) for track in reader.tracks}
            for track in reader.tracks:
                self._copies[track.index].metadata.update(track.metadata)
                self._copies[track.index].disposition = track.disposition
            self._container.metadata.update(reader.container.metadata)
            if chapters := reader.container.chapters():
                self._container.set_chapters(chapters)
            # Opens the encoder and writes the header, so that whatever they refuse is known before the first frame.
            self._container.start_encoding()
        except OutputError:
            self.abort()
            raise
        except (av.error.FFmpegError, ValueError) as error:
            self.abort()
            chosen = " ".join(f"{key}={value}" for key, value in (options or {}).items())
            raise OutputError(
                f"{codec} at {size} with {chosen or 'its defaults'} and the tracks of {reader.path} cannot be "
                f"written as {suffix} ({reason_of(error)}); check the encoder's settings or write to a .mkv file"
            ) from error

    def _set_up(self, reader: VideoReader, size: FrameSize) -> None:
        stream, context, colour = self._stream, self._stream.codec_context, reader.colour
        stream.height, stream.width, stream.pix_fmt = size.height, size.width, "yuv420p"
        # The source's own clock, so that every timestamp can be kept as it is, whatever the frame rate does.
        context.time_base = stream.time_base = reader.time_base
        context.sample_aspect_ratio = reader.stream.sample_aspect_ratio or Fraction(0, 1)
        context.colorspace, context.color_range = colour.matrix, colour.range
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        stream.metadata.update({k: v for k, v in reader.stream.metadata.items() if k.lower() not in STALE_TAGS})
        stream.disposition = reader.stream.disposition
        if reader.rotation:
            stream.set_display_rotation(reader.rotation)

    def write(self, frame: Frame) -> None:
        """Encode the next frame, (H, W, 3) of the writer's size."""
        colour = self._reader.colour
        picture = VideoFrame.from_ndarray(frame.rgb, format="rgb24").reformat(
            format="yuv420p",
            dst_colorspace=SWS_MATRIX[colour.matrix],
            dst_color_range=colour.range,
            interpolation=SWSCALE,
        )
        picture.pts, picture.time_base = frame.pts, self._reader.time_base
        self._guard(lambda: self._container.mux(self._stream.encode(picture)))

    def copy(self, packet: CopiedPacket) -> None:
        """Write a packet of one of the source's other tracks."""
        packet.stream = self._copies[packet.stream.index]
        self._guard(lambda: self._container.mux(packet))

    def finish(self) -> None:
        """Write what the encoder still holds and the index. The file is playable after this."""
        self._guard(lambda: self._container.mux(self._stream.encode(None)))
        self._guard(self._container.close)

    def abort(self) -> None:
        """Close the file in whatever state it is; errors no longer matter."""
        with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
            self._container.close()

    @staticmethod
    def _guard(action: Callable[[], None]) -> None:
        try:
            action()
        except (av.error.FFmpegError, OSError) as error:
            if error.errno == errno.ENOSPC:
                raise OutputError("the disk of the output is full; free some space and start again") from error
            raise OutputError(f"the output cannot be written ({reason_of(error)})") from error
