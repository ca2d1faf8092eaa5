"""The network that is taken where none is named: one for compressed video where the source is compressed."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from command import run
from runners import RepeatRunner

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.upscale.choice import choose_network
from ksnet_deploy.upscale.result import Events
from ksnet_deploy.upscale.run import estimate_video, upscale_video
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.picture import write_picture, write_png
from ksnet_deploy.video.reading.sources import lossy_codec_of

CODECS = [
    *[("libx264", "yuv420p", ".mp4", "h264"), ("libx265", "yuv420p", ".mkv", "hevc")],
    *[("libvpx-vp9", "yuv420p", ".webm", "vp9"), ("mpeg2video", "yuv420p", ".mpg", "mpeg2video")],
    *[("mpeg4", "yuv420p", ".avi", "mpeg4"), ("mjpeg", "yuvj420p", ".mov", "mjpeg")],
    *[("prores_ks", "yuv422p10le", ".mov", "prores"), ("libsvtav1", "yuv420p", ".mp4", "av1")],
    *[("ffv1", "yuv420p", ".mkv", None), ("huffyuv", "yuv422p", ".avi", None), ("ffvhuff", "yuv420p", ".avi", None)],
    *[("png", "rgb24", ".mov", None), ("rawvideo", "yuv420p", ".nut", None), ("qtrle", "rgb24", ".mov", None)],
]


@pytest.fixture(autouse=True)
def _costless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ksnet_deploy.upscale.networks.bundled_names", lambda: ["lite", "lite-video", "uni"])
    monkeypatch.setattr(
        "ksnet_deploy.upscale.networks.NetworkFile.open", lambda _network, size, io, *_, **__: RepeatRunner(size, io)
    )


def video(path: Path, codec: str, pixel_format: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, pixel_format
        for level in (60, 90):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pixel_format)))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("codec", "pixel_format", "suffix", "lossy"), CODECS, ids=[case[0] for case in CODECS])
def test_compressed_video_gets_the_network_for_it(
    tmp_path: Path, codec: str, pixel_format: str, suffix: str, lossy: str | None
) -> None:
    choice = choose_network(Source(video(tmp_path / f"v{suffix}", codec, pixel_format)))
    if lossy:
        assert (choice.name, choice.reason) == ("lite-video", f"the source is compressed ({lossy})")
    else:
        assert (choice.name, choice.reason) == ("lite", "the source's codec is lossless")


def test_pictures_and_pipes_are_taken_as_clean(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    write_png(tmp_path / "f" / "1.png", np.zeros((16, 16, 3), np.uint8))
    write_picture(tmp_path / "p.jpg", ".jpg", np.zeros((16, 16, 3), np.uint8))
    for path in (tmp_path / "f", tmp_path / "f" / "1.png", tmp_path / "p.jpg"):
        choice = choose_network(Source(path))
        assert (choice.name, choice.reason) == ("lite", "pictures are taken as clean")
    assert choose_network(Source(Path("-"))).sentence() == (
        "Using the network 'lite': frames from a pipe are taken as clean; choose another with --model."
    )


@pytest.mark.parametrize(
    ("bundled", "name", "reason"),
    [
        (["uni", "lite", "lite-video", "uni-video"], "uni-video", "the source is compressed (h264)"),
        (["uni", "lite", "lite-video"], "lite-video", "the source is compressed (h264)"),
        (["uni", "lite"], "uni", "no bundled network was trained on compressed video (h264)"),
    ],
)
def test_a_gpu_gets_what_there_is_for_compressed_video_and_else_the_large_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundled: list[str], name: str, reason: str
) -> None:
    monkeypatch.setattr("ksnet_deploy.upscale.networks.bundled_names", lambda: bundled)
    choice = choose_network(Source(video(tmp_path / "v.mp4", "libx264", "yuv420p")), "cuda")
    assert (choice.name, choice.reason) == (name, reason)
    lossless = choose_network(Source(video(tmp_path / "v.mkv", "ffv1", "yuv420p")), "cuda")
    assert lossless.name == "uni"


def test_what_is_not_said_to_be_lossless_counts_as_lossy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(video(tmp_path / "v.mkv", "ffv1", "yuv420p"))
    assert lossy_codec_of(source) is None
    monkeypatch.setattr("ksnet_deploy.video.reading.sources.LOSSLESS", 1 << 20)  # as if FFmpeg said nothing of it
    assert lossy_codec_of(source) == "ffv1"


def test_python_is_told_which_network_was_taken_and_why(tmp_path: Path) -> None:
    source = video(tmp_path / "v.mp4", "libx264", "yuv420p")
    for job in (upscale_video, estimate_video):
        notes: list[str] = []
        job(source, tmp_path / f"{job.__name__}.mp4", events=Events(on_note=notes.append))
        assert notes[0].startswith("Using the network 'lite-video': the source is compressed (h264); ")
        assert "--model" not in notes[0], "which is an option of the command"
        notes.clear()
        job(source, tmp_path / f"{job.__name__}-lite.mp4", "lite", events=Events(on_note=notes.append))
        assert not any("Using" in note for note in notes)


def test_a_named_network_is_never_overridden(tmp_path: Path) -> None:
    source = video(tmp_path / "v.mp4", "libx264", "yuv420p")
    named = run("upscale", source, "--model", "lite", "--json", cwd=tmp_path)
    assert named.returncode == 0, named.stderr
    assert '"model": "lite"' in named.stdout
    assert "Using the network" not in named.stderr


def test_what_is_no_video_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_text("no video")
    with pytest.raises(InputError, match="cannot be read as a video"):
        upscale_video(tmp_path / "v.mp4")
