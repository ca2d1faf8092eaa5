"""The equations of the standards, written anew, and frames by them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.video.colour import Colour
from ksnet_deploy.video.reading.reader import Frame, VideoReader
from ksnet_deploy.video.writing.encoding import FrameEncoder, PictureFormat
from ksnet_deploy.video.writing.presets import choose_encoder

KR_KB = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
"""Of BT.709, BT.601 and BT.2020 with non-constant luminance."""
MATRICES = [pytest.param(1, id="709"), pytest.param(6, id="601"), pytest.param(9, id="2020")]
RANGES = [pytest.param(1, id="limited"), pytest.param(2, id="full")]
DEPTHS = [8, 10]


def scales(colour_range: int, depth: int) -> tuple[float, float, float, float]:
    """Offset and span of luma, middle and span of chroma."""
    if colour_range == 2:
        most = 2.0**depth - 1
        return 0.0, most, 2.0 ** (depth - 1), most
    unit = 2.0 ** (depth - 8)
    return 16 * unit, 219 * unit, 128 * unit, 224 * unit


def to_ycbcr(rgb: NDArray[np.float64], matrix: int, colour_range: int, depth: int) -> NDArray[np.float64]:
    """(3, H, W) R'G'B' in [0, 1] to code values, not rounded; ITU-R BT.601, BT.709, BT.2020."""
    kr, kb = KR_KB[matrix]
    y = kr * rgb[0] + (1 - kr - kb) * rgb[1] + kb * rgb[2]
    offset, span, middle, chroma_span = scales(colour_range, depth)
    cb, cr = (rgb[2] - y) / (2 * (1 - kb)), (rgb[0] - y) / (2 * (1 - kr))
    return np.stack([offset + span * y, middle + chroma_span * cb, middle + chroma_span * cr])


def pixel_format(chroma: str, depth: int) -> str:
    return f"yuv{chroma}p" + ("10le" if depth == 10 else "")


def write_ycbcr(
    path: Path,
    planes: Sequence[NDArray[np.uint16]],
    matrix: int,
    colour_range: int,
    layout: str,
    codec: str = "ffv1",
    options: dict[str, str] | None = None,
) -> Path:
    """A lossless file of one frame with these code values."""
    (height, width), depth = planes[0].shape, av.VideoFormat(layout).components[0].bits
    frame = av.VideoFrame(width, height, layout)
    for plane, values in zip(frame.planes, planes, strict=True):
        typed = values.astype(np.uint8 if depth == 8 else np.uint16)
        rows = np.zeros((plane.height, plane.line_size // typed.itemsize), typed.dtype)
        rows[:, : plane.width] = typed
        plane.update(rows.tobytes())
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width, stream.pix_fmt = height, width, layout
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, colour_range
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decoded(path: Path) -> NDArray[np.uint16 | np.uint8]:
    """(H, W, 3) of the first frame."""
    with VideoReader(path) as reader:
        return next(iter(reader.frames())).rgb


def encoded(rgb: NDArray[np.uint8 | np.uint16], matrix: int, colour_range: int, pixel_format: str) -> list[np.ndarray]:
    """The planes that an encoder is given for a frame, read back from its lossless packet."""
    picture = PictureFormat(
        FrameSize(*rgb.shape[:2]), pixel_format, Colour(matrix, colour_range, 2, 2), Fraction(1, 25), Fraction(25)
    )
    encoder = FrameEncoder(choose_encoder("ffv1"), picture)
    packets = encoder.encode(Frame(rgb, 0)) + encoder.finish()
    decoder = av.CodecContext.create("ffv1", "r")
    decoder.extradata = encoder.header
    decoder.width, decoder.height = rgb.shape[1], rgb.shape[0]
    frame = (decoder.decode(av.Packet(packets[0].data)) + decoder.decode(None))[0]
    assert frame.format.name == pixel_format
    kind = np.uint8 if frame.format.components[0].bits == 8 else np.uint16
    return [np.frombuffer(bytes(p), kind).reshape(p.height, -1)[:, : p.width].astype(np.float64) for p in frame.planes]
