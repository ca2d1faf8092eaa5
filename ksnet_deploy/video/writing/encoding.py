"""Encoding: frames to packets, without a file around them."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av.error
from av.codec.context import CodecContext, Flags
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.machine import same_priority
from ksnet_deploy.video.colour import Colour
from ksnet_deploy.video.conversion import picture_of
from ksnet_deploy.video.reading.reader import Frame, VideoReader
from ksnet_deploy.video.reading.sources import CopiedPacket, reason_of
from ksnet_deploy.video.side_data import HdrMetadata
from ksnet_deploy.video.writing.encoder import Encoder

__all__ = ["EncodedPacket", "FrameEncoder", "PictureFormat", "refusal"]


@dataclass(frozen=True)
class PictureFormat:
    """Facts for an encoder about the frames to come, and a container of its video track."""

    size: FrameSize
    """Size of the frames, in even numbers."""
    pixel_format: str
    """FFmpeg's name, for example yuv420p10le."""
    colour: Colour
    time_base: Fraction
    rate: Fraction
    """Nominal frames per second; the timestamps say when a frame is really shown."""
    pixel_aspect: Fraction = Fraction(0, 1)
    """Width of a pixel by its height; 0 when the source does not say."""
    hdr: HdrMetadata = field(default_factory=HdrMetadata)

    @classmethod
    def of(cls, reader: VideoReader, size: FrameSize, encoder: Encoder) -> PictureFormat:
        """Clock and tags of the source, and of its depth and chroma what the encoder takes, for frames of a size.

        Of pictures coded as R'G'B', which say nothing of chroma, it is what players take.
        """
        depth, chroma = reader.depth, reader.chroma
        if reader.is_rgb and encoder.is_for_players:
            depth, chroma = min(depth, 10), "420"
        pixel_format = encoder.pixel_format(depth, chroma)
        aspect = reader.pixel_aspect
        return cls(size, pixel_format, reader.colour, reader.time_base, reader.rate, aspect, reader.hdr)

    @property
    def depth(self) -> int:
        """Bits per sample."""
        return VideoFormat(self.pixel_format).components[0].bits

    def options_for(self, encoder: Encoder) -> dict[str, str]:
        """Options of the encoder, and the HDR metadata where it takes that."""
        return self.hdr.told(encoder.codec, encoder.options)

    def describe_to(self, context: VideoCodecContext) -> None:
        context.height, context.width, context.pix_fmt = self.size.height, self.size.width, self.pixel_format
        # The source's own clock, so that every timestamp can be kept as it is, whatever the frame rate does.
        context.time_base, context.framerate = self.time_base, self.rate
        context.sample_aspect_ratio = self.pixel_aspect
        context.colorspace, context.color_range = self.colour.matrix, self.colour.range
        context.color_primaries, context.color_trc = self.colour.primaries, self.colour.transfer


def refusal(encoder: Encoder, picture: PictureFormat, error: Exception) -> str:
    """A sentence for an encoder that does not open."""
    frames = f"{picture.pixel_format} frames of {picture.size}, timed in {picture.time_base} s,"
    settings, remedy = encoder.settings or "its defaults", "check its settings, or " if encoder.settings else ""
    return (
        f"{encoder.name} does not take {frames} with {settings} ({reason_of(error)}); {remedy}choose another encoder "
        "with --codec, such as h264"
    )


@dataclass(frozen=True)
class EncodedPacket:
    """One coded frame, times in units of the picture format's time base."""

    data: bytes = field(repr=False)
    pts: int
    is_keyframe: bool


class FrameEncoder:
    """An encoder that begins with a keyframe and refers to nothing before it.

    Packets come in decoding order. Their decoding times are left to :mod:`ksnet_deploy.video.writing.writer`, which
    knows the frames of all parts of a file.
    """

    def __init__(self, encoder: Encoder, picture: PictureFormat) -> None:
        """Open an encoder. Raises OutputError where it refuses its settings or the format."""
        self._name, self._picture = encoder.name, picture
        context: Any = CodecContext.create(encoder.codec, "w")
        picture.describe_to(context)
        context.options = picture.options_for(encoder)
        context.flags |= Flags.global_header  # parameter sets in the file's header, where MP4 wants them
        try:
            with same_priority():
                context.open()
        except (av.error.FFmpegError, ValueError) as error:
            raise OutputError(refusal(encoder, picture, error)) from error
        self._context = context

    @property
    def header(self) -> bytes:
        """Parameter sets, the same for every encoder of the same settings."""
        return bytes(self._context.extradata or b"")

    def encode(self, frame: Frame) -> list[EncodedPacket]:
        """Encode the next frame, (H, W, 3), uint8 or uint16; one of another size is resized to the format's.

        Raises:
            OutputError: the encoder fails.
        """
        picture = picture_of(frame.rgb, self._picture.colour, self._picture.pixel_format, self._picture.size)
        picture.pts, picture.time_base = frame.pts, self._picture.time_base
        # ProRes writes into every frame what the frame says, not what its encoder was told.
        picture.color_primaries, picture.color_trc = self._picture.colour.primaries, self._picture.colour.transfer
        return self._packets(picture)

    def finish(self) -> list[EncodedPacket]:
        """Packets that the encoder still holds. Nothing can be encoded afterwards."""
        return self._packets(None)

    def _packets(self, picture: VideoFrame | None) -> list[EncodedPacket]:
        try:
            packets: list[CopiedPacket] = self._context.encode(picture)
        except MemoryError:
            raise
        except av.error.FFmpegError as error:  # out of memory of its own, for example
            raise OutputError(
                f"{self._name} failed at a frame of {self._picture.size} ({reason_of(error)}); free memory, choose a "
                "faster --preset, or another --codec"
            ) from error
        return [EncodedPacket(bytes(p), p.pts, bool(p.is_keyframe)) for p in packets if p.pts is not None]
