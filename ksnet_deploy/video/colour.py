"""Colour tags of a video and its conversion between Y'CbCr and RGB."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from av.video.stream import VideoStream

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.video.monochrome import is_monochrome

__all__ = [
    "SWSCALE",
    "SWSCALE_LANCZOS",
    "SWS_MATRIX",
    "Chroma",
    "Colour",
    "chroma_of",
    "has_hidden_alpha",
    "is_grey",
    "is_rgb",
    "usual_matrix",
]

Chroma = Literal["420", "422", "444"]
"""Chroma subsampling: a quarter of the samples, half, all."""

# Every pixel's chroma counts, both ways, and no dithering: ffmpeg's accurate_rnd+full_chroma_int+full_chroma_inp.
EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP

SWSCALE = Interpolation.BICUBIC | EXACT

SWSCALE_LANCZOS = Interpolation.LANCZOS | EXACT

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

MATRIX_NAMES = {1: "BT.709", 4: "FCC", 5: "BT.601", 6: "BT.601", 7: "SMPTE 240M", 9: "BT.2020"}

SILENT = frozenset({*itertools.product(("av1", "ffv1", "prores", "vp8", "vp9"), ("420", "422")), ("hevc", "422")})
"""Compressions, and their chroma, that say nothing of where it lies; AV1 could, but its encoders hardly ever do."""

LIMITED_BY_STANDARD = frozenset(
    {"av1", "h263", "h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "prores", "vc1", "vp8", "vp9", "vvc"}
)
"""Compressions whose video is of limited range unless it says otherwise."""

TAGGED_BY_FILE = frozenset({"vp8"})
"""Compressions whose frames say the same of their colours, in FFmpeg, whatever the file says."""

UNSUPPORTED = {
    8: "YCgCo",
    10: "BT.2020 with constant luminance",
    11: "SMPTE ST 2085",
    12: "a matrix that follows from its primaries",
    13: "a matrix that follows from its primaries, with constant luminance",
    14: "ICtCp",
    15: "IPT-C2",
    16: "YCgCo-Re",
    17: "YCgCo-Ro",
}
"""Names of the colour spaces that cannot be converted, by AVColorSpace."""

HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""AVColorTransferCharacteristic of the two high-dynamic-range curves."""


LINEAR = 8
"""AVColorTransferCharacteristic of samples that are proportional to light."""
WIDE = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
"""AVColorPrimaries that reach farther than those of sRGB and BT.709."""


def is_grey(video_format: VideoFormat | None) -> bool:
    """Whether a format has no colour, with or without alpha."""
    return (
        video_format is not None
        and not video_format.has_palette
        and sum(not part.is_alpha for part in video_format.components) == 1
    )


def is_rgb(video_format: VideoFormat | None) -> bool:
    """Whether a format is coded as R'G'B', as a palette of that, or as X'Y'Z', which swscale makes R'G'B' of."""
    return video_format is not None and (
        video_format.is_rgb or video_format.has_palette or video_format.name.startswith("xyz")
    )


def is_yuvj(video_format: VideoFormat | None) -> bool:
    """Whether a format is one of FFmpeg's that are of full range by their name."""
    return video_format is not None and video_format.name.startswith("yuvj")


def has_hidden_alpha(stream: VideoStream) -> bool:
    """Whether a tag tells of transparency in VP8 or VP9, of which FFmpeg decodes the rest only."""
    if stream.codec_context.codec.canonical_name not in ("vp8", "vp9"):  # others have it in their frames
        return False
    return {key.lower(): value for key, value in stream.metadata.items()}.get("alpha_mode") == "1"


def chroma_of(video_format: VideoFormat | None) -> Chroma:
    """Chroma of a pixel format; what is between them counts as the next finer one, and grey as the coarsest."""
    if video_format is None or len(video_format.components) < 3:
        return "420"
    if video_format.is_rgb:
        return "444"
    # Of a large size, so that the ratio is exact.
    width, height = video_format.chroma_width(1024), video_format.chroma_height(1024)
    return "444" if width == 1024 else "422" if height == 1024 else "420"


def usual_matrix(height: int, width: int) -> int:
    """AVColorSpace that players assume of an untagged video: BT.709 from 720 lines on, BT.601 below."""
    return BT709 if max(height, width * 9 // 16) >= 720 else SMPTE170M


@dataclass(frozen=True)
class Colour:
    """Colour tags: how the samples of a video are to be read; the numbers are those of H.273, as in FFmpeg."""

    matrix: int
    range: int
    """Range: 1 for limited ("tv"), 2 for full ("pc")."""
    primaries: int
    transfer: int
    guessed: bool = False
    """Whether the source does not name a matrix that there is a conversion for."""
    siting_unsaid: bool = False
    """Whether its frames do not say where their chroma lies; then it is at the left pixel of those that share it."""

    unsupported: str | None = None
    """Name of the way in which the colours are coded, where there is no conversion for it."""

    monochrome: bool = False
    """Whether it is known to have no colours, although its pixel format has."""

    @classmethod
    def of(cls, tagged: VideoFrame | VideoCodecContext, codec: str) -> Colour:
        """Tags of a frame, or of a stream before there is one.

        An untagged matrix is BT.709 from 720 lines on and BT.601 below, as players assume. An untagged range is
        limited, but full for grey of compressions that do not say so either, as FFmpeg takes it.

        Args:
            codec: FFmpeg's name of the compression.
        """
        video_format = tagged.format
        matrix, plain = int(tagged.colorspace), is_grey(video_format) or is_rgb(video_format)
        guessed = matrix not in SWS_MATRIX
        header = tagged.extradata if isinstance(tagged, VideoCodecContext) and codec == "h264" else None
        monochrome = header is not None and is_monochrome(header)
        unsupported = None if plain else UNSUPPORTED.get(matrix)
        if guessed:
            matrix = usual_matrix(tagged.height, tagged.width)
        full = int(tagged.color_range) == ColorRange.JPEG or (
            int(tagged.color_range) != ColorRange.MPEG
            and (is_yuvj(video_format) or (is_grey(video_format) and codec not in LIMITED_BY_STANDARD))
        )
        return cls(
            matrix,
            int(ColorRange.JPEG if full else ColorRange.MPEG),
            int(tagged.color_primaries),
            int(tagged.color_trc),
            guessed and not plain and not monochrome,
            (codec, chroma_of(video_format)) in SILENT,
            unsupported,
            monochrome,
        )

    def of_next(self, frame: VideoFrame, codec: str) -> Colour:
        """Tags of a frame of a stream whose tags are these, as far as frames of its compression have their own."""
        if codec in TAGGED_BY_FILE:
            return self
        found = Colour.of(frame, codec)
        return replace(found, guessed=found.guessed and not self.monochrome, monochrome=self.monochrome)

    def check(self, path: Path) -> None:
        """Raise InputError for colours that there is no conversion for, of a file of this name."""
        if self.unsupported is not None:
            raise InputError(
                f"the colours of {path} are coded as {self.unsupported}, which is not supported; convert the video to "
                "BT.709 first"
            )

    @property
    def is_hdr(self) -> bool:
        return self.transfer in HDR_TRANSFERS

    @property
    def said_nowhere(self) -> str | None:
        """Fact on these colours that a picture or YUV4MPEG does not say, with what comes of it; None for usual ones."""
        if self.is_hdr:
            return "that it is HDR: shown as SDR, it looks pale"
        if self.transfer == LINEAR:
            return "that its light is linear: shown as usual, it looks too dark"
        if self.primaries in WIDE:
            return f"that its colours are those of {WIDE[self.primaries]}: shown as usual, they look pale"
        return None

    @property
    def transfer_name(self) -> str:
        return HDR_TRANSFERS.get(self.transfer, f"transfer {self.transfer}")

    @property
    def matrix_name(self) -> str:
        return MATRIX_NAMES[self.matrix]
