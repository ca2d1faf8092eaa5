from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import ArrayClip, folder_of_frames, noise, smooth_picture
from networks import new_checkpoint

from ksnet_deploy.base.errors import BackendError, InputError, OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import luma
from ksnet_deploy.measure.degradation import degrade, enlarge_bicubic
from ksnet_deploy.measure.evaluation import BicubicMethod, ClipScore, EvaluationReport, NetworkMethod, evaluate
from ksnet_deploy.measure.plotting import check_plotting, plot_psnr
from ksnet_deploy.measure.protocols import PROTOCOLS, EvaluationProtocol, pairs
from ksnet_deploy.measure.published import PUBLISHED
from ksnet_deploy.measure.warping import WarpingError
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.upscale.upscaler import Upscaler

VID4 = Path(__file__).parents[3] / "shared/data/vid4"
FOLDER = PROTOCOLS["folder"]


class Recorder:
    """Enlarges by bicubic and remembers what it was asked."""

    name = "recorder"

    def __init__(self) -> None:
        self.sizes: list[FrameSize] = []
        self.frames: list[np.ndarray] = []

    def begin(self, size: FrameSize) -> None:
        self.sizes.append(size)

    def enlarge(self, lrs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for lr in lrs:
            self.frames.append(lr)
            yield enlarge_bicubic(lr)


def textured(frames: int, height: int, width: int) -> np.ndarray:
    picture = smooth_picture(height, width + 4 * frames)
    picture = np.clip(picture.astype(int) + noise(*picture.shape, seed=3) // 8, 0, 255).astype(np.uint8)
    return np.stack([picture[:, 4 * t : 4 * t + width] for t in range(frames)])


@pytest.mark.parametrize("space", ["y", "rgb"])
def test_figures_agree_with_scikit_image(space: str) -> None:
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity  # takes a second

    hr = textured(3, 48, 64)
    report = evaluate([(ArrayClip(hr), None)], BicubicMethod(), "folder", space=space)  # type: ignore[arg-type]
    psnrs, ssims = [], []
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    for found, expected in zip(enlarge_bicubic(degrade(hr, "BI")), hr, strict=True):
        a, b = (found, expected) if space == "rgb" else (luma(found), luma(expected))
        psnrs.append(peak_signal_noise_ratio(b, a, data_range=255))
        if space == "rgb":
            options["channel_axis"] = 2
        ssims.append(structural_similarity(b.astype(np.float64), a.astype(np.float64), **options))
    assert report.clips[0].psnr_per_frame == pytest.approx(psnrs, abs=1e-3)
    assert report.clips[0].psnr_db == pytest.approx(np.mean(psnrs), abs=1e-3)
    assert report.clips[0].ssim == pytest.approx(np.mean(ssims), abs=1e-5)


def test_a_long_clip_is_read_in_order_and_to_its_end() -> None:
    hr, method = textured(37, 16, 16), Recorder()
    report = evaluate([(ArrayClip(hr), None)], method, "folder")
    assert report.clips[0].frames == 37
    np.testing.assert_array_equal(np.stack(method.frames), degrade(hr, "BI"))


def test_vimeo_counts_the_middle_frame_alone_and_shows_all() -> None:
    hr, method = textured(7, 32, 32), Recorder()
    report = evaluate([(ArrayClip(hr), None)], method, "vimeo90k")
    whole = evaluate([(ArrayClip(hr), None)], BicubicMethod(), "folder")
    assert len(method.frames) == 7
    assert report.clips[0].psnr_per_frame == whole.clips[0].psnr_per_frame[3:4]


def test_the_mean_is_over_clips_not_over_frames() -> None:
    clips = [(ArrayClip(textured(2, 32, 32), "a"), None), (ArrayClip(noise(6, 32, 32, 3), "b"), None)]
    report = evaluate(clips, BicubicMethod(), "folder")
    assert report.mean("psnr_db") == pytest.approx((report.clips[0].psnr_db + report.clips[1].psnr_db) / 2)


def test_a_network_is_reset_between_clips_and_padded(small: Checkpoint) -> None:
    clips = [(ArrayClip(textured(3, 48, 64), name), None) for name in "ab"]
    clips.append((ArrayClip(textured(3, 96, 80), "c"), None))
    made: list[Upscaler] = []

    def make() -> Upscaler:
        made.append(Upscaler(small.path, backend="torch"))
        return made[-1]

    with closing(NetworkMethod("net", make)) as method:
        report = evaluate(clips, method, "folder")
    assert report.clips[0].psnr_per_frame == report.clips[1].psnr_per_frame
    assert len(made) == 2, "one for each size"


@pytest.mark.slow
def test_a_network_is_measured_in_tiles(small: Checkpoint) -> None:
    clips, said = [(ArrayClip(textured(2, 512, 640)), None)], []
    with closing(NetworkMethod("net", lambda: Upscaler(small.path, tiles="96x96", on_note=said.append))) as method:
        report = evaluate(clips, method, "folder")
        made = method.run_by()
    assert any("tiles" in sentence for sentence in said)
    assert str(made["network"]).startswith(small.path.name)
    assert str(made["runtime"]).startswith("onnxruntime")
    assert made["precision"] == "float32"
    with closing(NetworkMethod("net", lambda: Upscaler(small.path, tiles="off"))) as method:
        whole = evaluate(clips, method, "folder")
    assert report.mean("psnr_db") == pytest.approx(whole.mean("psnr_db"), abs=0.5)


def test_given_lr_frames_are_used(tmp_path: Path) -> None:
    hr = textured(3, 32, 48)
    folder_of_frames(tmp_path / "hr/walk", hr)
    folder_of_frames(tmp_path / "lr/walk", 255 - degrade(hr, "BI"))
    method = Recorder()
    report = evaluate(pairs(tmp_path / "hr", tmp_path / "lr", FOLDER), method, "folder")
    np.testing.assert_array_equal(np.stack(method.frames), 255 - degrade(hr, "BI"))
    assert report.degradation == "as given"


def test_pairs_that_do_not_fit_are_named(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "hr/a", noise(3, 32, 48, 3))
    folder_of_frames(tmp_path / "hr/b", noise(3, 32, 48, 3))
    folder_of_frames(tmp_path / "lr/a", noise(3, 8, 12, 3))
    with pytest.raises(InputError, match="no LR clip named 'b'"):
        pairs(tmp_path / "hr", tmp_path / "lr", FOLDER)
    short = folder_of_frames(tmp_path / "short", noise(2, 8, 12, 3))
    with pytest.raises(InputError, match="'a' has 3 HR frames and 2 LR frames"):
        pairs(tmp_path / "hr/a", short, FOLDER)
    large = folder_of_frames(tmp_path / "large", noise(3, 16, 12, 3))
    with pytest.raises(InputError, match=r"32x48 in HR and 16x12 in LR .* must be a quarter, 8x12"):
        pairs(tmp_path / "hr/a", large, FOLDER)


def test_hr_that_four_does_not_divide_is_refused_or_cropped(tmp_path: Path) -> None:
    folder = folder_of_frames(tmp_path / "walk", noise(2, 34, 48, 3))
    with pytest.raises(InputError, match=r"'walk' .*34x48 .*--crop"):
        pairs(folder, None, FOLDER)
    method = Recorder()
    evaluate(pairs(folder, None, FOLDER, mod_crop=True), method, "folder")
    assert method.sizes == [FrameSize(8, 12)]


def test_vimeo_counts_the_listed_clips_where_there_is_a_list(tmp_path: Path) -> None:
    for name in ("00001/0001", "00001/0002"):
        folder_of_frames(tmp_path / "sequences" / name, noise(7, 16, 16, 3), first=1)
    with pytest.raises(InputError, match=r"has no sep_testlist\.txt"):
        pairs(tmp_path, None, PROTOCOLS["vimeo90k"])
    (tmp_path / "sep_testlist.txt").write_text("00001/0002\n")
    assert [hr.name for hr, _ in pairs(tmp_path, None, PROTOCOLS["vimeo90k"])] == ["sequences/00001/0002"]
    (tmp_path / "sep_testlist.txt").write_text("00001/0002\n00001/0003\n00002/0001\n")
    with pytest.raises(InputError, match=r"lacks 2 of the 3 clips .*, sequences/00001/0003, sequences/00002/0001;"):
        pairs(tmp_path, None, PROTOCOLS["vimeo90k"])
    (tmp_path / "sep_testlist.txt").write_text("\n")
    with pytest.raises(InputError, match="names no clip"):
        pairs(tmp_path, None, PROTOCOLS["vimeo90k"])


def test_the_hr_clips_of_a_data_set_are_found_beside_its_lr(tmp_path: Path) -> None:
    for name in ("calendar", "city", "foliage", "walk"):
        folder_of_frames(tmp_path / "GT" / name, noise(2, 16, 16, 3))
        folder_of_frames(tmp_path / "BIx4" / name, noise(2, 4, 4, 3))
    said: list[str] = []
    found = pairs(tmp_path, None, PROTOCOLS["vid4"], on_note=said.append)
    assert [hr.name for hr, _ in found] == ["calendar", "city", "foliage", "walk"]
    assert said[0] == f"Measured are the clips in {tmp_path / 'GT'}."
    assert len(pairs(tmp_path, tmp_path / "BIx4", FOLDER)) == 4


def test_frames_that_are_numbered_otherwise_in_hr_and_lr_are_told(tmp_path: Path) -> None:
    """They may be off by one frame."""
    hr = folder_of_frames(tmp_path / "hr/a", noise(3, 64, 64, 3))
    folder_of_frames(tmp_path / "lr/a", noise(3, 16, 16, 3), first=1)
    notes: list[str] = []
    assert len(pairs(hr.parent, tmp_path / "lr", FOLDER, on_note=notes.append)) == 1
    assert notes == ["HR and LR frames are numbered from different numbers, and go together in their order: a."]
    notes.clear()
    folder_of_frames(tmp_path / "same/a", noise(3, 16, 16, 3))
    assert len(pairs(hr.parent, tmp_path / "same", FOLDER, on_note=notes.append)) == 1
    assert notes == []


def test_clips_of_a_benchmark_that_are_shorter_than_its_own_are_told(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "sequences/00001/0001", noise(6, 16, 16, 3))
    (tmp_path / "sep_testlist.txt").write_text("00001/0001\n")
    notes: list[str] = []
    pairs(tmp_path, None, PROTOCOLS["vimeo90k"], on_note=notes.append)
    (note,) = notes
    assert "not the benchmark's figures" in note
    assert "sequences/00001/0001 6 frames, not 7" in note


def test_clips_of_other_names_are_not_paired_silently(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "hr/a", noise(3, 32, 48, 3))
    folder_of_frames(tmp_path / "lr/b", noise(3, 8, 12, 3))
    said: list[str] = []
    with pytest.raises(InputError, match="no LR clip named 'a'"):
        pairs(tmp_path / "hr", tmp_path / "lr", FOLDER, on_note=said.append)
    assert said == []
    assert len(pairs(tmp_path / "hr/a", tmp_path / "lr/b", FOLDER, on_note=said.append)) == 1
    assert said == ["The HR clip 'a' is compared with the LR clip 'b'."]


def test_lr_clips_without_an_hr_clip_are_named(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "hr/a", noise(3, 32, 48, 3))
    for name in "abcdef":
        folder_of_frames(tmp_path / "lr" / name, noise(3, 8, 12, 3))
    said: list[str] = []
    assert [hr.name for hr, _ in pairs(tmp_path / "hr", tmp_path / "lr", FOLDER, on_note=said.append)] == ["a"]
    assert said == [f"Left out, because {tmp_path / 'hr'} has no HR clip of that name: b, c, d, e and 1 more."]


def test_an_equal_frame_counts_as_a_hundred_db() -> None:
    report = evaluate([(ArrayClip(np.zeros((2, 16, 16, 3), np.uint8)), None)], BicubicMethod(), "folder")
    assert report.clips[0].psnr_per_frame == [100.0, 100.0]


def test_a_benchmark_with_a_clip_missing_is_refused(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "000", noise(2, 16, 16, 3))
    with pytest.raises(InputError, match="lacks 3 of the 4 clips of this benchmark, 011, 015, 020;"):
        pairs(tmp_path, None, PROTOCOLS["reds4"])
    assert len(pairs(tmp_path, None, EvaluationProtocol(clips={"000": 2}))) == 1


def test_flicker_raises_the_warping_error(tmp_path: Path) -> None:
    config = KSNetConfig(channels=8, extract_blocks=1, deform_groups=2, flow_channels=4)
    checkpoint = new_checkpoint(tmp_path, config)
    hr = np.repeat(textured(1, 64, 64), 4, axis=0)  # at rest, where even a random flow network is trusted in flat parts
    flicker = hr.astype(int) + np.array([0, 9, 0, 9])[:, None, None, None]

    def score(frames: np.ndarray) -> float:
        measure = WarpingError(checkpoint.path)
        values = [measure.add(frame, original) for frame, original in zip(frames, hr, strict=True)]
        assert values[0] is None
        return float(np.mean([value for value in values[1:] if value is not None]))

    steady = score(hr)
    assert steady < WarpingError.TRUSTED_LEVELS
    assert score(np.clip(flicker, 0, 255).astype(np.uint8)) > steady + 3


def test_remembered_flows_give_the_same_warping_error(tmp_path: Path) -> None:
    config = KSNetConfig(channels=8, extract_blocks=1, deform_groups=2, flow_channels=4)
    checkpoint = new_checkpoint(tmp_path, config)
    clips = [textured(3, 64, 64), smooth_picture(64, 64)[None].repeat(3, axis=0)]
    once, remembering = WarpingError(checkpoint.path), WarpingError(checkpoint.path, remember=True)
    for _ in range(2):
        for hr in clips:
            once.begin()
            remembering.begin()
            for frame in hr:
                found = enlarge_bicubic(degrade(frame, "BI"))
                assert remembering.add(found, frame) == once.add(found, frame)


def report_of(protocol: str, counts: dict[str, int], **options: Any) -> EvaluationReport:
    scores = [ClipScore(name, count, 30.0, 0.9, None, [30.0] * count) for name, count in counts.items()]
    options = {"space": PROTOCOLS[protocol].space, "degradation": "BI"} | options
    return EvaluationReport(protocol, method="net", clips=scores, **options)


VID4_FRAMES = {"calendar": 41, "city": 34, "foliage": 49, "walk": 47}


def test_the_report_carries_the_papers_table_marked_as_published() -> None:
    report = report_of("vid4", VID4_FRAMES)
    answer = json.loads(json.dumps(report.as_dict()))
    assert answer["published"]["rows"]["KSNet-uni"] == [27.14, 0.8208]
    assert set(answer["published"]["rows"]) == {name for name, row in PUBLISHED.items() if "vid4" in row}
    assert "As published (KSNet, MM '23, Table 1" in report.as_text()
    assert report_of("reds4", dict.fromkeys(("000", "011", "015", "020"), 100)).published()
    assert report_of("vimeo90k", {str(i): 1 for i in range(7824)}).published()


@pytest.mark.parametrize(
    ("protocol", "counts", "options"),
    [
        ("vid4", VID4_FRAMES, {"degradation": "BD"}),
        ("vid4", VID4_FRAMES, {"degradation": "as given"}),
        ("vid4", VID4_FRAMES, {"space": "rgb"}),
        ("vid4", {**VID4_FRAMES, "walk": 46}, {}),
        ("vid4", {"city": 34}, {}),
        ("reds4", dict.fromkeys(("000", "011", "015", "020"), 10), {}),
        ("vimeo90k", {str(i): 1 for i in range(10)}, {}),
        ("folder", VID4_FRAMES, {}),
    ],
)
def test_published_figures_stand_only_beside_the_same_frames_by_the_same_rules(
    protocol: str, counts: dict[str, int], options: dict[str, str]
) -> None:
    report = report_of(protocol, counts, **options)
    assert report.as_dict()["published"]["rows"] == {}
    assert "published" not in report.as_text()


def test_the_plot_is_written_and_bad_names_are_refused(tmp_path: Path) -> None:
    report = evaluate([(ArrayClip(textured(3, 32, 32)), None)], BicubicMethod(), "folder")
    check_plotting(tmp_path / "drift.svg")
    plot_psnr(report, tmp_path / "drift.svg")
    assert "<svg" in (tmp_path / "drift.svg").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["drift.svg"]
    (tmp_path / "full.png").mkdir()  # which appeared in the meantime
    with pytest.raises(OutputError, match=r"full\.png cannot be written"):
        plot_psnr(report, tmp_path / "full.png")
    with pytest.raises(OutputError, match=r"drift\.svg already exists; pass --overwrite"):
        check_plotting(tmp_path / "drift.svg")
    check_plotting(tmp_path / "drift.svg", overwrite=True)
    with pytest.raises(OutputError, match=r"drift\.txt is no picture's name"):
        check_plotting(tmp_path / "drift.txt")
    with pytest.raises(OutputError, match="does not exist"):
        check_plotting(tmp_path / "nowhere/drift.png")


def test_a_plot_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(BackendError, match=r"pip install 'ksnet-deploy\[plots\]'"):
        check_plotting(tmp_path / "drift.svg")


@pytest.mark.slow
@pytest.mark.skipif(not VID4.is_dir(), reason="the Vid4 benchmark is not beside the checkout")
def test_bicubic_on_vid4_gives_the_published_figures() -> None:
    report = evaluate(pairs(VID4, None, PROTOCOLS["vid4"]), BicubicMethod(), "vid4")
    published_psnr, published_ssim = PUBLISHED["Bicubic"]["vid4"]
    assert report.mean("psnr_db") == pytest.approx(published_psnr, abs=0.02)
    assert report.mean("ssim") == pytest.approx(published_ssim, abs=0.002)


@pytest.mark.parametrize(("height", "width"), [(8, 64), (64, 8), (11, 13), (3, 3)])
def test_frames_too_small_for_ssim_are_refused_before_they_are_measured(
    tmp_path: Path, height: int, width: int
) -> None:
    folder_of_frames(tmp_path / "a", noise(2, height, width, 3))
    with pytest.raises(InputError, match=rf"is {height}x{width} .*too small for SSIM, whose window has 11 pixels"):
        pairs(tmp_path, None, PROTOCOLS["folder"], mod_crop=True)
    folder_of_frames(tmp_path / "b" / "a", noise(2, 12, 13, 3))
    evaluate(pairs(tmp_path / "b", None, PROTOCOLS["folder"], mod_crop=True), BicubicMethod(), "folder")


def test_a_list_of_clips_is_text_with_or_without_a_mark(tmp_path: Path) -> None:
    folder_of_frames(tmp_path / "sequences" / "00001" / "0002", noise(3, 32, 32, 3), first=1)
    for begin in (b"", b"\xef\xbb\xbf"):
        (tmp_path / "sep_testlist.txt").write_bytes(begin + b"00001/0002\r\n")
        assert len(pairs(tmp_path, None, PROTOCOLS["vimeo90k"])) == 1
    (tmp_path / "sep_testlist.txt").write_bytes(b"\xff\xfe0\x000\x00")
    with pytest.raises(InputError, match=r"sep_testlist.txt is no list of clips: it is not text; restore it"):
        pairs(tmp_path, None, PROTOCOLS["vimeo90k"])
