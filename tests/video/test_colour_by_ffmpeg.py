"""Colour against the ffmpeg program and its zscale filter, an independent reference."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from colours import DEPTHS, MATRICES, RANGES, decoded, encoded, pixel_format, to_ycbcr, write_ycbcr
from numpy.typing import NDArray

import ksnet_deploy
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.video.reading.reader import VideoReader

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
