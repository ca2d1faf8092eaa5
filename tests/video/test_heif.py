"""AVIF: an animated one is a film, and what is transparent is shown over black."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clips import noise
from numpy.typing import NDArray
from PIL import Image, features
from runners import RepeatRunner

from ksnet_deploy.upscale.result import UpscaleResult
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.reading.reader import VideoReader

pytestmark = pytest.mark.skipif(not features.check("avif"), reason="Pillow has no encoder of AVIF here")
BEST = {"quality": 100, "subsampling": "4:4:4"}
TRANSPARENT = "The source's transparency is not in the output."


def upscale(source: Path, target: Path) -> UpscaleResult:
    return upscale_video(source, target, Upscaler(open_runner=RepeatRunner))


def pictures(count: int, *, transparent: bool) -> list[Image.Image]:
    """Pictures of blocks of 8x8 pixels, each more transparent from left to right, and differently so."""
    found = []
    for index in range(count):
        rgb = noise(4, 6, 3, seed=index).repeat(8, axis=0).repeat(8, axis=1)
        alpha = np.roll(np.linspace(0, 255, 48).astype(np.uint8), 16 * index)[None].repeat(32, axis=0)
        found.append(Image.fromarray(np.dstack([rgb, alpha]) if transparent else rgb))
    return found


def over_black(picture: Image.Image) -> NDArray[np.int32]:
    black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
    return np.asarray(Image.alpha_composite(black, picture.convert("RGBA")).convert("RGB"), np.int32)


def shown(path: Path) -> NDArray[np.int32]:
    """The picture before it was enlarged."""
    return np.asarray(Image.open(path).convert("RGB"), np.int32)[::4, ::4]


@pytest.mark.parametrize("transparent", [False, True])
def test_a_picture_is_shown_over_black(tmp_path: Path, transparent: bool) -> None:
    source = tmp_path / "a.avif"
    pictures(1, transparent=transparent)[0].save(source, **BEST)
    result = upscale(source, tmp_path / "a.png")
    assert result.notes == ([TRANSPARENT] if transparent else [])
    with Image.open(source) as picture:
        assert np.abs(shown(result.target) - over_black(picture)).max() <= 1


@pytest.mark.parametrize("transparent", [False, True])
def test_an_animated_picture_is_a_film(tmp_path: Path, transparent: bool) -> None:
    source = tmp_path / "a.avif"
    first, *others = pictures(4, transparent=transparent)
    first.save(source, save_all=True, append_images=others, duration=[100, 50, 200, 100], **BEST)
    result = upscale(source, tmp_path / "frames")
    assert (result.frames, result.notes) == (4, [TRANSPARENT] if transparent else [])
    with Image.open(source) as film, VideoReader(source) as reader:
        times = [frame.pts * reader.time_base for frame in reader.frames()]
        assert [float(time) for time in times] == pytest.approx([0, 0.1, 0.15, 0.35])
        for index in range(4):
            film.seek(index)
            assert np.abs(shown(result.target / f"{index:08}.png") - over_black(film)).max() <= 1


def test_a_part_of_it_keeps_the_transparency_of_its_own_frames(tmp_path: Path) -> None:
    source = tmp_path / "a.avif"
    first, *others = pictures(3, transparent=True)
    first.save(source, save_all=True, append_images=others, duration=100, **BEST)
    upscale_video(source, tmp_path / "frames", Upscaler(open_runner=RepeatRunner), start_s=0.15)
    with Image.open(source) as film:
        film.seek(2)
        assert np.abs(shown(tmp_path / "frames" / "00000000.png") - over_black(film)).max() <= 1
