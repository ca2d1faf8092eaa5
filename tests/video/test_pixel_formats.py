"""What is coded as R'G'B' becomes video that players take, unless a layout is asked for."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from command import failure_of, run
from torture_run import upscale

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.video.picture import write_png
from ksnet_deploy.video.writing.presets import choose_encoder

SOURCES = {
    "gif": (".gif", "gif", "rgb8"),
    "apng": (".apng", "apng", "rgb24"),
    "apng with alpha": (".apng", "apng", "rgba"),
    "rgb in avi": (".avi", "utvideo", "gbrp"),
    "rgb of ten bits": (".mkv", "ffv1", "gbrp10le"),
    "h264 in rgb": (".mp4", "libx264rgb", "rgb24"),
    "qtrle": (".mov", "qtrle", "rgb24"),
    "folder": ("", "", "rgb24"),
    "folder of sixteen bits": ("", "", "rgb48le"),
}


def make(folder: Path, kind: str) -> Path:
    suffix, codec, layout = SOURCES[kind]
    path = folder / f"v{suffix}"
    pictures = [np.full((32, 48, 3), (200, 20 + 30 * index, 40), np.uint8) for index in range(3)]
    if not suffix:
        path.mkdir()
        for index, picture in enumerate(pictures):
            write_png(path / f"{index}.png", picture if layout == "rgb24" else picture * np.uint16(257))
        return path
    with av.open(str(path), "w", options={"plays": "0"} if suffix == ".apng" else {}) as file:
        stream: Any = file.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, layout
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=layout)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "av1"])
@pytest.mark.parametrize("kind", SOURCES)
def test_rgb_becomes_what_players_take(tmp_path: Path, kind: str, codec: str) -> None:
    deep = kind in ("rgb of ten bits", "folder of sixteen bits")
    result = upscale(make(tmp_path, kind), tmp_path / "o.mkv", codec=choose_encoder(codec))
    deep &= codec != "vp9"  # which has eight bits in PyAV
    assert (result.pixel_format, result.frames) == ("yuv420p10le" if deep else "yuv420p", 3)
    with av.open(str(result.target)) as file:
        rgb = next(file.decode(video=0)).to_ndarray(format="rgb24")[64, 96]
    assert np.abs(rgb.astype(int) - (200, 20, 40)).max() <= (40 if kind == "gif" else 8)  # GIF was made of 8 levels


@pytest.mark.parametrize(("codec", "layout"), [("prores", "yuv444p10le"), ("ffv1", "yuv444p")])
def test_rgb_keeps_its_colour_in_codecs_for_further_work(tmp_path: Path, codec: str, layout: str) -> None:
    result = upscale(make(tmp_path, "folder"), tmp_path / "o.mkv", codec=choose_encoder(codec))
    assert result.pixel_format == layout


@pytest.mark.parametrize("layout", ["yuv444p", "yuv422p", "yuv420p10le", "nv12", "yuv444p10le"])
@pytest.mark.parametrize("kind", ["gif", "folder", "rgb of ten bits"])
def test_a_layout_can_be_asked_for(tmp_path: Path, kind: str, layout: str) -> None:
    encoder = choose_encoder("h264", pixel_format=layout)
    result = upscale(make(tmp_path, kind), tmp_path / "o.mp4", codec=encoder)
    assert result.pixel_format == layout
    with av.open(str(result.target)) as file:
        frame = next(file.decode(video=0))
        assert frame.format.name.replace("j", "") == {"nv12": "yuv420p"}.get(layout, layout)
        assert np.abs(frame.to_ndarray(format="rgb24")[64, 96].astype(int) - (200, 20, 40)).max() <= 40


def test_a_layout_that_the_encoder_does_not_take_is_refused_with_those_that_it_takes() -> None:
    for layout in ("yuv440p12le", "rgb24", "yuvj420p", "nonsense", ""):
        with pytest.raises(OutputError, match=rf"^h264 takes no {layout} frames; give one of yuv420p, .*yuv444p10le"):
            choose_encoder("h264", pixel_format=layout)
    assert choose_encoder("prores", pixel_format="yuv422p10le").formats[0].name == "yuv422p10le"


def test_the_option_reaches_the_encoder_and_has_no_effect_on_frames(tmp_path: Path) -> None:
    source = make(tmp_path, "folder")
    said = failure_of(run("upscale", source, "-o", tmp_path / "o.mp4", "--pixel-format", "rgb24"))
    assert "h264 takes no rgb24 frames; give one of yuv420p" in said
    said = failure_of(run("upscale", source, "-o", tmp_path / "frames", "--pixel-format", "yuv444p"))
    assert "--pixel-format has no effect on a folder of pictures" in said
