"""A clip through an encoder and back."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import moving_grain

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.video.colour import Colour, usual_matrix
from ksnet_deploy.video.compression import CODECS, CodecName, Compression, _encoded, compress
from ksnet_deploy.video.conversion import picture_of
from ksnet_deploy.video.reading.reader import VideoReader

RANGES = {"h264": (16, 36), "hevc": (18, 38), "vp9": (24, 60), "mpeg2": (2, 20), "mjpeg": (2, 20)}
"""Nearly lossless and poor."""
SMALL = [(2, 2), (15, 21), (45, 80)]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", SMALL)
def test_frames_of_any_size_come_back_where_they_were(codec: CodecName, size: tuple[int, int]) -> None:
    lr = moving_grain(5, *size)
    best = RANGES[codec][0]
    found = compress(lr, Compression(codec, best, gop=2))
    assert found.shape == lr.shape
    assert found.dtype == np.uint8
    if size == SMALL[-1]:
        quality = {
            shift: psnr(np.roll(found, shift, axis=(1, 2))[:, 8:-8, 8:-8], lr[:, 8:-8, 8:-8])
            for shift in [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        }
        assert max(quality, key=lambda shift: quality[shift]) == (0, 0)
        assert quality[0, 0] > 30, "nearly lossless"


@pytest.mark.parametrize("codec", CODECS)
def test_quality_is_the_codecs_own_number(codec: CodecName) -> None:
    lr = moving_grain(6, 46, 64)
    best, poorest = RANGES[codec]
    found = [psnr(compress(lr, Compression(codec, q)), lr) for q in (best, (best + poorest) // 2, poorest)]
    assert found[0] > found[1] + 1
    assert found[1] > found[2] + 1
    with pytest.raises(ConfigError, match=f"{codec} has qualities from .* not 99"):
        Compression(codec, 99)


@pytest.mark.parametrize("quality", [1, 2, 5, 20, 31])
def test_a_quantizer_is_the_one_of_every_frame(quality: int) -> None:
    lr = moving_grain(7, 48, 64)
    for packet in _encoded(lr, Compression("mjpeg", quality, gop=1), Colour(6, 2, 2, 2)):
        data = bytes(packet)
        table = data.index(b"\xff\xdb") + 5  # marker, length, number of the table
        assert data[table + 1] == 2 * quality, "FFmpeg's matrix has 16 there, in eighths"
    packets = _encoded(lr, Compression("mpeg2", quality, gop=12), Colour(6, 1, 2, 2))
    kinds = set()
    for packet in packets:
        data = bytes(packet)
        picture = data.index(b"\x00\x00\x01\x00")
        kinds.add("?IPB"[data[picture + 5] >> 3 & 7])
        slices = [data.index(b"\x00\x00\x01" + bytes([row]), picture + 4) for row in (1, 2, 3)]
        assert [data[start + 4] >> 3 for start in slices] == [quality] * 3
    assert kinds == {"I", "P", "B"}


@pytest.mark.parametrize("codec", CODECS)
def test_what_comes_out_is_what_upscale_reads_of_such_a_video(codec: CodecName, tmp_path: Path) -> None:
    lr = moving_grain(4, 48, 64)
    found = compress(lr, Compression(codec, CODECS[codec].default, gop=2))
    path = tmp_path / ("clip.avi" if codec in {"mjpeg", "mpeg2"} else "clip.mkv")
    write(path, lr, codec)
    with VideoReader(path) as reader:
        read = np.stack([frame.rgb for frame in reader.frames()])
    np.testing.assert_array_equal(found, read)


def write(path: Path, lr: np.ndarray, codec: CodecName) -> None:
    """The same encoder with the same settings, into a file, which tells its reader about colour."""
    known, quality = CODECS[codec], CODECS[codec].default
    options = {
        "h264": {
            "crf": str(quality),
            "x264-params": "sliced-threads=0:asm=MMX2,SSE2Fast,SSSE3,SSE4.2,AVX,FMA3,BMI2,AVX2",
        },
        "hevc": {"crf": str(quality), "x265-params": "log-level=none:info=0:pools=none:frame-threads=1"},
        "vp9": {"crf": str(quality), "b": "0", "row-mt": "0", "cpu-used": "2"},
        "mpeg2": {"qmin": str(quality), "qmax": str(quality), "bf": "2"},
        "mjpeg": {"qmin": str(quality), "qmax": str(quality)},
    }[codec]
    colour = Colour(6, 2 if known.is_jpeg else 1, 2, 2)
    names = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "mpeg2": "mpeg2video", "mjpeg": "mjpeg"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(names[codec], rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *lr.shape[1:3], "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = colour.matrix, colour.range
        stream.codec_context.bit_rate = 200_000  # FFmpeg's default, not PyAV's; MPEG-2 looks at it between quantizers
        stream.codec_context.gop_size, stream.codec_context.thread_count = 2, 1
        for index, rgb in enumerate(lr):
            frame = picture_of(rgb, colour, "yuv420p", centred=known.is_jpeg)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_large_frames_are_bt709_and_small_ones_bt601() -> None:
    assert [usual_matrix(*size) for size in ((720, 1280), (544, 1280), (576, 720), (45, 80))] == [1, 1, 6, 6]
