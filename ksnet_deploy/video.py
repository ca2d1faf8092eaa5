"""Video files in and out. The only module that imports PyAV.

Frames cross this boundary as (H, W, 3) uint8 RGB with the presentation timestamp that they had in the file.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import av.error
import numpy as np
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ksnet_deploy.config import FrameSize
from ksnet_deploy.errors import InputError, OutputError

__all__ = ["Colour", "Frame", "VideoReader", "VideoWriter", "container_problem", "default_target", "write_png"]

# Bicubic chroma, no dithering: what ffmpeg calls accurate_rnd+full_chroma_int.
SWSCALE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Containers that are written, by the suffix of the file's name."""
COPIED_TRACKS = ("audio", "subtitle", "attachment")

UNSPECIFIED = 2  # in AVColorSpace, AVColorPrimaries and AVColorTransferCharacteristic
BT709, SMPTE170M = 1, 6  # AVColorSpace
SWS_MATRIX = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
"""The matrix of swscale for each AVColorSpace that has one."""


@dataclass(frozen=True)
class Colour:
    """How the samples of a video are to be read; the numbers are those of H.273, as in FFmpeg."""

    matrix: int
    range: int
    """1 for limited ("tv"), 2 for full ("pc")."""
    primaries: int
    transfer: int

    @classmethod
    def of(cls, stream: VideoStream) -> Colour:
        """Tags of a stream. An untagged matrix is BT.709 from 720 lines on and BT.601 below, as players assume."""
        context = stream.codec_context
        matrix = int(context.colorspace)
        if matrix not in SWS_MATRIX:
            matrix = BT709 if max(context.height, context.width * 9 // 16) >= 720 else SMPTE170M
        full = int(context.color_range) == ColorRange.JPEG or (context.pix_fmt or "").startswith("yuvj")
        return cls(
            matrix,
            int(ColorRange.JPEG if full else ColorRange.MPEG),
            int(context.color_primaries),
            int(context.color_trc),
        )


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
            self.container: InputContainer = av.open(str(path), metadata_errors="ignore")
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(
                f"{path} cannot be read as a video ({_reason(error)}); it is damaged or not a video file"
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
            f"{s.type} track {s.index}"
            for s in self.container.streams
            if s not in self.tracks and s is not self.stream
        ]
        self.rotation = 0
        """Counter-clockwise rotation in degrees that a player applies; known once a frame was read."""
        self.damaged_packets = 0
        self.decoded = 0
        self.repaired_timestamps = 0
        self._last_pts: int | None = None

    @property
    def expected_frames(self) -> int | None:
        """Frames that the file says it has; None when it does not say."""
        return self.stream.frames or None

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

        Where the file does not announce a number, one per packet that could not be decoded.
        """
        announced = (self.expected_frames or 0) - self.decoded
        return max(announced, self.damaged_packets, 0)

    def __iter__(self) -> Iterator[Frame | Packet]:
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
            if packet.stream is self.stream:
                yield from self._decode(packet)
            elif packet.dts is not None:
                yield packet

    def _decode(self, packet: Packet | None) -> Iterator[Frame]:
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
        rgb: NDArray[np.uint8] = frame.to_ndarray(format="rgb24", interpolation=SWSCALE)
        return rgb

    def _timestamp(self, frame: VideoFrame) -> int:
        """The frame's own, or, where it has none or one in the past, the earliest that keeps the order."""
        pts, last = frame.pts, self._last_pts
        if pts is not None and frame.time_base is not None and frame.time_base != self.time_base:
            pts = round(pts * frame.time_base / self.time_base)
        if pts is None:
            self.repaired_timestamps += 1
            pts = 0 if last is None else last + max(round(1 / (self.rate * self.time_base)), 1)
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


def container_problem(reader: VideoReader, suffix: str, codec: str = "libx264") -> str | None:
    """Why a container cannot hold the video and the copied tracks of a source; None when it can."""
    name = FORMATS.get(suffix.lower())
    if name is None:
        return f"'{suffix}' is not a container that can be written; use one of {', '.join(FORMATS)}"
    with av.open("/dev/null", "w", format=name) as probe:
        supported = probe.supported_codecs
    tracks = [("video", av.Codec(codec, "w").canonical_name), *((t.type, _codec_name(t)) for t in reader.tracks)]
    for kind, track_codec in tracks:
        fits = name == "matroska" if kind == "attachment" else track_codec in supported
        if not fits:
            return f"a {suffix} file cannot hold the {kind} track ({track_codec}); write to a .mkv file"
    return None


def _codec_name(track: Stream) -> str:
    context = track.codec_context
    return context.codec.canonical_name if context is not None else "unknown"


def default_target(reader: VideoReader, codec: str = "libx264") -> Path:
    """``name_x4`` beside the source: in the source's container when that can hold everything, else Matroska."""
    suffix = reader.path.suffix
    if container_problem(reader, suffix, codec) is not None:
        suffix = ".mkv"
    return reader.path.with_name(f"{reader.path.stem}_x4{suffix}")


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
                str(path), "w", format=FORMATS[suffix.lower()], options={"movflags": "+faststart"}
            )
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(f"{path.parent} cannot be written to ({_reason(error)}); choose another folder") from error
        try:
            self._stream = self._container.add_stream(codec, rate=reader.rate, options=dict(options or {}))
            if not isinstance(self._stream, VideoStream):
                raise OutputError(f"'{codec}' is no video encoder; use for example libx264")
            known = {option.name for option in self._stream.codec_context.supported_options.private}
            if unknown := sorted(set(options or {}) - known):
                raise OutputError(f"the encoder {codec} has no setting named {' or '.join(unknown)}; leave it out")
            self._set_up(reader, size)
            self._copies = {
                track.index: self._container.add_stream_from_template(track)
                for track in reader.tracks
            }
            for track in reader.tracks:
                self._copies[track.index].metadata.update(track.metadata)
                self._copies[track.index].disposition = track.disposition
            self._container.metadata.update(reader.container.metadata)
            if chapters := reader.container.chapters():
                self._container.set_chapters(chapters)
            # Opens the encoder and writes the header, so that whatever they refuse is known before the first frame.
            self._container.start_encoding()
        except (av.error.FFmpegError, ValueError) as error:
            self.abort()
            settings = " ".join(f"{key}={value}" for key, value in (options or {}).items())
            raise OutputError(
                f"{codec} at {size} with {settings or 'its defaults'} and the tracks of {reader.path} cannot be "
                f"written as {suffix} ({_reason(error)}); check the encoder's settings or write to a .mkv file"
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

    def copy(self, packet: Packet) -> None:
        """Write a packet of one of the source's other tracks."""
        packet.stream = self._copies[packet.stream.index]
        self._guard(lambda: self._container.mux(packet))

    def finish(self) -> None:
        """Write what the encoder still holds and the index. The file is playable after this."""
        self._guard(lambda: self._container.mux(self._stream.encode(None)))
        self._guard(self._container.close)

    def abort(self) -> None:
        """Close the file in whatever state it is; errors no longer matter."""
        try:
            self._container.close()
        except (av.error.FFmpegError, OSError, ValueError):
            pass

    @staticmethod
    def _guard(action: Any) -> None:
        try:
            action()
        except (av.error.FFmpegError, OSError) as error:
            if error.errno == errno.ENOSPC:
                raise OutputError("the disk of the output is full; free some space and start again") from error
            raise OutputError(f"the output cannot be written ({_reason(error)})") from error


STALE_TAGS = frozenset({"encoder", "duration", "bps", "number_of_frames", "number_of_bytes"})
"""Metadata that describes the source's own encoding."""


def write_png(path: Path, rgb: NDArray[np.uint8]) -> None:
    """Save an (H, W, 3) picture."""
    VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").save(path)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
