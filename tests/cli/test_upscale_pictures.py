"""The command `upscale` on pictures, and its option --scale."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from media import make_video
from PIL import Image

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.video.picture import write_png

SIZE = FrameSize(32, 48)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    found = [tmp_path / "a.png", tmp_path / "b.jpg", tmp_path / "c.bmp"]
    for path in found:
        Image.fromarray(np.full((SIZE.height, SIZE.width, 3), 90, np.uint8)).save(path)
    return found


def test_several_pictures_become_pictures_of_their_own(run: Run, pictures: list[Path], tmp_path: Path) -> None:
    code, out, _ = run(*pictures)
    assert (code, out.count("128x192 (height x width)")) == (0, 3)
    assert {p.name for p in tmp_path.glob("*_x4*")} == {"a_x4.png", "b_x4.jpg", "c_x4.png"}
    (tmp_path / "out").mkdir()
    assert run(tmp_path / "*.jpg", pictures[0], "-o", tmp_path / "out", "--json")[0] == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a_x4.png", "b_x4.jpg", "b_x4_x4.jpg"}


def test_pictures_that_exist_are_left_out_when_asked(run: Run, pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "a_x4.png").write_bytes(b"mine")
    code, out, err = run(pictures[0])
    assert (code, out) == (1, "")
    assert "a_x4.png already exists; pass --overwrite" in err
    code, out, _ = run(*pictures, "--skip-existing")
    assert (code, "left out" in out, (tmp_path / "b_x4.jpg").is_file()) == (0, True, True)
    assert (tmp_path / "a_x4.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "options",
    [
        *(("--codec", "hevc"), ("--tracks", "drop"), ("--crf", 20), ("--start", "0"), ("--end", "1")),
        *((flag,) for flag in ("--dry-run", "--no-scene-reset", "--no-resume", "--keep-partial")),
    ],
)
def test_an_option_without_effect_on_a_picture_is_refused(
    run: Run, pictures: list[Path], tmp_path: Path, options: tuple[object, ...]
) -> None:
    code, _, err = run(pictures[0], *options)
    assert code == 1
    assert f"{options[0]} has no effect on a picture as output; leave it out, or give a video file" in err
    assert not list(tmp_path.glob("*_x4*"))


def test_a_rate_is_for_folders_of_frames_alone(run: Run, pictures: list[Path]) -> None:
    assert f"--fps is for folders of frames, and {pictures[0]} is none" in run(pictures[0], "--fps", "30")[2]


@pytest.mark.parametrize(("scale", "size"), [("2", "64x96"), ("3", "96x144"), ("4", "128x192"), ("2x", "64x96")])
@pytest.mark.parametrize("what", ["video", "picture", "frames"])
def test_the_output_is_so_many_times_as_large(run: Run, tmp_path: Path, scale: str, size: str, what: str) -> None:
    source = tmp_path / ("a.png" if what == "picture" else "a.mp4")
    if what == "picture":
        write_png(source, np.full((SIZE.height, SIZE.width, 3), 90, np.uint8))
    else:
        make_video(source, SIZE, frames=2)
    output = ("-o", tmp_path / "folder") if what == "frames" else ()
    code, out, err = run(source, "--scale", scale, "--json", *output)
    assert code == 0, err
    answer = json.loads(out)
    assert f"{answer['height']}x{answer['width']}" == size


def test_odd_sizes_become_even_in_a_video(run: Run, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mkv", FrameSize(33, 49), frames=2)
    answer = json.loads(run(video, "--scale", 3, "--json")[1])
    assert (answer["height"], answer["width"]) == (98, 146)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--scale", "5"), "'5' is no scale that there is; give 2, 3 or 4"),
        (("--scale", "2.5"), "'2.5' is no scale that there is"),
        (("--scale", "2", "--target", "96p"), "--target and --scale contradict each other"),
    ],
)
def test_wrong_scales_are_one_sentence(run: Run, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    video = make_video(tmp_path / "a.mp4", SIZE, frames=2)
    code, _, err = run(video, *options)
    assert (code, words in err) == (1, True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_another_scale_does_not_go_on_with_a_job(run: Run, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4", SIZE, frames=2)
    target = tmp_path / "larger.mp4"
    assert run(video, "--scale", 2, "-o", target)[0] == 0
    code, _, err = run(video, "--scale", 3, "-o", target)
    assert (code, "already exists" in err) == (1, True)
