"""Single pictures are read as the field's tools read them; Pillow, which has libjpeg, is the reference."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.context import CodecContext
from clips import noise, smooth_picture
from PIL import Image

from ksnet_deploy.video.picture import read_picture, write_png


@pytest.fixture(scope="module", params=[(131, 173), (96, 128), (16, 17), (1, 1)], ids=str)
def picture(request: pytest.FixtureRequest) -> np.ndarray:
    height, width = request.param
    rgb = smooth_picture(height, width).astype(int) + noise(height, width, 3) // 16
    rgb[height // 3 : height // 2, width // 4 : width // 2] = (255, 0, 0)  # edges of colour, where filters differ
    rgb[height // 2 :, width // 2 :] = (0, 0, 255)
    return np.clip(rgb, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [50, 90, 100])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_read_as_by_libjpeg(
    tmp_path: Path, picture: np.ndarray, sampling: str, quality: int, progressive: bool
) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(picture).save(path, quality=quality, subsampling=sampling, progressive=progressive)
    expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
    difference = np.abs(read_picture(path) - expected)
    assert difference.mean() < 0.3
    assert difference.max() <= 5


@pytest.mark.parametrize("quality", [30, 90])
def test_lossy_webp_is_read_as_by_libwebp(tmp_path: Path, picture: np.ndarray, quality: int) -> None:
    path = tmp_path / "a.webp"
    Image.fromarray(picture).save(path, quality=quality)
    expected = np.asarray(Image.open(path).convert("RGB")).astype(int)
    difference = np.abs(read_picture(path) - expected)
    assert difference.mean() < 0.5
    assert difference.max() <= 3


def test_grey_jpeg_is_read_as_by_libjpeg(tmp_path: Path) -> None:
    Image.fromarray(noise(40, 50)).save(tmp_path / "a.jpg", quality=90)
    expected = np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB")).astype(int)
    assert np.abs(read_picture(tmp_path / "a.jpg") - expected).max() <= 1


def rounded(levels: np.ndarray) -> np.ndarray:
    """v / 257, to the nearest."""
    return np.rint(levels.astype(np.float64) / 257).astype(np.uint8)


@pytest.mark.parametrize(("kind", "channels"), [("rgb48be", 3), ("rgba64be", 4), ("gray16be", 1), ("ya16be", 2)])
def test_sixteen_bits_are_rounded_and_not_dithered(tmp_path: Path, kind: str, channels: int) -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(64, 1024)
    samples = np.stack([np.roll(levels, 7 * i) for i in range(channels)], axis=-1)
    if channels in (2, 4):
        samples[..., -1] = 65535  # opaque
    frame = av.VideoFrame(1024, 64, kind)
    row = frame.planes[0].line_size // 2
    padded = np.zeros((64, row), np.uint16)
    padded[:, : 1024 * channels] = samples.reshape(64, -1)
    frame.planes[0].update(padded.astype(">u2").tobytes())
    encoder = CodecContext.create("png", "w")
    encoder.height, encoder.width, encoder.pix_fmt, encoder.framerate = 64, 1024, kind, 25  # type: ignore[attr-defined]
    path = tmp_path / "a.png"
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))  # type: ignore[attr-defined]
    expected = samples[..., :3] if channels > 2 else samples[..., :1].repeat(3, axis=2)
    np.testing.assert_array_equal(read_picture(path), rounded(expected))


def test_what_we_write_in_sixteen_bits_is_read_rounded(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    write_png(tmp_path / "a.png", levels)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), rounded(levels))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "1"])  # those with alpha are opaque here
def test_eight_bit_png_is_read_exactly(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(noise(20, 30, 3)).convert(mode)
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), np.asarray(image.convert("RGB")))
