"""Sources whose names are as long as the system takes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from media import make_video
from runners import RepeatRunner

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.hidden import LONGEST_NAME, fitting_name
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.picture import write_png

SIZE = FrameSize(32, 48)


def named(letter: str, length: int, suffix: str) -> str:
    """A name of that many bytes, or as many as whole letters make."""
    return letter * ((length - len(suffix)) // len(letter.encode())) + suffix


@pytest.mark.parametrize("letter", ["a", "é", "映"])
@pytest.mark.parametrize("length", [239, 250, 252, 255])
@pytest.mark.parametrize("kind", ["video", "part", "picture", "folder"])
def test_every_source_gets_a_result(tmp_path: Path, letter: str, length: int, kind: str) -> None:
    source = tmp_path / named(letter, length, {"picture": ".png", "folder": ""}.get(kind, ".mp4"))
    picture = np.full((SIZE.height, SIZE.width, 3), 90, np.uint8)
    if kind == "folder":
        source.mkdir()
        write_png(source / "1.png", picture)
    elif kind == "picture":
        write_png(tmp_path / "a.png", picture)
        (tmp_path / "a.png").rename(source)
    else:
        make_video(tmp_path / "a.mp4", SIZE, frames=3).rename(source)
    result = upscale_video(source, None, Upscaler(open_runner=RepeatRunner), end_s="0.08" if kind == "part" else None)
    name = result.target.name
    assert result.target.exists()
    assert len(os.fsencode(name)) <= LONGEST_NAME
    assert name.removesuffix(result.target.suffix).endswith("_x4")
    assert name.startswith(letter * 50)
    assert len(list(tmp_path.iterdir())) == 2  # nothing hidden is left


def test_names_that_begin_alike_stay_apart() -> None:
    names = {fitting_name("a" * 252 + last, "_x4.mp4") for last in "bc"}
    assert len(names) == 2
    assert fitting_name("short", "_x4.mp4") == "short_x4.mp4"
