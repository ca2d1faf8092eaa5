"""Evaluation of frames that went through an encoder first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import ArrayClip, folder_of_frames, moving_grain
from runners import RepeatRunner

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure import evaluation, front, plotting
from ksnet_deploy.measure.degradation import degrade, enlarge_bicubic
from ksnet_deploy.measure.evaluation import CHUNK, BicubicMethod, ClipScore, EvaluationReport, evaluate
from ksnet_deploy.measure.protocols import PROTOCOLS
from ksnet_deploy.video.clips.clip import Clip
from ksnet_deploy.video.compression import Compression, compress

H264 = Compression.usual("h264", 23)
FRAMES = CHUNK + 3


class Recorder:
    """Enlarges by bicubic and keeps what it was given."""

    name = "recorder"

    def __init__(self) -> None:
        self.frames: list[np.ndarray] = []

    def begin(self, size: FrameSize) -> None:
        pass

    def enlarge(self, lrs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for lr in lrs:
            self.frames.append(lr)
            yield enlarge_bicubic(lr)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("protocol", ["folder", "vimeo90k"])
def test_a_clip_is_encoded_as_a_whole_whatever_is_counted_of_it(protocol: str, given: bool) -> None:
    hr, method = moving_grain(FRAMES, 64, 96), Recorder()
    small = degrade(hr, "BD" if given else "BI")
    lr: Clip | None = ArrayClip(small) if given else None
    report = evaluate([(ArrayClip(hr), lr)], method, protocol, compression=H264)
    np.testing.assert_array_equal(np.stack(method.frames), compress(small, H264))
    assert report.clips[0].frames == (1 if protocol == "vimeo90k" else FRAMES)
    assert report.degradation == ("as given" if given else "BI")


def test_poorer_quality_gives_poorer_figures_and_the_report_says_which() -> None:
    clips = [(ArrayClip(moving_grain(4, 64, 96)), None)]
    reports = [
        evaluate(clips, BicubicMethod(), "folder", compression=compression)
        for compression in (None, H264, Compression.usual("h264", 40))
    ]
    found = [report.mean("psnr_db") for report in reports]
    assert found == sorted(found, reverse=True)  # type: ignore[type-var]
    assert len(set(found)) == 3
    assert [report.input_in_words for report in reports] == ["BI", "BI, h264 CRF 23", "BI, h264 CRF 40"]
    assert "degradation BI, h264 CRF 23, Y" in reports[1].as_text()
    assert reports[0].as_dict()["compression"] is None
    told = reports[1].as_dict()["compression"]
    assert (told["codec"], told["quality"], told["preset"]) == ("h264", 23, "medium")
    assert "libx264" in told["encoder"]


def test_the_papers_rows_do_not_stand_beside_figures_of_encoded_frames() -> None:
    counts = PROTOCOLS["vid4"].clips
    scores = [ClipScore(name, count, 30.0, 0.9, None, [30.0] * count) for name, count in counts.items()]
    report = EvaluationReport("vid4", "y", "BI", "net", scores)
    assert report.published()
    assert not replace(report, compression=H264).published()


def test_bicubic_of_the_same_frames_stands_beside_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ksnet_deploy.upscale.networks.NetworkFile.open", lambda _network, size, io, *_, **__: RepeatRunner(size, io)
    )
    hr = folder_of_frames(tmp_path / "a", moving_grain(3, 64, 96))
    seen: list[int] = []
    report = front.evaluate(hr, "lite", codec="hevc", on_begin=lambda _, frames: seen.append(frames))
    assert seen == [6], "the frames of both"
    alone = front.evaluate(hr, method="bicubic", codec="hevc")
    assert alone.bicubic is None
    assert report.bicubic is not None
    assert report.bicubic.clips == alone.clips
    assert report.clips != alone.clips
    assert report.as_dict()["bicubic_mean"]["psnr_db"] == alone.mean("psnr_db")
    assert report.compression == Compression.usual("hevc") == Compression("hevc", 28, "medium")
    assert front.evaluate(hr, "lite").bicubic is None


@pytest.mark.parametrize(
    ("codec", "crf"),
    [("h264", 52), ("h264", -1), ("vp9", 64), ("mpeg2", 0), ("mpeg2", 32), ("mjpeg", 0), ("h264", 23.5), ("vp9", "23")],
)
def test_a_quality_that_a_codec_has_not_is_refused_before_a_clip_is_looked_for(codec: str, crf: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{codec} has qualities from \d+ \(best\) to \d+, not {crf!r}; give a"):
        front.evaluate("none", codec=codec, crf=crf)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "bicubic", "model": "lite", "tiles": "off"}, "leave --model and --tiles out, or --method bicubic"),
        ({"method": "bicubic", "backend": "torch"}, "bicubic has no network, so leave --runtime out"),
        ({"lr": "low", "degradation": "BD"}, "LR is given by --lr, so --degradation BD has no effect"),
    ],
)
def test_what_would_have_no_effect_is_refused_before_a_clip_is_looked_for(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        front.evaluate("none", **options)


def test_a_plot_says_what_the_frames_went_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    monkeypatch.setattr(plotting, "save_figure", lambda figure, _: titles.append(figure.axes[0].get_title()))
    clips = [(ArrayClip(moving_grain(2, 64, 96)), None)]
    for compression in (None, H264):
        report = evaluation.evaluate(clips, BicubicMethod(), "folder", compression=compression)
        plotting.plot_psnr(report, tmp_path / "p.png")
    assert titles == ["bicubic on folder, BI", "bicubic on folder, BI, h264 CRF 23"]
