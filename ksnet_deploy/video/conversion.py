"""Y'CbCr to R'G'B' and back: by swscale where it is exact to the level, by the standards' equations where it is not.

swscale takes the white of deep video for 255/256 of what it is: a 10-bit picture comes out up to 3 levels dark, and
goes back up to 4 levels bright. In full range it rounds chroma down, by half a level on average. There it only
resamples the chroma, which it does well where it is told between which pixels the samples of chroma lie. PyAV can say
so only through a filter; for frames of which nobody does, swscale takes them to lie in the middle of the pixels that
they stand for, where MPEG-1 and JPEG put them. All others put them at the left.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.video.colour import SWS_MATRIX, SWSCALE, SWSCALE_LANCZOS, Colour, is_grey, is_rgb
from ksnet_deploy.video.scaling import filtered, reformatted

__all__ = ["grey_levels", "picture_of", "resized", "rgb_and_transparency", "rgb_of"]

LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601
    6: (0.299, 0.114),
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
}
"""Shares of red and blue in luma, by AVColorSpace (ITU-T H.273, table 4)."""
LIMITED, FULL = 1, 2  # AVColorRange
FLOATS = ("grayf", "yaf")
"""Names of FFmpeg's formats of grey whose samples are from 0 to 1."""


def rgb_of(frame: VideoFrame, colour: Colour, *, eight_bits: bool) -> NDArray[Any]:
    """The picture of :func:`rgb_and_transparency` alone."""
    return rgb_and_transparency(frame, colour, eight_bits=eight_bits)[0]


def rgb_and_transparency(
    frame: VideoFrame, colour: Colour, *, eight_bits: bool, alpha: NDArray[np.float32] | None = None
) -> tuple[NDArray[Any], bool]:
    """(H, W, 3) R'G'B' of a decoded frame, over black where it is transparent: uint16 in 0..65535, or uint8; and
    whether some of it is.

    Args:
        colour: its tags.
        eight_bits: of each sample.
        alpha: (H, W), from 0 for transparent to 1 for opaque, where the frame itself does not say it.
    """
    most = 255 if eight_bits else 65535
    kind = np.uint8 if eight_bits else np.uint16
    alpha = _alpha(frame) if alpha is None else alpha
    rgb = _grey(frame, colour, most) if is_grey(frame.format) else None
    if rgb is None:
        rgb = _coloured(frame, colour, eight_bits=eight_bits)
    is_transparent = alpha is not None and bool(alpha.min() < 1)
    if alpha is not None and is_transparent:
        rgb = np.rint(rgb * alpha[..., None])
    opaque: NDArray[Any] = rgb.astype(kind, copy=False)
    return opaque, is_transparent


def grey_levels(frame: VideoFrame, colour: Colour) -> NDArray[np.float32]:
    """(H, W), from 0 to 1, of a frame without colours."""
    levels: NDArray[np.float32] = _grey(frame, colour, 65535)[..., 0].astype(np.float32)
    return levels / np.float32(65535)


def _grey(frame: VideoFrame, colour: Colour, most: int) -> NDArray[Any]:
    """Picture of a frame without colours, which swscale takes for one of full range, whatever it says."""
    frame = _readable(frame)
    part = frame.format.components[0]
    values = _plane(frame, part.plane)[:, :: len(frame.format.components)].astype(np.float32)
    if frame.format.name.startswith(FLOATS):
        levels = values
    elif colour.range == FULL:
        levels = values / np.float32(2**part.bits - 1)
    else:
        levels = (values / np.float32(2.0 ** (part.bits - 8)) - 16) / np.float32(219)
    grey = np.rint(np.clip(levels, 0, 1) * np.float32(most)).astype(np.uint16 if most > 255 else np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _alpha(frame: VideoFrame) -> NDArray[np.float32] | None:
    """(H, W), from 0 for transparent to 1 for opaque; None where a frame says nothing of it."""
    if frame.format.has_palette:
        frame = frame.reformat(format="rgba")
    parts = [part for part in frame.format.components if part.is_alpha]
    if not parts:
        return None
    (part,) = parts
    in_plane = [p for p in frame.format.components if p.plane == part.plane]
    frame = _readable(frame)
    values = _plane(frame, part.plane)
    if len(in_plane) > 1:  # packed: last, but in formats such as ARGB
        first = frame.format.name.startswith(("argb", "abgr", "ayuv"))
        values = values[:, (0 if first else len(in_plane) - 1) :: len(in_plane)]
    scale = 1.0 if frame.format.name.startswith(FLOATS) or "f32" in frame.format.name else 2.0**part.bits - 1
    levels: NDArray[np.float32] = np.clip(values.astype(np.float32) / np.float32(scale), 0, 1)
    return levels


def _readable(frame: VideoFrame) -> VideoFrame:
    """The frame in a format whose samples are whole bytes."""
    if frame.format.components[0].bits < 8 and not frame.format.is_rgb:
        return frame.reformat(format="gray")
    return frame


def _plane(frame: VideoFrame, index: int) -> NDArray[Any]:
    """(H, samples) of a plane of full height, in the order of bytes of the machine."""
    plane, name = frame.planes[index], frame.format.name
    size = (max(part.bits for part in frame.format.components) + 7) // 8
    kind = f"{'>' if frame.format.is_big_endian else '<'}{'f' if 'f32' in name or 'f16' in name else 'u'}{size}"
    packed = sum(part.plane == index for part in frame.format.components)
    rows = np.frombuffer(bytes(plane), kind).reshape(frame.height, plane.line_size // size)
    return rows[:, : frame.width * packed]


def _coloured(frame: VideoFrame, colour: Colour, *, eight_bits: bool) -> NDArray[Any]:
    """Picture of a frame with colours, without regard to its alpha."""
    height, width = frame.height, frame.width
    frame = _with_whole_chroma(frame)
    if (frame.height, frame.width) != (height, width):
        return _coloured(frame, colour, eight_bits=eight_bits)[:height, :width]
    frame.colorspace, frame.color_range = colour.matrix, colour.range
    if colour.siting_unsaid:
        frame = _with_chroma_at_the_left(frame)
    if eight_bits:
        return reformatted(frame, format="rgb24", interpolation=SWSCALE).to_ndarray()
    if is_rgb(frame.format):
        return reformatted(frame, format="rgb48le", interpolation=SWSCALE).to_ndarray()
    depth = frame.format.components[0].bits
    frame.color_range = LIMITED  # else swscale would scale full range to 16 bits, and not always by the same
    codes = reformatted(frame, format="yuv444p16le", interpolation=SWSCALE, dst_color_range=LIMITED).to_ndarray()
    matrix, zero, span = _equations(colour, depth)
    # Of H.273, eqs. (41) to (43) solved for R'G'B'.
    values = codes.astype(np.float32) / np.float32(2 ** (16 - depth)) - zero
    values = values / span @ np.linalg.inv(matrix).T.astype(np.float32)
    levels: NDArray[Any] = np.rint(np.clip(values, 0, 1) * np.float32(65535)).astype(np.uint16)
    return levels


def _with_whole_chroma(frame: VideoFrame) -> VideoFrame:
    """The frame, with columns and rows more where its last sample of chroma is of fewer pixels than the others.

    swscale would stretch the chroma over the pixels that there are: by half a sample at the far edge.
    """
    if frame.format.is_rgb or is_grey(frame.format):
        return frame
    across, down = 1024 // frame.format.chroma_width(1024), 1024 // frame.format.chroma_height(1024)
    width, height = -(-frame.width // across) * across, -(-frame.height // down) * down
    if (width, height) == (frame.width, frame.height):
        return frame
    larger = filtered(frame, "pad", f"{width}:{height}")  # which keeps what is said of the chroma, not all of it
    if larger.format.name != frame.format.name:
        return frame
    for new, old in zip(larger.planes, frame.planes, strict=True):
        rows = np.frombuffer(bytes(old), np.uint8).reshape(old.height, old.line_size)[:, : new.line_size]
        missing = (0, new.height - old.height), (0, new.line_size - rows.shape[1])
        new.update(np.pad(rows, missing, "edge").tobytes())
    return larger


def picture_of(
    rgb: NDArray[Any], colour: Colour, pixel_format: str, size: FrameSize | None = None, *, centred: bool = False
) -> VideoFrame:
    """A frame of a Y'CbCr format from (H, W, 3) R'G'B', uint8 or uint16; resized with Lanczos where a size is given.

    Its chroma lies at the left pixel of those that share it, as decoders expect it unless they are told otherwise;
    ``centred``: between them.
    """
    scaling: dict[str, Any] = {"interpolation": SWSCALE}
    if size is not None and size != FrameSize(*rgb.shape[:2]):
        scaling = {"width": size.width, "height": size.height, "interpolation": SWSCALE_LANCZOS}
    depth = VideoFormat(pixel_format).components[0].bits
    if depth == 8 and rgb.dtype == np.uint8 and colour.range != FULL:
        frame = VideoFrame.from_ndarray(rgb, format="rgb24")
        return reformatted(
            frame if centred else _with_chroma_at_the_left(frame),
            format=pixel_format,
            dst_colorspace=SWS_MATRIX[colour.matrix],
            dst_color_range=colour.range,
            **scaling,
        )
    matrix, zero, span = _equations(colour, depth)
    values = (rgb.astype(np.float32) / np.float32(np.iinfo(rgb.dtype).max)) @ matrix.T.astype(np.float32) * span + zero
    codes = np.rint(np.clip(values, 0, 2**depth - 1)).astype(np.uint8 if depth == 8 else np.uint16)
    height, width, _ = rgb.shape
    frame = VideoFrame(width, height, "yuv444p" if depth == 8 else f"yuv444p{depth}le")
    for plane, values in zip(frame.planes, np.moveaxis(codes, 2, 0), strict=True):
        rows = np.zeros((height, plane.line_size // codes.itemsize), codes.dtype)
        rows[:, :width] = values
        plane.update(rows.tobytes())
    frame.colorspace, frame.color_range = colour.matrix, colour.range
    sited = frame if centred else _with_chroma_at_the_left(frame)
    return reformatted(sited, format=pixel_format, dst_color_range=colour.range, **scaling)


def resized(rgb: NDArray[Any], size: FrameSize) -> NDArray[Any]:
    """(H, W, 3) R'G'B', uint8 or uint16, at a size, by Lanczos's filter, widened where it shrinks."""
    if size == FrameSize(*rgb.shape[:2]):
        return rgb
    name = "rgb24" if rgb.dtype == np.uint8 else "rgb48le"
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format=name)
    levels: NDArray[Any] = reformatted(
        frame, width=size.width, height=size.height, interpolation=SWSCALE_LANCZOS
    ).to_ndarray()
    return levels


def _with_chroma_at_the_left(frame: VideoFrame) -> VideoFrame:
    """The frame, saying so of its own chroma and of that of what is made of it."""
    return filtered(frame, "setparams", "chroma_location=left")


def _equations(colour: Colour, depth: int) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
    """Matrix from R'G'B' to Y'PbPr, code values of (0, 0, 0), and how many code values a unit is."""
    red, blue = LUMA_WEIGHTS[colour.matrix]
    luma = np.array([red, 1 - red - blue, blue])
    rows = [luma, (np.array([0, 0, 1]) - luma) / (2 * (1 - blue)), (np.array([1, 0, 0]) - luma) / (2 * (1 - red))]
    middle = 2.0 ** (depth - 1)
    if colour.range == FULL:
        zero, span = (0.0, middle, middle), (2.0**depth - 1,) * 3
    else:
        unit = 2.0 ** (depth - 8)
        zero, span = (16 * unit, middle, middle), (219 * unit, 224 * unit, 224 * unit)
    return np.stack(rows), np.array(zero, np.float32), np.array(span, np.float32)
