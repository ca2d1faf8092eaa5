"""Comparisons of videos, pictures and folders whose every pixel is known."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from compared import SIZE, below_names, flat, folder, lossless, picture
from media import make_video, packets_of, presentation_times

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import luma
from ksnet_deploy.measure.compare import compare
from ksnet_deploy.measure.degradation import enlarge_bicubic
from ksnet_deploy.measure.layout import Layout


def noise(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


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
