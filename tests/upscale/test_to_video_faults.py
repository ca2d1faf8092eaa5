"""A video to a video where something is odd or wrong: names, targets, sources, disks."""

from __future__ import annotations

import os
import random
import resource
import subprocess
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from media import make_video, presentation_times
from numpy.typing import NDArray
from runners import RepeatRunner
from upscaled import SIZE, upscale, visible_files

from ksnet_deploy.base.errors import BackendError, InputError, OutputError
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing.presets import choose_encoder


@pytest.mark.parametrize("name", ["Movie: part 1.mp4", "100%d.mp4", "a b'c.mp4"])
def test_any_file_name_works(tmp_path: Path, name: str) -> None:
    source = make_video(tmp_path / "v.mp4", SIZE).rename(tmp_path / name)
    assert upscale(source).target.is_file()


def test_rotation_is_passed_on(tmp_path: Path) -> None:
    source = tmp_path / "v.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.set_display_rotation(90)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 48, 3), np.uint8))))
        container.mux(stream.encode(None))
    with av.open(str(upscale(source).target)) as container:
        assert next(container.decode(video=0)).rotation == 90


def test_a_container_that_cannot_hold_a_track_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    source = make_video(tmp_path / "v.mkv", SIZE, subtitles=True)
    opened: list[FrameSize] = []

    def open_runner(size: FrameSize, io: FrameType) -> RepeatRunner:
        opened.append(size)
        return RepeatRunner(size, io)

    with pytest.raises(OutputError, match=r"subtitle track 1 \(subrip\) cannot be copied: a \.mp4 .*\.mkv"):
        upscale_video(source, tmp_path / "o.mp4", Upscaler(open_runner=open_runner), tracks="copy")
    assert opened == []
    assert visible_files(tmp_path) == {"v.mkv"}


def test_a_source_whose_container_is_not_written_becomes_matroska(tmp_path: Path) -> None:
    assert upscale(make_video(tmp_path / "v.ts", SIZE, sound=True)).target == tmp_path / "v_x4.mkv"


def test_crf_changes_the_size_of_the_file(tmp_path: Path) -> None:
    source = make_video(tmp_path / "v.mp4", SIZE, frames=10)
    sizes = [
        upscale(source, tmp_path / f"{crf}.mp4", codec=choose_encoder("h264", quality=crf)).target.stat().st_size
        for crf in (5, 45)
    ]
    assert sizes[0] > 2 * sizes[1]


def test_an_existing_output_is_kept_unless_told(tmp_path: Path) -> None:
    source = make_video(tmp_path / "v.mp4", SIZE)
    target = tmp_path / "o.mp4"
    target.write_text("precious")
    with pytest.raises(OutputError, match="--overwrite"):
        upscale(source, target)
    assert target.read_text() == "precious"
    upscale(source, target, overwrite=True)
    assert len(presentation_times(target)) == 8


def test_the_source_is_never_overwritten(tmp_path: Path) -> None:
    source = make_video(tmp_path / "v.mp4", SIZE)
    before = source.read_bytes()
    (tmp_path / "link.mp4").symlink_to(source)
    for target in (source, tmp_path / "link.mp4"):
        with pytest.raises(OutputError, match="is the source itself"):
            upscale(source, target, overwrite=True)
    assert source.read_bytes() == before


def test_bad_targets_are_refused(tmp_path: Path) -> None:
    source = make_video(tmp_path / "v.mp4", SIZE)
    for target, message in (
        (tmp_path / "none" / "o.mp4", "does not exist"),
        (tmp_path / "o.wmv", "'.wmv' is not a container"),
        (tmp_path / "o.webm", "cannot hold the video track"),
        (Path("/sys/kernel/o.mp4"), "cannot be written to"),  # read-only even for root
    ):
        with pytest.raises(OutputError, match=message):
            upscale(source, target, overwrite=True)
    assert visible_files(tmp_path) == {"v.mp4"}


def test_sources_that_are_no_video_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello world\n" * 50)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "noise.mp4").write_bytes(random.Random(0).randbytes(5000))
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        silence.rate = 44100
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/text.png").write_text("no picture")
    complete = make_video(tmp_path / "complete.mp4", SIZE).read_bytes()
    (tmp_path / "headless.mp4").write_bytes(complete[: len(complete) // 2])
    before = visible_files(tmp_path)
    for name, message in (
        ("none.mp4", "does not exist"),
        ("", "holds no pictures"),
        ("text.mp4", "cannot be read as a video"),
        ("empty.mp4", "is not a video: it is empty"),
        ("noise.mp4", "cannot be read as a video"),
        ("sound.mp4", r"no video track \(audio found\)"),
        ("pictures/text.png", "cannot be read as a video or a picture: .* of another kind than its name says"),
        ("pictures", "cannot be read as a video or a picture: .* of another kind than its name says"),
        ("headless.mp4", "cannot be read as a video"),
    ):
        with pytest.raises(InputError, match=message):
            upscale(tmp_path / name)
    assert visible_files(tmp_path) == before


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_truncated_video_gives_what_decodes_and_the_number_lost(tmp_path: Path, suffix: str) -> None:
    options = {"movflags": "+faststart"} if suffix == ".mp4" else {}
    whole = make_video(tmp_path / f"w{suffix}", FrameSize(96, 128), frames=60, sound=True, options=options)
    content = whole.read_bytes()
    source = tmp_path / f"v{suffix}"
    source.write_bytes(content[: int(len(content) * 0.6)])
    result = upscale(source)
    assert 20 < result.frames < 50
    assert result.frames + result.frames_lost == pytest.approx(60, abs=1)
    times = presentation_times(result.target)
    # The last packets are some frames ahead of those they lack, so there may be a gap before the very last.
    assert times == sorted(set(times) & set(presentation_times(whole)))


def test_a_damaged_packet_in_the_middle_costs_only_its_frames(tmp_path: Path) -> None:
    source = make_video(tmp_path / "v.mp4", FrameSize(96, 128), frames=60, codec="mpeg4")
    content = bytearray(source.read_bytes())
    half = len(content) // 2
    content[half : half + 200] = b"\xff" * 200
    source.write_bytes(content)
    result = upscale(source)
    assert 55 <= result.frames <= 60
    assert result.frames + result.frames_lost == 60


def test_frames_without_timestamps_are_given_some_and_it_is_said(tmp_path: Path) -> None:
    source = make_video(tmp_path / "v.h264", SIZE, frames=6)
    result = upscale(source)
    assert result.frames == 6
    assert any("timestamp" in note for note in result.notes)
    times = presentation_times(result.target)
    assert all(b > a for a, b in pairwise(times))


def test_an_eight_bit_network_is_said_to_have_taken_eight_of_ten_bits(tmp_path: Path) -> None:
    source = tmp_path / "v.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p10le"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 48, 3), np.uint8))))
        container.mux(stream.encode(None))
    result = upscale_video(source, None, Upscaler(open_runner=lambda size, _io: RepeatRunner(size)))
    assert result.notes == [
        "The source has 10 bits per sample; the network took 8 of them.",
        "The source does not name its colour matrix; BT.601 was taken, by its size.",
    ]


def test_a_failing_network_leaves_nothing_behind(tmp_path: Path) -> None:
    class Broken(RepeatRunner):
        def step(self, _lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
            raise MemoryError

    source = make_video(tmp_path / "v.mp4", SIZE)
    with pytest.raises(BackendError, match="does not hold the network on frames of 32x48"):
        upscale_video(source, None, Upscaler(open_runner=Broken))
    assert visible_files(tmp_path) == {"v.mp4"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of 256 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def noise(path: Path) -> Path:
    """A video that does not compress."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for _ in range(30):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_the_job_goes_on_when_there_is_space(tmp_path: Path, small_disk: Path) -> None:
    source = noise(tmp_path / "v.mp4")
    for suffix in (".mp4", ".mkv"):
        with pytest.raises(OutputError, match=r"disk of .* is full; free some space and run the same command again"):
            upscale(source, small_disk / f"o{suffix}")
        assert not (small_disk / f"o{suffix}").exists()
        subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
        again = upscale(source, small_disk / f"o{suffix}")
        assert visible_files(small_disk) == {f"o{suffix}"}
        uninterrupted = upscale(source, tmp_path / f"o{suffix}")
        assert again.target.read_bytes() == uninterrupted.target.read_bytes()
        again.target.unlink()
        subprocess.run(["mount", "-o", "remount,size=256k", str(small_disk)], check=True)


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_write_that_fails_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    source = noise(tmp_path / "v.mp4")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            upscale(source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert visible_files(tmp_path) == {"v.mp4"}


def test_another_container_is_told_only_where_the_choice_was_ours(tmp_path: Path) -> None:
    source = tmp_path / "v.webm"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=25)
        stream.height, stream.width, stream.pix_fmt = SIZE.height, SIZE.width, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((SIZE.height, SIZE.width, 3), np.uint8))))
        container.mux(stream.encode(None))
    assert any(".webm cannot hold h264" in note for note in upscale(source).notes)
    for target, encoder in ((tmp_path / "named.mkv", "vp9"), (tmp_path / "other.mkv", "h264"), (None, "vp9")):
        notes = upscale(source, target, codec=choose_encoder(encoder), overwrite=True).notes
        assert not any("cannot hold" in note for note in notes)


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_frames_that_are_cut_off_an_avi_are_counted_by_its_header(tmp_path: Path, share: float) -> None:
    whole = make_video(tmp_path / "whole.avi", FrameSize(64, 96), frames=30, codec="ffv1").read_bytes()
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole[: round(share * len(whole))])
    with VideoReader(cut) as reader:
        decoded = sum(1 for _ in reader.frames())
        assert (decoded == 30) == (share == 1)
        assert decoded + reader.frames_lost == pytest.approx(30, abs=1)
