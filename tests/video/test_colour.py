"""Colour: decoding and encoding against the equations of the standards, in float64."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from colours import DEPTHS, KR_KB, MATRICES, RANGES, decoded, encoded, pixel_format, scales, to_ycbcr, write_ycbcr
from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize, levels_of, values_of
from ksnet_deploy.video.colour import Colour
from ksnet_deploy.video.conversion import rgb_of
from ksnet_deploy.video.reading.reader import VideoReader

SIZE = FrameSize(32, 48)


def to_rgb(codes: NDArray[np.float64], matrix: int, colour_range: int, depth: int) -> NDArray[np.float64]:
    kr, kb = KR_KB[matrix]
    offset, span, middle, chroma_span = scales(colour_range, depth)
    y, cb, cr = (codes[0] - offset) / span, (codes[1] - middle) / chroma_span, (codes[2] - middle) / chroma_span
    r, b = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    return np.stack([r, (y - kr * r - kb * b) / (1 - kr - kb), b])


def natural(depth: int) -> NDArray[np.uint16]:
    """(3, H, W) smooth colours with some texture, as levels of the depth, away from the borders of the gamut."""
    y, x = np.mgrid[: SIZE.height, : SIZE.width] / 16.0
    rgb = np.stack([0.5 + 0.3 * np.sin(x + 0.5 * y), 0.5 + 0.3 * np.sin(1.3 * y - x), 0.5 + 0.3 * np.cos(x * y / 2)])
    rgb += np.random.default_rng(0).uniform(-0.05, 0.05, rgb.shape)
    return np.rint(rgb * (2**depth - 1)).astype(np.uint16)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("colour_range", RANGES)
@pytest.mark.parametrize("depth", DEPTHS)
def test_decoding_follows_the_standards(tmp_path: Path, matrix: int, colour_range: int, depth: int) -> None:
    codes = np.rint(to_ycbcr(natural(depth) / (2**depth - 1), matrix, colour_range, depth))
    path = write_ycbcr(tmp_path / "v.mkv", codes.astype(np.uint16), matrix, colour_range, pixel_format("444", depth))
    rgb = decoded(path)
    assert rgb.dtype == (np.uint8 if depth == 8 else np.uint16)
    expected = to_rgb(codes, matrix, colour_range, depth).transpose(1, 2, 0).clip(0, 1) * (2**depth - 1)
    found = rgb / np.iinfo(rgb.dtype).max * (2**depth - 1)
    assert np.abs(found - expected).max() <= 1.0


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("colour_range", RANGES)
@pytest.mark.parametrize("depth", DEPTHS)
def test_encoding_follows_the_standards(matrix: int, colour_range: int, depth: int) -> None:
    levels = natural(depth)
    rgb = levels_of(np.float32(levels / (2**depth - 1)), np.dtype(np.uint8 if depth == 8 else np.uint16))
    planes = encoded(
        np.ascontiguousarray(rgb.transpose(1, 2, 0)), matrix, colour_range, "yuv444p" if depth == 8 else "yuv444p10le"
    )
    expected = to_ycbcr(levels / (2**depth - 1), matrix, colour_range, depth)
    assert np.abs(np.stack(planes) - expected).max() <= 1.0


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("colour_range", RANGES)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("chroma", ["420", "422", "444"])
def test_grey_stays_grey_to_the_level(matrix: int, colour_range: int, depth: int, chroma: str) -> None:
    most = 2**depth - 1
    for level in (0, 1, most // 5, most // 2, most - 1, most):
        value = level * (255 // 255) if depth == 8 else round(level * 65535 / most)
        rgb = np.full((16, 16, 3), value, np.uint8 if depth == 8 else np.uint16)
        y, cb, cr = encoded(rgb, matrix, colour_range, f"yuv{chroma}p" + ("10le" if depth == 10 else ""))
        offset, span, middle, _ = scales(colour_range, depth)
        assert np.abs(y - (offset + span * level / most)).max() <= 1.0
        np.testing.assert_array_equal(cb, middle)
        np.testing.assert_array_equal(cr, middle)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("colour_range", RANGES)
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_picture_goes_through_decoding_and_encoding_within_a_level(
    tmp_path: Path, matrix: int, colour_range: int, depth: int
) -> None:
    codes = np.rint(to_ycbcr(natural(depth) / (2**depth - 1), matrix, colour_range, depth)).astype(np.uint16)
    path = write_ycbcr(tmp_path / "v.mkv", codes, matrix, colour_range, pixel_format("444", depth))
    planes = encoded(decoded(path), matrix, colour_range, "yuv444p" if depth == 8 else "yuv444p10le")
    assert np.abs(np.stack(planes) - codes).max() <= 1.0


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_told_from_its_tags(tmp_path: Path, transfer: int, name: str) -> None:
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = SIZE.height, SIZE.width, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = 9, 1, 9, transfer
        container.mux(stream.encode(av.VideoFrame(SIZE.width, SIZE.height, "yuv420p10le")))
        container.mux(stream.encode(None))
    with VideoReader(path) as reader:
        assert (reader.colour.is_hdr, reader.colour.transfer_name) == (True, name)
        assert (reader.depth, reader.chroma) == (10, "420")


@pytest.mark.parametrize(("size", "matrix"), [("480x720", 6), ("576x720", 6), ("720x1280", 1), ("1280x720", 1)])
def test_an_untagged_matrix_follows_the_size(tmp_path: Path, size: str, matrix: int) -> None:
    frame_size = FrameSize.parse(size)
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = frame_size.height, frame_size.width, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(frame_size.width, frame_size.height, "yuv420p")))
        container.mux(stream.encode(None))
    with VideoReader(path) as reader:
        assert (reader.colour.matrix, reader.colour.guessed) == (matrix, True)


def test_frame_types_keep_the_levels() -> None:
    deep = np.arange(65536, dtype=np.uint16).reshape(64, 1024)
    np.testing.assert_array_equal(levels_of(values_of(deep, "float32"), np.dtype(np.uint16)), deep)
    shallow = np.arange(256, dtype=np.uint8)
    for io in ("uint8", "float16", "float32"):
        np.testing.assert_array_equal(levels_of(values_of(shallow, io), np.dtype(np.uint8)), shallow)
    np.testing.assert_array_equal(values_of(deep, "uint8"), np.rint(deep / 65535 * 255))
    np.testing.assert_array_equal(levels_of(shallow, np.dtype(np.uint16)), shallow * np.uint16(257))
    overshoot = np.array([-0.2, 0.0, 1.0, 1.3], np.float32)
    np.testing.assert_array_equal(levels_of(overshoot, np.dtype(np.uint8)), [0, 0, 255, 255])


WIDE = FrameSize(32, 72)
"""Of frames that libx265 takes."""
RAMP = 70 + 1.5 * np.arange(WIDE.width)
"""Code values of chroma, 8 bits, from the left to the right: every symmetric filter leaves it as it is."""


@pytest.mark.parametrize(
    ("codec", "layout", "options"),
    [
        ("libx264", "yuv420p", {"qp": "0"}),
        ("libx264", "yuv422p", {"qp": "0"}),
        ("libx265", "yuv420p10le", {"x265-params": "lossless=1:log-level=none"}),
        ("libx265", "yuv422p", {"x265-params": "lossless=1:log-level=none"}),  # the rest does not say where it lies
        ("libvpx-vp9", "yuv420p", {"lossless": "1"}),
        ("libvpx", "yuv420p", {"crf": "4", "b": "4M"}),
        ("libsvtav1", "yuv420p", {"crf": "2", "preset": "10"}),
        ("prores_ks", "yuv422p10le", {}),
        ("ffv1", "yuv420p", {}),
    ],
)
def test_chroma_is_read_at_the_left_pixel(tmp_path: Path, codec: str, layout: str, options: dict[str, str]) -> None:
    """Half a pixel beside, the ramp is 0.75 levels off."""
    unit = 4 if "10" in layout else 1
    grey = np.full((WIDE.height, WIDE.width), 128 * unit)
    rows = slice(None, None, 2 if "420" in layout else 1)
    planes = [grey, np.broadcast_to(RAMP * unit, grey.shape)[rows, ::2], grey[rows, ::2]]
    rgb = decoded(write_ycbcr(tmp_path / "v.mkv", planes, 1, 1, layout, codec, options))
    chroma = to_ycbcr(np.moveaxis(rgb / np.iinfo(rgb.dtype).max, 2, 0), 1, 1, 8)[1]
    assert abs((chroma - RAMP)[:, 8:-8].mean()) < 0.2


@pytest.mark.parametrize(
    ("layout", "across", "down"),
    [("yuv420p", 2, 2), ("yuv422p", 2, 1), ("yuv411p", 4, 1), ("yuv440p", 1, 2), ("yuv420p10le", 2, 2), ("nv12", 2, 2)],
)
@pytest.mark.parametrize("said", [False, True])
def test_chroma_is_not_stretched_in_frames_of_odd_size(layout: str, across: int, down: int, said: bool) -> None:
    """Where the last sample is of fewer pixels than the others, as in all frames of such a size."""
    frame, kind = VideoFrame(73, 35, layout), np.uint16 if "10" in layout else np.uint8
    ramp = 70 + 1.5 * (np.arange(73)[None] if across > 1 else np.arange(35)[:, None])
    for index, plane in enumerate(frame.planes):
        values = np.full((plane.height, plane.line_size // kind().itemsize), 128.0)
        if index == 1:
            step = 2 if layout == "nv12" else 1
            shared = ramp[:, ::across] if across > 1 else ramp[::down]
            width = -(-73 // across)
            values[:, : step * width : step] = shared[:, :width] if across > 1 else shared[: plane.height]
        plane.update((values * (4 if kind == np.uint16 else 1)).astype(kind).tobytes())
    rgb = rgb_of(frame, Colour(1, 1, 1, 1, siting_unsaid=said), eight_bits=kind == np.uint8)
    assert rgb.shape == (35, 73, 3)
    found = to_ycbcr(np.moveaxis(rgb / np.iinfo(rgb.dtype).max, 2, 0), 1, 1, 8)[1]
    difference = found - ramp
    start, end = (difference[:, 8:16], difference[:, -12:-4]) if across > 1 else (difference[8:12], difference[-9:-5])
    assert abs(start.mean() - end.mean()) < 0.25


@pytest.mark.parametrize("colour_range", RANGES)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("chroma", ["420", "422"])
def test_chroma_is_written_at_the_left_pixel(colour_range: int, depth: int, chroma: str) -> None:
    unit = 2 ** (depth - 8)
    cb = np.broadcast_to(RAMP * unit, (WIDE.height, WIDE.width))
    rgb = to_rgb(np.stack([np.full_like(cb, 128 * unit), cb, np.full_like(cb, 128 * unit)]), 1, colour_range, depth)
    levels = levels_of(np.float32(np.moveaxis(rgb, 0, 2)), np.dtype(np.uint8 if depth == 8 else np.uint16))
    found = encoded(np.ascontiguousarray(levels), 1, colour_range, pixel_format(chroma, depth))[1]
    assert abs((found / unit - RAMP[::2])[:, 8:-8].mean()) < 0.2
