"""Single pictures: what FFmpeg decodes is read; PNG, JPEG and WebP are written."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.codec.context import CodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import FrameSize, values_of
from ksnet_deploy.video.colour import Colour
from ksnet_deploy.video.conversion import picture_of, rgb_of
from ksnet_deploy.video.jpeg import JPEG_FORMATS, rgb_of_jpeg
from ksnet_deploy.video.reading.pages import check_picture
from ksnet_deploy.video.reading.sources import reason_of
from ksnet_deploy.video.webp import rgb_of_webp

__all__ = ["picture_size", "read_picture", "write_picture", "write_png"]

JFIF = Colour(matrix=5, range=2, primaries=2, transfer=2)
"""BT.601 in full range, as JPEG/JFIF has it."""
JPEG_QUANTISER = "2"
"""FFmpeg's scale, from 1 for the best to 31; 4:4:4, so that no colour is thinned out."""
WEBP_QUALITY = "95"
"""libwebp's scale, to 100 for the best."""


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture as (H, W, 3) RGB, as the field's tools read it: 16-bit levels by v / 257 rounded, JPEG as by libjpeg
    and WebP as by libwebp.

    Raises:
        InputError: it cannot be decoded, or not rightly.
    """
    try:
        check_picture(path)
        with av.open(f"file:{path}") as container:
            context = container.streams.video[0].codec_context
            context.options = {"err_detect": "explode"}  # else a cut JPEG turns grey
            for frame in container.decode(video=0):
                if frame.is_corrupt:
                    break
                if context.name == "mjpeg" and frame.format.name in JPEG_FORMATS:
                    return rgb_of_jpeg(frame)
                if context.name == "webp" and frame.format.name == "yuv420p":
                    return rgb_of_webp(frame)
                deep = frame.format.components[0].bits > 8  # only then: swscale does not widen 8 bits and back exactly
                return values_of(rgb_of(frame, Colour.of(frame, context.name), eight_bits=not deep), "uint8")
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise InputError(f"the picture {path} cannot be decoded ({reason_of(error)}); replace it") from error
    raise InputError(f"the picture {path} is damaged; replace it")


def picture_size(path: Path) -> FrameSize:
    """Size of a picture from its header. Raises InputError when there is none."""
    try:
        with av.open(f"file:{path}") as container:
            context = container.streams.video[0].codec_context
            size = context.height, context.width
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise InputError(f"the picture {path} cannot be read ({reason_of(error)}); replace it") from error
    if 0 in size:
        raise InputError(f"the picture {path} is damaged; replace it")
    return FrameSize(*size)


def write_picture(path: Path, suffix: str, levels: NDArray[Any]) -> None:
    """Save a picture, as PNG without loss, as JPEG or WebP with one that is hard to see.

    Args:
        suffix: one of :data:`ksnet_deploy.video.kinds.PICTURE_OUTPUTS`, whatever the path ends in.
        levels: (H, W, 3) or grey (H, W), uint8 or uint16; JPEG and WebP take 8 bits of the latter.

    Raises:
        av.error.FFmpegError, OSError: it cannot be written.
    """
    if suffix == ".png":
        write_png(path, levels)
        return
    rgb = values_of(levels if levels.ndim == 3 else np.repeat(levels[..., None], 3, axis=2), "uint8")
    if suffix == ".webp":
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(format="bgra")
        path.write_bytes(_encoded(frame, "libwebp", {"quality": WEBP_QUALITY}))
    else:
        frame = picture_of(rgb, JFIF, "yuv444p", centred=True)
        path.write_bytes(_encoded(frame, "mjpeg", {"qmin": JPEG_QUANTISER, "qmax": JPEG_QUANTISER}))


def write_png(path: Path, levels: NDArray[Any]) -> None:
    """Save an (H, W, 3) or a grey (H, W) picture, uint8 or uint16."""
    deep, grey = levels.dtype == np.uint16, levels.ndim == 2
    name = ("gray16" if grey else "rgb48") if deep else ("gray" if grey else "rgb24")
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(levels), format=f"{name}le" if deep else name)
    path.write_bytes(_encoded(frame.reformat(format=f"{name}be") if deep else frame, "png", {}))


def _encoded(frame: VideoFrame, codec: str, options: dict[str, str]) -> bytes:
    """The file that an encoder of pictures makes of a frame."""
    context: Any = CodecContext.create(codec, "w")
    context.height, context.width, context.pix_fmt = frame.height, frame.width, frame.format.name
    context.time_base, context.color_range, context.options = Fraction(1, 25), frame.color_range, options
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])
