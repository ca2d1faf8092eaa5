"""JPEG's Y'CbCr to RGB as libjpeg has it, which other tools of the field read pictures with.

FFmpeg decodes the coefficients; its enlargement of the chroma differs from libjpeg's "fancy upsampling" by up to a
hundred levels at coloured edges. Here it is libjpeg's: a triangle filter over the two nearest samples in each
direction, in integers. What remains against libjpeg-turbo comes of the inverse DCT: 0.1 levels in the mean, 3 at most;
progressive files are the same. CMYK is FFmpeg's: 1.0 levels darker than Pillow has it in the mean, 2 at most.
"""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

__all__ = ["JPEG_FORMATS", "rgb_of_jpeg", "samples_of", "twice_as_large"]

JPEG_FORMATS = ("yuvj444p", "yuvj422p", "yuvj420p")
"""Formats that are converted; other samplings of the chroma are left to swscale."""

Samples = NDArray[np.int32]


def rgb_of_jpeg(frame: VideoFrame) -> NDArray[np.uint8]:
    """A decoded JPEG of one of ``JPEG_FORMATS`` as (H, W, 3) RGB."""
    y, *chroma = (samples_of(frame, index) for index in range(3))
    if frame.format.name != "yuvj444p":
        enlarge = _twice_as_wide if frame.format.name == "yuvj422p" else twice_as_large
        chroma = [enlarge(plane) for plane in chroma]
    cb, cr = (plane[: y.shape[0], : y.shape[1]] - 128 for plane in chroma)
    red = y + ((_fixed(1.402) * cr + HALF) >> 16)
    green = y + ((-_fixed(0.344136286) * cb - _fixed(0.714136286) * cr + HALF) >> 16)
    blue = y + ((_fixed(1.772) * cb + HALF) >> 16)
    rgb: NDArray[np.uint8] = np.clip(np.stack((red, green, blue), axis=-1), 0, 255).astype(np.uint8)
    return rgb


HALF = 1 << 15


def _fixed(factor: float) -> int:
    return int(factor * 65536 + 0.5)


def samples_of(frame: VideoFrame, index: int) -> Samples:
    """(H, W) of a plane of 8-bit samples."""
    plane = frame.planes[index]
    rows = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width].astype(np.int32)


def _twice_as_wide(plane: Samples) -> Samples:
    """(H, W) -> (H, 2 W): three quarters of the nearer sample, a quarter of the farther one."""
    before, after = _neighbours(plane, axis=1)
    wide = np.empty((plane.shape[0], 2 * plane.shape[1]), np.int32)
    wide[:, 0::2] = (3 * plane + before + 1) >> 2
    wide[:, 1::2] = (3 * plane + after + 2) >> 2
    return wide


def twice_as_large(plane: Samples) -> Samples:
    """(H, W) -> (2 H, 2 W): of the four nearest samples 9, 3, 3 and 1 sixteenths, rounded once."""
    above, below = _neighbours(plane, axis=0)
    rows = np.empty((2 * plane.shape[0], plane.shape[1]), np.int32)
    rows[0::2] = 3 * plane + above
    rows[1::2] = 3 * plane + below
    before, after = _neighbours(rows, axis=1)
    large = np.empty((rows.shape[0], 2 * rows.shape[1]), np.int32)
    large[:, 0::2] = (3 * rows + before + 8) >> 4
    large[:, 1::2] = (3 * rows + after + 7) >> 4
    return large


def _neighbours(plane: Samples, axis: int) -> tuple[Samples, Samples]:
    """The samples before and after each, the edge repeated."""
    pad = [(1, 1) if each == axis else (0, 0) for each in range(2)]
    padded, length = np.pad(plane, pad, mode="edge"), plane.shape[axis]
    return np.take(padded, range(length), axis), np.take(padded, range(2, length + 2), axis)
