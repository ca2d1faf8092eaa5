"""Comparisons of videos, pictures and folders whose every pixel is known."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import typer
from films import film_with_sound
from media import make_video, packets_of, presentation_times
from typer.testing import CliRunner

from ksnet_deploy.base.errors import ConfigError, InputError, KSNetError, OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import luma
from ksnet_deploy.cli.compare import compare as command
from ksnet_deploy.measure.compare import compare
from ksnet_deploy.measure.degradation import enlarge_bicubic
from ksnet_deploy.measure.layout import Layout
from ksnet_deploy.measure.pages.lettering import STRIP_PX
from ksnet_deploy.video.picture import read_picture, write_png
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing import comparison as comparison_writer
from ksnet_deploy.video.writing.comparison import ComparisonWriter

SIZE = FrameSize(32, 48)


def noise(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def flat(level: int, height: int = 16, width: int = 20) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def picture(path: Path, rgb: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_png(path, rgb)
    return path


def below_names(path: Path) -> np.ndarray:
    """What a picture shows, without the line of text above it."""
    shown = read_picture(path)
    assert (shown[0] < 30).all()  # dark ground
    return shown[STRIP_PX:]


def folder(path: Path, frames: Sequence[np.ndarray], first: int = 1) -> Path:
    """Numbered without zeros in front, so that the order of names is not that of the frames."""
    for index, frame in enumerate(frames):
        picture(path / f"frame_{first + index}.png", frame)
    return path


def lossless(
    path: Path, frames: dict[int, np.ndarray], *, rate: int = 25, rotation: int = 0, sound: str | None = None
) -> Path:
    """A video of given frames by their times in milliseconds; sound of the codec of that name, for a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        height, width = next(iter(frames.values())).shape[:2]
        stream.height, stream.width, stream.pix_fmt = height, width, "bgr0"
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        audio = container.add_stream(sound, rate=44100, layout="mono") if sound else None
        for time_ms, rgb in frames.items():
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            wave = (0.2 * np.sin(np.arange(44100) * 0.05)).astype(np.float32)[None]
            samples = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            samples.rate, samples.pts = 44100, 0
            container.mux(audio.encode(samples))
            container.mux(audio.encode(None))
    return path


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_figures_of_a_folder_agree_with_scikit_image(tmp_path: Path) -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity  # takes a second

    rng = np.random.default_rng(1)
    smooth = [np.uint8(100) + noise(24, 40, seed) // 8 for seed in range(11)]
    changed = [np.clip(f + rng.normal(0, 2 + i % 7, f.shape), 0, 255).astype(np.uint8) for i, f in enumerate(smooth)]
    result = compare(folder(tmp_path / "a", smooth), folder(tmp_path / "b", changed, first=90))
    rgb = [peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(smooth, changed, strict=True)]
    luminance = [(luma(a).astype(np.float64), luma(b).astype(np.float64)) for a, b in zip(smooth, changed, strict=True)]
    y = [peak_signal_noise_ratio(a, b, data_range=255) for a, b in luminance]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    similarity = [structural_similarity(a, b, **options) for a, b in luminance]
    assert (result.frames, result.identical_frames, result.unmatched) == (11, 0, (0, 0))
    assert result.mean.psnr_rgb_db == pytest.approx(np.mean(rgb), abs=1e-6)
    assert result.mean.psnr_y_db == pytest.approx(np.mean(y), abs=1e-4)
    assert result.mean.ssim_y == pytest.approx(np.mean(similarity), abs=1e-6)
    worst = int(np.argmin(rgb))
    assert (result.worst_frame, result.worst_at) == (worst, f"frame_{worst + 1}.png")
    assert result.worst.psnr_rgb_db == pytest.approx(rgb[worst], abs=1e-6)


def test_a_video_equals_itself(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", SIZE)
    result = compare(video, video)
    assert (result.frames, result.identical_frames, result.notes) == (8, 8, [])
    assert result.mean == result.worst
    assert (result.mean.psnr_rgb_db, result.mean.psnr_y_db, result.mean.ssim_y) == (math.inf, math.inf, 1.0)


def test_an_identical_frame_counts_100_db_among_others(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", [flat(50), flat(50)])
    b = folder(tmp_path / "b", [flat(50), flat(51)])
    result = compare(a, b)
    assert (result.frames, result.identical_frames, result.worst_frame) == (2, 1, 1)
    assert result.mean.psnr_rgb_db == pytest.approx((100 + 48.1308) / 2, abs=1e-4)


def test_frames_too_small_for_ssim_have_none(tmp_path: Path) -> None:
    result = compare(picture(tmp_path / "a.png", flat(5, 10, 20)), picture(tmp_path / "b.png", flat(6, 10, 20)))
    assert result.mean.ssim_y is None
    assert result.mean.psnr_rgb_db == pytest.approx(48.1308, abs=1e-4)


@pytest.mark.parametrize(
    ("times", "others", "pairs"),
    [
        pytest.param([0, 40, 80], [0, 40, 80], [(0, 0), (1, 1), (2, 2)], id="the same times"),
        pytest.param([0, 40, 80], [15, 55, 95], [(0, 0), (1, 1), (2, 2)], id="a little late"),
        pytest.param([0, 40, 80, 120], [33, 73, 113], [(1, 0), (2, 1), (3, 2)], id="nearer to the next"),
        pytest.param([0, 40, 80, 120], [0, 40, 120], [(0, 0), (1, 1), (3, 2)], id="a frame is missing"),
        pytest.param([0, 40, 80], [0, 20, 40, 60, 80], [(0, 0), (1, 2), (2, 4)], id="twice as many"),
        pytest.param([0, 40, 80, 120], [80, 120, 160, 200, 240], [(2, 0), (3, 1)], id="a later part"),
        pytest.param([5000, 5040], [0, 40, 5000, 5040], [(0, 2), (1, 3)], id="a long beginning"),
    ],
)
def test_frames_belong_together_by_their_times(
    tmp_path: Path, times: list[int], others: list[int], pairs: list[tuple[int, int]]
) -> None:
    partner = {j: i for i, j in pairs}
    a = lossless(tmp_path / "a.mkv", {t: flat(10 * (i + 1)) for i, t in enumerate(times)})
    # A frame that belongs to none is white, so that it could not be taken for its neighbour.
    b = lossless(tmp_path / "b.mkv", {t: flat(10 * (partner.get(j, 24) + 1)) for j, t in enumerate(others)})
    result = compare(a, b, tmp_path / "o.mkv")
    assert result.frames == result.identical_frames == len(pairs)
    alone = (len(times) - len(pairs), len(others) - len(pairs))
    assert result.unmatched == alone
    told = [re.findall(r"; (\d+) of its frames ha(?:s|ve) no counterpart", note) for note in result.notes]
    assert [int(count) for found in told for count in found] == [count for count in alone if count]
    assert presentation_times(tmp_path / "o.mkv") == [Fraction(others[j], 1000) for _, j in pairs]


def test_the_slower_video_says_how_near_is_near(tmp_path: Path) -> None:
    a = lossless(tmp_path / "a.mkv", {0: flat(10), 40: flat(20), 80: flat(30)}, rate=25)
    b = lossless(tmp_path / "b.mkv", {17: flat(10), 57: flat(20), 77: flat(30)}, rate=50)
    assert compare(a, b).identical_frames == compare(b, a).identical_frames == 3


def test_videos_of_different_times_are_refused(tmp_path: Path) -> None:
    a = lossless(tmp_path / "a.mkv", {0: flat(1), 40: flat(2)})
    b = lossless(tmp_path / "b.mkv", {9000: flat(1), 9040: flat(2)})
    with pytest.raises(InputError, match=r"no frame .* first begins at 0\.000 s, the second at 9\.000 s"):
        compare(a, b, tmp_path / "o.mkv")
    assert {p.name for p in tmp_path.iterdir()} == {"a.mkv", "b.mkv"}


def test_a_quarter_size_is_enlarged_by_bicubic(tmp_path: Path) -> None:
    from skimage.metrics import peak_signal_noise_ratio  # takes a second

    lr, hr = noise(13, 17, 0), noise(52, 68, 1)
    expected = peak_signal_noise_ratio(hr, enlarge_bicubic(lr), data_range=255)
    a, b = picture(tmp_path / "hr.png", hr), picture(tmp_path / "lr.png", lr)
    for first, second in ((a, b), (b, a)):
        result = compare(first, second, tmp_path / "o.png", overwrite=True)
        assert result.size == FrameSize(52, 68)
        assert result.mean.psnr_rgb_db == pytest.approx(expected, abs=1e-3)
        assert any(note == f"{b} was enlarged 4 times by bicubic to the size of the other." for note in result.notes)
        shown = below_names(tmp_path / "o.png")
        sides = {str(a): hr, str(b): enlarge_bicubic(lr)}
        for side, found in ((first, shown[:, :68]), (second, shown[:, 68:])):
            assert np.abs(found.astype(int) - sides[str(side)]).max() <= 1  # a sum may be rounded the other way


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_every_whole_factor_continues_a_ramp(tmp_path: Path, factor: int) -> None:
    x = np.arange(16 * factor)
    ramp = np.broadcast_to(100 + (x[None, :, None] + 0.5) / factor * 4, (16 * factor, 16 * factor, 3))
    small = np.broadcast_to((100 + (np.arange(16)[None, :, None] + 0.5) * 4).astype(np.uint8), (16, 16, 3))
    a = picture(tmp_path / "a.png", np.rint(ramp).astype(np.uint8))
    compare(a, picture(tmp_path / "b.png", small), tmp_path / "o.png", Layout("difference", gain=1))
    inner = below_names(tmp_path / "o.png")[:, 2 * factor : -2 * factor]
    assert inner.max() <= 1


def test_clip_and_its_enlargement_just_compare(tmp_path: Path) -> None:
    clip = make_video(tmp_path / "clip.mp4", FrameSize(18, 24), sound=True)
    large = make_video(tmp_path / "clip_x4.mp4", FrameSize(72, 96))
    result = compare(clip, large, tmp_path / "o.mp4")
    assert (result.frames, result.size, result.unmatched) == (8, FrameSize(72, 96), (0, 0))
    assert frames_of(tmp_path / "o.mp4")[0].shape == (72, 192, 3)


def test_the_wipe_of_a_picture_is_in_its_middle(tmp_path: Path) -> None:
    a, b = picture(tmp_path / "a.png", noise(12, 20, 0)), picture(tmp_path / "b.png", noise(12, 20, 1))
    compare(a, b, tmp_path / "o.png", Layout("wipe"))
    found = below_names(tmp_path / "o.png")
    np.testing.assert_array_equal(found[:, :9], noise(12, 20, 0)[:, :9])
    np.testing.assert_array_equal(found[:, 9:11], 255)
    np.testing.assert_array_equal(found[:, 11:], noise(12, 20, 1)[:, 11:])


def test_the_wipe_of_a_video_goes_right_and_back_in_four_seconds(tmp_path: Path) -> None:
    seconds = (7.0, 8.0, 8.5, 9.0, 10.0, 11.0)  # the first frame is the start of the clock
    a = lossless(tmp_path / "a.mkv", {int(1000 * s): flat(40, 32, 64) for s in seconds})
    b = lossless(tmp_path / "b.mkv", {int(1000 * s): flat(160, 32, 64) for s in seconds})
    compare(a, b, tmp_path / "o.mkv", Layout("wipe"))
    for frame, boundary in zip(frames_of(tmp_path / "o.mkv"), (0, 32, 48, 64, 32, 0), strict=True):
        row = frame.mean(axis=(0, 2))
        assert np.abs(row[: max(boundary - 3, 0)] - 40).max(initial=0) < 4, boundary
        assert np.abs(row[boundary + 3 :] - 160).max(initial=0) < 4, boundary
        assert row[max(boundary - 1, 0) : boundary + 1].min() > 220, boundary


@pytest.mark.parametrize("gain", [1, 8, 2.5])
def test_a_difference_is_exact(tmp_path: Path, gain: float) -> None:
    one, two = noise(14, 18, 0), noise(14, 18, 1) // 2 + one_half(noise(14, 18, 0))
    a, b = picture(tmp_path / "a.png", one), picture(tmp_path / "b.png", two)
    result = compare(a, b, tmp_path / "o.png", Layout("difference", gain))
    found = below_names(tmp_path / "o.png")
    for index in np.ndindex(one.shape):
        assert found[index] == min(round(abs(int(one[index]) - int(two[index])) * gain), 255)
    assert any(f"{gain:g} times" in note for note in result.notes)


def one_half(rgb: np.ndarray) -> np.ndarray:
    return rgb // np.uint8(2)


def test_the_picture_of_a_folder_is_its_worst_frame(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", [flat(50)] * 4)
    b = folder(tmp_path / "b", [flat(52), flat(51), flat(59), flat(50)])
    result = compare(a, b, tmp_path / "o.png", Layout("difference", 2))
    np.testing.assert_array_equal(below_names(tmp_path / "o.png"), flat(18))
    assert "Shown is the frame of the lowest PSNR, frame_3.png." in result.notes


def test_the_worst_frame_of_a_video_can_be_a_picture(tmp_path: Path) -> None:
    a = lossless(tmp_path / "a.mkv", {0: flat(50), 40: flat(50), 80: flat(50)})
    b = lossless(tmp_path / "b.mkv", {0: flat(50), 40: flat(90), 80: flat(51)})
    result = compare(a, b, tmp_path / "o.png")
    assert (result.worst_frame, result.worst_at) == (1, 0.04)
    np.testing.assert_array_equal(below_names(tmp_path / "o.png"), np.hstack([flat(50), flat(90)]))


@pytest.mark.parametrize(("mode", "expected"), [("side-by-side", (34, 34)), ("wipe", (34, 18))])
def test_an_odd_size_gets_one_more_pixel(tmp_path: Path, mode: str, expected: tuple[int, int]) -> None:
    video = make_video(tmp_path / "v.mp4", FrameSize(33, 17), frames=3)
    result = compare(video, video, tmp_path / "o.mp4", Layout(mode))  # type: ignore[arg-type]
    assert frames_of(tmp_path / "o.mp4")[0].shape[:2] == expected
    assert result.size == FrameSize(33, 17)
    assert any(f"The output is {expected[0]}x{expected[1]}" in note for note in result.notes)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_video_keeps_the_pace_and_the_sound_of_the_second(tmp_path: Path, suffix: str) -> None:
    a = make_video(tmp_path / "a.mp4", SIZE, frames=25)
    b = make_video(tmp_path / "b.mp4", SIZE, frames=25, sound=True, subtitles=True)
    target = tmp_path / f"o{suffix}"
    compare(a, b, target)
    sound, expected_sound = packets_of(target, "audio"), packets_of(b, "audio")
    assert sound == expected_sound[: len(sound)]
    assert len(expected_sound) - len(sound) <= 1  # one may begin after the last frame

    def after_the_first_packet(path: Path) -> list[float]:
        """Times of the frames; Matroska moves both tracks where the sound begins below zero."""
        with av.open(str(path)) as container:
            start = next(p.pts * p.time_base for p in container.demux(audio=0))
        return [float(t - start) for t in presentation_times(path)]

    assert after_the_first_packet(target) == pytest.approx(after_the_first_packet(b), abs=0.0011)  # it counts in ms
    with av.open(str(target)) as container:
        assert {s.type for s in container.streams} == {"video", "audio"}


def test_sound_is_copied_where_there_are_frames(tmp_path: Path) -> None:
    a = make_video(tmp_path / "a.mkv", SIZE, pts=[512 * i for i in range(25, 50)])
    b = make_video(tmp_path / "b.mkv", SIZE, frames=100, sound=True)
    result = compare(a, b, tmp_path / "o.mkv")
    assert (result.frames, result.unmatched) == (25, (0, 75))
    with av.open(str(tmp_path / "o.mkv")) as container:
        heard = [p.pts * p.time_base for p in container.demux(audio=0) if p.pts is not None]
    assert 0.9 <= heard[0] <= 1
    assert 1.95 < heard[-1] < 2
    assert len(heard) == pytest.approx(44100 / 1024, abs=6)


def test_sound_that_the_container_cannot_hold_is_left_out_with_a_note(tmp_path: Path) -> None:
    video = lossless(tmp_path / "v.mkv", {0: flat(50), 40: flat(60)}, sound="wavpack")
    result = compare(video, video, tmp_path / "o.mp4")
    assert "Not copied: sound track 1 (wavpack), which .mp4 cannot hold." in result.notes
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert [s.type for s in container.streams] == ["video"]


def test_a_rotated_video_is_compared_as_it_is_played(tmp_path: Path) -> None:
    rgb = noise(24, 40, 0)
    turned = lossless(tmp_path / "turned.mkv", {0: rgb, 40: rgb}, rotation=90)
    upright = lossless(tmp_path / "upright.mkv", {0: np.rot90(rgb), 40: np.rot90(rgb)})
    result = compare(upright, turned, tmp_path / "o.mkv")
    assert (result.size, result.identical_frames) == (FrameSize(40, 24), 2)
    with av.open(str(tmp_path / "o.mkv")) as container:
        frame = next(container.decode(video=0))
        assert (frame.height, frame.width, frame.rotation) == (40, 48, 0)


def test_deep_samples_are_rounded_with_a_note(tmp_path: Path) -> None:
    levels = np.broadcast_to(np.arange(40, 1000, 47)[None, :, None], (16, 21, 3))  # of 1023
    shallow = picture_video(tmp_path / "a.mkv", np.rint(levels * (255 / 1023)).astype(np.uint8), "bgr0")
    deep = picture_video(tmp_path / "b.mkv", (levels * 64 + levels // 16).astype(np.uint16), "gbrp10le")
    result = compare(shallow, deep)
    assert result.identical_frames == 1
    assert result.notes == [f"{deep} has 10 bits per sample; it was rounded to 8."]


def picture_video(path: Path, rgb: np.ndarray, pixel_format: str) -> Path:
    """One frame, uint8 or uint16, in samples of another kind."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *rgb.shape[:2], pixel_format
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24" if rgb.dtype == np.uint8 else "rgb48le")
        container.mux(stream.encode(frame.reformat(format=pixel_format)))
        container.mux(stream.encode(None))
    return path


def test_a_damaged_video_is_compared_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "w.mp4", SIZE, frames=60, options={"movflags": "+faststart"})
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.7)])
    result = compare(whole, cut)
    assert 0 < result.frames < 60
    assert result.unmatched[0] == 60 - result.frames
    assert any("is damaged" in note for note in result.notes)


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
