"""Colour tags of a video and its conversion between Y'CbCr and RGB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from av.video.reformatter import ColorRange, Colorspace, Interpolation
from av.video.stream import VideoStream

__all__ = ["SWSCALE", "SWSCALE_LANCZOS", "SWS_MATRIX", "Chroma", "Colour"]

Chroma = Literal["420", "422", "444"]
"""How much of the colour is kept: a quarter of the samples, half, all."""

# Bicubic chroma, no dithering: what ffmpeg calls accurate_rnd+full_chroma_int.
SWSCALE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

SWSCALE_LANCZOS = Interpolation.LANCZOS | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

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

HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""AVColorTransferCharacteristic of the two high-dynamic-range curves."""


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

    @classmethod
    def of(cls, stream: VideoStream) -> Colour:
        """Tags of a stream. An untagged matrix is BT.709 from 720 lines on and BT.601 below, as players assume."""
        context = stream.codec_context
        matrix = int(context.colorspace)
        guessed = matrix not in SWS_MATRIX
        if guessed:
            matrix = BT709 if max(context.height, context.width * 9 // 16) >= 720 else SMPTE170M
        full = int(context.color_range) == ColorRange.JPEG or (context.pix_fmt or "").startswith("yuvj")
        return cls(
            matrix,
            int(ColorRange.JPEG if full else ColorRange.MPEG),
            int(context.color_primaries),
            int(context.color_trc),
            guessed and not (context.format is not None and context.format.is_rgb),
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
