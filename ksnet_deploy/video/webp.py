"""Lossy WebP's Y'CbCr to RGB as libwebp has it, which other tools of the field read pictures with.

FFmpeg decodes the samples; its enlargement of the chroma differs from libwebp's "fancy upsampling", which is that of
libjpeg, by up to a hundred levels at coloured edges. What remains here against libwebp is its rounding: 0.3 levels in
the mean, 3 at most.
"""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ksnet_deploy.video.jpeg import samples_of, twice_as_large

__all__ = ["rgb_of_webp"]


def rgb_of_webp(frame: VideoFrame) -> NDArray[np.uint8]:
    """A decoded lossy WebP without transparency, ``yuv420p``, as (H, W, 3) RGB; the factors are those of libwebp's
    ``yuv.h``, BT.601 in limited range."""
    luma = samples_of(frame, 0)
    cb, cr = (twice_as_large(samples_of(frame, index))[: luma.shape[0], : luma.shape[1]] for index in (1, 2))
    bright = (luma * 19077) >> 8
    red = bright + ((cr * 26149) >> 8) - 14234
    green = bright - ((cb * 6419) >> 8) - ((cr * 13320) >> 8) + 8708
    blue = bright + ((cb * 33050) >> 8) - 17685
    rgb: NDArray[np.uint8] = np.clip(np.stack((red, green, blue), axis=-1) >> 6, 0, 255).astype(np.uint8)
    return rgb
