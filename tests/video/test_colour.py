"""Colour: decoding and encoding against the equations of the standards, in float64."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

import ksnet_deploy
from ksnet_deploy.base.frames import FrameSize, levels_of, values_of
from ksnet_deploy.video.colour import Colour
from ksnet_deploy.video.conversion import rgb_of
from ksnet_deploy.video.reading.reader import Frame, VideoReader
from ksnet_deploy.video.writing.encoding import FrameEncoder, PictureFormat
from ksnet_deploy.video.writing.presets import choose_encoder

SIZE = FrameSize(32, 48)
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


FFMPEG = shutil.which("ffmpeg")
ZSCALE_MATRICES = {1: "709", 6: "170m", 9: "2020_ncl"}
SUBSAMPLING = {"420": (2, 2), "422": (1, 2), "444": (1, 1)}
"""(Rows, columns) that share a sample of chroma."""
CROP = FrameSize(64, 96)
BORDER_PX = 8
"""Of the picture, left out of comparisons: there swscale and zimg make up different pixels for what lies outside."""


def zscale(picture: bytes, layouts: tuple[str, str], matrix: int, colour_range: int) -> bytes:
    """A raw picture of CROP's size from one of FFmpeg's formats to another: by its program, with zimg's arithmetic.

    One of the formats is Y'CbCr, with chroma at the left, the other planar R'G'B'; the filter is swscale's bicubic.
    """
    coded, plain = (
        f"matrix{{}}={ZSCALE_MATRICES[matrix]}:range{{}}={('limited', 'full')[colour_range - 1]}",
        ("matrix{}=gbr:range{}=full"),
    )
    source, target = (coded, plain) if layouts[0].startswith("yuv") else (plain, coded)
    same = ":".join(f"{what}in=709:{what}=709" for what in ("primaries", "transfer"))
    how = "chromalin=left:chromal=left:filter=bicubic:param_a=0:param_b=0.6:dither=none"
    chain = f"zscale={source.format('in', 'in')}:{target.format('', '')}:{same}:{how},format={layouts[1]}"
    raw = ["-f", "rawvideo", "-pix_fmt"]
    command = [str(FFMPEG), "-v", "error", *raw, layouts[0], "-s", f"{CROP.width}x{CROP.height}", "-i", "-"]
    run = subprocess.run(
        [*command, "-vf", chain, *raw, layouts[1], "-"], input=picture, capture_output=True, check=False
    )
    if b"No such filter: 'zscale'" in run.stderr:
        pytest.skip("this build of the ffmpeg program has no zscale, and its swscale is no reference")
    assert not run.stderr, run.stderr.decode()
    return run.stdout


def photo() -> NDArray[np.float64]:
    """(3, H, W) R'G'B' in [0, 1]: a part of the bundled clip, and below it flat patches.

    Their colours are not so strong that what the filters overshoot between them is cut off: zimg keeps it, in float.
    """
    with VideoReader(Path(ksnet_deploy.__file__).parent / "bundled" / "city_hr.mp4") as reader:
        rgb = next(iter(reader.frames())).rgb[100 : 100 + CROP.height, 200 : 200 + CROP.width] / 255
    levels = np.array(np.meshgrid(*[[0.15, 0.5, 0.85]] * 3, indexing="ij")).reshape(3, 27)[:, 1:25]
    patches = levels.reshape(3, 2, 12).repeat(16, 1).repeat(8, 2)
    return np.concatenate([rgb.transpose(2, 0, 1)[:, : CROP.height // 2], patches], axis=1)


def planar(raw: bytes, layout: str) -> list[NDArray[np.float64]]:
    """The planes of a raw picture of CROP's size; R, G and B are put into this order."""
    kind = av.VideoFormat(layout)
    flat = np.frombuffer(raw, np.uint8 if kind.components[0].bits == 8 else np.uint16).astype(np.float64)
    of_chroma = kind.chroma_height(CROP.height), kind.chroma_width(CROP.width)
    height, width = (CROP.height, CROP.width) if kind.is_rgb else of_chroma
    shapes = [(CROP.height, CROP.width), (height, width), (height, width)]
    parts = np.split(flat, np.cumsum([h * w for h, w in shapes])[:2])
    found = [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
    return [found[2], found[0], found[1]] if kind.is_rgb else found


def worst(found: Sequence[NDArray[np.float64]], expected: Sequence[NDArray[np.float64]]) -> float:
    """The greatest difference in levels, the border left out."""
    apart = []
    for a, b in zip(found, expected, strict=True):
        rows, columns = BORDER_PX * a.shape[0] // CROP.height, BORDER_PX * a.shape[1] // CROP.width
        apart.append(np.abs(a - b)[rows:-rows, columns:-columns].max())
    return float(max(apart))


@pytest.mark.skipif(FFMPEG is None, reason="the ffmpeg program is not installed")
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("colour_range", RANGES)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("chroma", SUBSAMPLING)
def test_decoding_and_encoding_agree_with_the_ffmpeg_program(
    tmp_path: Path, matrix: int, colour_range: int, depth: int, chroma: str
) -> None:
    layout, plain = pixel_format(chroma, depth), "gbrp" if depth == 8 else "gbrp16le"
    rows, columns = SUBSAMPLING[chroma]
    codes = np.rint(to_ycbcr(photo(), matrix, colour_range, depth).clip(0, 2**depth - 1))
    y, cb, cr = codes.astype(np.uint16)
    planes = [y, cb[::rows, ::columns], cr[::rows, ::columns]]
    path = write_ycbcr(tmp_path / "v.mkv", planes, matrix, colour_range, layout)
    raw = b"".join(plane.astype(np.uint8 if depth == 8 else np.uint16).tobytes() for plane in planes)

    rgb = decoded(path)
    level = 1 if depth == 8 else 65535 / 1023
    expected = zscale(raw, (layout, plain), matrix, colour_range)
    decoding = worst(list(np.moveaxis(rgb / level, 2, 0)), [plane / level for plane in planar(expected, plain)])

    source = np.ascontiguousarray(np.moveaxis(rgb[..., [1, 2, 0]], 2, 0)).tobytes()
    found = encoded(rgb, matrix, colour_range, layout)
    encoding = worst(found, planar(zscale(source, (plain, layout), matrix, colour_range), layout))
    both = worst(found, planar(zscale(expected, (plain, layout), matrix, colour_range), layout))
    assert max(decoding, encoding, both) <= 1
