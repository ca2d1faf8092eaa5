"""Compression: a clip through a real encoder, in 4:2:0, and back.

What comes out is what ``upscale`` reads of such a video: FFmpeg's decoders, and this package's conversion between
R'G'B' and Y'CbCr (BT.709 from 720 lines on, BT.601 below and in JPEG; limited range, but full in JPEG). Encoder and
decoder run in one thread each, so the result depends on nothing but the frames, the settings and the version of the
encoder (:func:`encoder_version`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import av
import av.error
import numpy as np
from av.codec.context import CodecContext
from numpy.typing import NDArray

from ksnet_deploy.base.errors import ConfigError, OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.video.colour import SMPTE170M, Colour, usual_matrix
from ksnet_deploy.video.conversion import FULL, LIMITED, picture_of, rgb_of
from ksnet_deploy.video.reading.sources import reason_of
from ksnet_deploy.video.writing.encoder import Encoder
from ksnet_deploy.video.writing.presets import choose_encoder

__all__ = ["CODECS", "CodecName", "Compression", "compress", "encoder_version"]

CodecName: TypeAlias = Literal["h264", "hevc", "mpeg2", "vp9", "mjpeg"]
Frames: TypeAlias = NDArray[np.uint8]

RATE = Fraction(25)
UNSPECIFIED = 2
"""Number of unspecified primaries and transfer in H.273."""


@dataclass(frozen=True)
class Codec:
    """A codec, and what its encoder has to be told."""

    encoder: str
    """Name for :func:`~ksnet_deploy.video.writing.encoders.choose_encoder`."""
    decoder: str
    qualities: tuple[int, int]
    """Best and poorest quality."""
    default: int
    """Quality of a usual download."""
    preset: str | None = None
    """Speed that the encoder chooses by itself; None where it has no choice."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options beside those of ``choose_encoder``."""
    by_quantizer: bool = False
    """Whether quality is the one quantizer of all frames."""
    is_jpeg: bool = False
    """Whether it is JPEG: full range, always BT.601, and chroma in the middle of the pixels that share it."""
    siting_unsaid: bool = False
    least: FrameSize = FrameSize(2, 2)  # noqa: RUF009 (frozen)
    """Smallest frame; smaller ones are padded to it."""


CODECS: Mapping[CodecName, Codec] = {
    "h264": Codec("h264", "h264", (0, 51), 23, "medium"),
    # One thread: with a pool of them libx265 decides differently, whatever their number.
    "hevc": Codec(
        "hevc", "hevc", (0, 51), 28, "medium", {"x265-params": ":pools=none:frame-threads=1"}, least=FrameSize(16, 64)
    ),
    "mpeg2": Codec("mpeg2video", "mpeg2video", (1, 31), 5, options={"bf": "2"}, by_quantizer=True),
    "vp9": Codec("vp9", "vp9", (0, 63), 33, "2", siting_unsaid=True),
    "mjpeg": Codec("mjpeg", "mjpeg", (1, 31), 5, by_quantizer=True, is_jpeg=True),
}
"""Codecs by name. Quality is the codec's own number, lower is better: the CRF of libx264, libx265 and libvpx-vp9, the
quantizer (``-qscale``) of FFmpeg's MPEG-2 and Motion JPEG."""


@dataclass(frozen=True)
class Compression:
    """Codec, quality and speed that a clip is encoded with."""

    codec: CodecName
    quality: int
    """Quality on the codec's own scale, a whole number, see CODECS."""
    preset: str | None = None
    """Speed in the encoder's words; None for its default: medium for h264 and hevc, 2 (``cpu-used``) for vp9. The other
    two have none."""
    gop: int = 250
    """Greatest distance between keyframes in frames."""

    def __post_init__(self) -> None:
        best, poorest = CODECS[self.codec].qualities
        if not isinstance(self.quality, int) or not best <= self.quality <= poorest:
            raise ConfigError(
                f"{self.codec} has qualities from {best} (best) to {poorest}, not {self.quality!r}; give a whole "
                "number of these"
            )

    @classmethod
    def usual(cls, codec: CodecName, quality: int | None = None) -> Compression:
        """Usual speed of a codec, and its usual quality unless one is given. Raises ConfigError as the class does."""
        known = CODECS[codec]
        return cls(codec, known.default if quality is None else quality, known.preset)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the version of the encoder on this machine."""
        return {**asdict(self), "encoder": encoder_version(self.codec)}

    def __str__(self) -> str:
        number = "q" if CODECS[self.codec].by_quantizer else "CRF"
        return f"{self.codec} {number} {self.quality}"


def encoder_version(codec: CodecName) -> str:
    """Versions of what encodes on this machine: FFmpeg's encoder, the library and the PyAV that it came with.

    Raises OutputError where there is no such encoder.
    """
    release = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"{_encoder(Compression(codec, CODECS[codec].default)).codec}, libavcodec {release}, PyAV {av.__version__}"


def compress(frames: Frames, compression: Compression) -> Frames:
    """The frames (T, H, W, 3) of a clip as they come out of the decoder, of the same shape.

    Odd sizes, and those below what the encoder takes, are padded with the last row and column, and cropped again.

    Raises:
        OutputError: this FFmpeg has no such encoder, or it fails.
    """
    codec = CODECS[compression.codec]
    height, width = frames.shape[1:3]
    rows, columns = max(height + height % 2, codec.least.height), max(width + width % 2, codec.least.width)
    padded = np.pad(frames, ((0, 0), (0, rows - height), (0, columns - width), (0, 0)), mode="edge")
    colour = Colour(
        SMPTE170M if codec.is_jpeg else usual_matrix(rows, columns),
        FULL if codec.is_jpeg else LIMITED,
        UNSPECIFIED,
        UNSPECIFIED,
        siting_unsaid=codec.siting_unsaid,
    )
    try:
        packets = _encoded(padded, compression, colour)
        decoded = np.stack(list(_decoded(packets, codec, colour)))
    except av.error.FFmpegError as error:
        raise OutputError(
            f"{compression} failed at {len(frames)} frames of {height}x{width} ({reason_of(error)}); choose another "
            "codec or quality"
        ) from error
    if len(decoded) != len(frames):
        raise OutputError(
            f"{compression} gave {len(decoded)} of {len(frames)} frames of {height}x{width} back; choose another codec"
        )
    return np.ascontiguousarray(decoded[:, :height, :width])


def _encoder(compression: Compression) -> Encoder:
    codec = CODECS[compression.codec]
    quality = None if codec.by_quantizer else compression.quality
    try:
        return choose_encoder(codec.encoder, quality=quality, speed=compression.preset)
    except OutputError as error:  # whose remedy is another encoder for a result
        problem = str(error).partition(";")[0]
        raise OutputError(
            f"LR cannot be put through {compression.codec} ({problem}); install PyAV from PyPI, which has its encoder"
        ) from error


def _encoded(frames: Frames, compression: Compression, colour: Colour) -> list[Any]:
    codec, encoder = CODECS[compression.codec], _encoder(compression)
    options = dict(encoder.options)
    for name, value in codec.options.items():
        options[name] = options.get(name, "") + value
    context: Any = CodecContext.create(encoder.codec, "w")
    context.height, context.width, context.pix_fmt = *frames.shape[1:3], "yuv420p"
    context.time_base, context.framerate, context.gop_size = 1 / RATE, RATE, compression.gop
    context.colorspace, context.color_range = colour.matrix, colour.range
    context.thread_count, context.options = 1, options
    if codec.by_quantizer:  # FFmpeg's -qscale would have to stand in every frame, where PyAV cannot write it
        context.qmin = context.qmax = compression.quality
    packets: list[Any] = []
    for index, rgb in enumerate(frames):
        picture = picture_of(rgb, colour, "yuv420p", centred=codec.is_jpeg)
        picture.pts, picture.time_base = index, 1 / RATE
        packets += context.encode(picture)
    packets += context.encode(None)
    return packets


def _decoded(packets: list[Any], codec: Codec, colour: Colour) -> Iterator[Frames]:
    context: Any = CodecContext.create(codec.decoder, "r")
    context.thread_count = 1
    for packet in [*packets, None]:
        for frame in context.decode(packet):
            yield rgb_of(frame, colour, eight_bits=True)
