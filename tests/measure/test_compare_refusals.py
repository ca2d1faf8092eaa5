"""Comparisons that cannot be made: what is refused, and what is left of those that fail half way; and the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import typer
from command import failure_of
from command import run as run_command
from compared import SIZE, below_names, flat, folder, lossless, picture
from films import film_with_sound
from media import make_video
from typer.testing import CliRunner

from ksnet_deploy.base.errors import ConfigError, InputError, KSNetError, OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.cli.compare import compare as command
from ksnet_deploy.measure.compare import compare
from ksnet_deploy.measure.layout import Layout
from ksnet_deploy.video.picture import read_picture
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing import comparison as comparison_writer
from ksnet_deploy.video.writing.comparison import ComparisonWriter


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    small, large = picture(tmp_path / "s.png", flat(1, 20, 30)), picture(tmp_path / "l.png", flat(1, 40, 61))
    two, three = folder(tmp_path / "two", [flat(1)] * 2), folder(tmp_path / "three", [flat(1)] * 3)
    mixed = folder(tmp_path / "mixed", [flat(1), flat(1), flat(1, 18)])
    video = make_video(tmp_path / "v.mp4", SIZE)
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.iterdir())
    for a, b, message in (
        (small, large, r"s\.png is 20x30 and .*l\.png is 40x61"),
        (large, small, r"l\.png is 40x61 and .*s\.png is 20x30"),
        (small, tmp_path / "none.png", r"none\.png does not exist"),
        (tmp_path / "none", video, "none does not exist"),
        (two, tmp_path / "empty", r"folder .*empty holds no pictures"),
        (two, three, "two holds 2 pictures and .*three 3"),
        (three, mixed, r"frame_3\.png is 18x20 while frame_1\.png in the same folder is 16x20"),
        (video, two, r"v\.mp4 is a video and .*two a folder"),
    ):
        with pytest.raises(InputError, match=message):
            compare(a, b, tmp_path / "o.png")
    with pytest.raises(ConfigError, match="gain of 0"):
        Layout("difference", gain=0)
    assert sorted(tmp_path.iterdir()) == before


def test_an_output_that_cannot_be_is_refused(tmp_path: Path) -> None:
    a, b = picture(tmp_path / "a.png", flat(1)), picture(tmp_path / "b.png", flat(2))
    one, two = folder(tmp_path / "one", [flat(1)]), folder(tmp_path / "two", [flat(2)])
    video = make_video(tmp_path / "v.mp4", SIZE)
    precious = tmp_path / "precious.png"
    precious.write_text("precious")
    (tmp_path / "folder.mp4").mkdir()
    for sources, target, overwrite, message in (
        ((a, b), a, True, "is one of the two"),
        ((a, b), b, True, "is one of the two"),
        ((video, video), video, True, "is one of the two"),
        ((one, two), one / "o.png", False, "would be one of the frames"),
        ((a, b), precious, False, "--overwrite"),
        ((a, b), tmp_path / "o.mp4", False, r"cannot show pictures; end its name in \.png"),
        ((one, two), tmp_path / "o.jpg", False, r"end its name in \.png"),
        ((video, video), tmp_path / "o.webm", False, r"end its name in \.mp4"),
        ((video, video), tmp_path / "none" / "o.mp4", False, "does not exist"),
        ((video, video), tmp_path / "folder.mp4", True, "is a folder"),
    ):
        with pytest.raises(OutputError, match=message):
            compare(*sources, target, overwrite=overwrite)
    assert read_picture(a)[0, 0, 0] == 1
    assert precious.read_text() == "precious"
    compare(a, b, precious, overwrite=True)
    assert below_names(precious).shape == (16, 40, 3)


def open_here(path: Path) -> int:
    """How often this process has a file open."""
    links = Path("/proc/self/fd")
    return sum(str(path.resolve()) == os.path.realpath(link) for link in links.iterdir())


def test_a_file_that_cannot_be_begun_is_not_blamed_on_the_frames(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", SIZE, sound=True)
    gone = tmp_path / "gone"
    expected = f"a .mkv file cannot be begun in {gone} (No such file or directory); choose another folder"
    with VideoReader(video) as reader:
        next(reader.frames())
        with pytest.raises(OutputError) as caught:
            ComparisonWriter(gone / "o.part", ".mkv", reader, SIZE)
        assert str(caught.value) == f"{expected}, or another suffix"
        assert open_here(video) == 1  # the reader's own; though the exception still holds on to the writer


def test_no_file_stays_open_where_the_output_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = make_video(tmp_path / "v.mp4", SIZE)
    with VideoReader(video) as reader:
        next(reader.frames())
        monkeypatch.setitem(comparison_writer.CONTAINERS, ".mkv", "no such container")
        with pytest.raises(OutputError, match=r"a \.mkv file cannot be begun in .*; choose another folder") as caught:
            ComparisonWriter(tmp_path / "o.part", ".mkv", reader, SIZE)
        assert open_here(video) == 1, caught
    assert not (tmp_path / "o.part").exists()


def test_frames_that_cannot_be_encoded_are_named_as_the_reason(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", SIZE)
    with VideoReader(video) as reader:
        next(reader.frames())
        with pytest.raises(OutputError, match=r"video of 16x200000 \(height x width\) cannot be encoded .*smaller"):
            ComparisonWriter(tmp_path / "o.part", ".mkv", reader, FrameSize(16, 200_000))
    assert not (tmp_path / "o.part").exists()


@pytest.mark.parametrize("suffix", [".png", ".mkv"])
def test_a_failure_half_way_keeps_the_older_file(tmp_path: Path, suffix: str) -> None:
    video = lossless(tmp_path / "v.mkv", {40 * i: flat(i) for i in range(5)})
    target = tmp_path / f"o{suffix}"
    target.write_text("precious")
    calls = []

    def stop() -> None:
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(video, video, target, overwrite=True, on_frame=stop)
    assert target.read_text() == "precious"
    assert {p.name for p in tmp_path.iterdir()} == {"v.mkv", target.name}


def run(*arguments: object) -> str:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_prints_figures_and_strict_json(tmp_path: Path) -> None:
    a = lossless(tmp_path / "a.mkv", {0: flat(50), 40: flat(50)})
    b = lossless(tmp_path / "b.mkv", {0: flat(50), 40: flat(51)})
    text = run(a, b)
    assert "worst frame     48.13 dB" in text
    assert "The worst is frame 1 of the original, counted from 0: at 0.040 s." in text
    assert "1 of 2 frames are identical" in text

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    same = json.loads(run(a, a, "--json"), parse_constant=refuse)
    assert same["identical"]
    assert same["mean"] == {"psnr_rgb_db": None, "psnr_y_db": None, "ssim_y": 1.0}
    target = tmp_path / "o.png"
    answer = json.loads(run(a, b, "-o", target, "--mode", "difference", "--gain", 4, "--json"), parse_constant=refuse)
    assert (answer["frames"], answer["identical_frames"], answer["output"]) == (2, 1, str(target))
    assert (answer["worst"]["frame"], answer["worst"]["time_s"], answer["worst"]["picture"]) == (1, 0.04, None)
    np.testing.assert_array_equal(below_names(target), flat(4))
    with pytest.raises(KSNetError, match="--overwrite"):
        run(a, b, "-o", target)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--mode", "wipe"),
            "--mode has no effect on figures alone; leave it out, or give a video or a .png",
        ),
        (("--mode", "difference", "--gain", "4"), "--mode and --gain have no effect on figures alone; leave them out"),
        (("-o", "a.html", "--mode", "wipe"), "--mode has no effect on a page"),
        (("-o", "a.png", "--gain", "4"), "--gain is of --mode difference; give both"),
    ],
)
def test_an_option_without_effect_is_refused(options: tuple[str, ...], words: str) -> None:
    assert words in failure_of(run_command("compare", "none.mp4", "other.mp4", *options))


def test_the_command_is_imported_without_anything_heavy() -> None:
    code = "import sys, ksnet_deploy.cli.compare; print({'torch', 'av', 'numpy', 'onnx'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


@pytest.mark.parametrize("kind", ["dts", "amr", "wmav2"])
def test_sound_is_copied_where_the_container_takes_it_whatever_its_list_says(tmp_path: Path, kind: str) -> None:
    source = film_with_sound(tmp_path, kind)
    result = compare(source, source, tmp_path / "o.mov")
    assert any("Not copied" in note for note in result.notes) == (kind == "wmav2")
    with av.open(str(tmp_path / "o.mov")) as container:
        assert len(container.streams.audio) == (kind != "wmav2")
