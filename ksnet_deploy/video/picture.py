"""Single pictures: PNG, JPEG and what else FFmpeg decodes."""

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
from ksnet_deploy.video.conversion import rgb_of
from ksnet_deploy.video.jpeg import JPEG_FORMATS, rgb_of_jpeg
from ksnet_deploy.video.reading.sources import reason_of

__all__ = ["picture_size", "read_picture", "write_png"]


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture as (H, W, 3) RGB, as the field's tools read it: 16-bit levels by v / 257 rounded, JPEG as by libjpeg.

    Raises:
        InputError: it cannot be decoded.
    """
    try:
        with av.open(f"file:{path}") as container:
            context = container.streams.video[0].codec_context
            context.options = {"err_detect": "explode"}  # else a cut JPEG turns grey
            for frame in container.decode(video=0):
                if frame.is_corrupt:
                    break
                if context.name == "mjpeg" and frame.format.name in JPEG_FORMATS:
                    return rgb_of_jpeg(frame)
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


def write_png(path: Path, rgb: NDArray[Any]) -> None:
    """Save an (H, W, 3) picture, uint8 or uint16."""
    rgb = np.ascontiguousarray(rgb)
    if rgb.dtype == np.uint8:
        VideoFrame.from_ndarray(rgb, format="rgb24").save(path)
        return
    frame = VideoFrame.from_ndarray(rgb, format="rgb48le").reformat(format="rgb48be")
    context: Any = CodecContext.create("png", "w")
    context.height, context.width, context.pix_fmt = frame.height, frame.width, "rgb48be"
    context.time_base = Fraction(1, 25)
    path.write_bytes(b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)]))
