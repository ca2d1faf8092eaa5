"""Colour tags of a video and its conversion between Y'CbCr and RGB."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

from av.video.format import VideoFormat
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from av.video.stream import VideoStream

__all__ = ["SWSCALE", "SWSCALE_LANCZOS", "SWS_MATRIX", "Chroma", "Colour", "chroma_of", "usual_matrix"]

Chroma = Literal["420", "422", "444"]
"""How much of the colour is kept: a quarter of the samples, half, all."""

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

HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""AVColorTransferCharacteristic of the two high-dynamic-range curves."""


def chroma_of(video_format: VideoFormat | None) -> Chroma:
    """Of a pixel format; what is between them counts as the next finer one, and grey as the coarsest."""
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
    """How the samples of a video are to be read; the numbers are those of H.273, as in FFmpeg."""

    matrix: int
    range: int
    """1 for limited ("tv"), 2 for full ("pc")."""
    primaries: int
    transfer: int
    guessed: bool = False
    """Whether the source does not name a matrix that there is a conversion for."""
    siting_unsaid: bool = False
    """Whether its frames do not say where their chroma lies; then it is at the left pixel of those that share it."""

    @classmethod
    def of(cls, stream: VideoStream) -> Colour:
        """Tags of a stream. An untagged matrix is BT.709 from 720 lines on and BT.601 below, as players assume."""
        context = stream.codec_context
        matrix = int(context.colorspace)
        guessed = matrix not in SWS_MATRIX
        if guessed:
            matrix = usual_matrix(context.height, context.width)
        full = int(context.color_range) == ColorRange.JPEG or (context.pix_fmt or "").startswith("yuvj")
        return cls(
            matrix,
            int(ColorRange.JPEG if full else ColorRange.MPEG),
            int(context.color_primaries),
            int(context.color_trc),
            guessed and not (context.format is not None and context.format.is_rgb),
            (context.codec.canonical_name, chroma_of(context.format)) in SILENT,
        )

    @property
    def is_hdr(self) -> bool:
        return self.transfer in HDR_TRANSFERS

    @property
    def transfer_name(self) -> str:
        return HDR_TRANSFERS.get(self.transfer, f"transfer {self.transfer}")

    @property
    def matrix_name(self) -> str:
        return MATRIX_NAMES[self.matrix]
