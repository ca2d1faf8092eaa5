"""What --dry-run says, against what then happens."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from command import run
from media import make_video
from runners import RepeatRunner

from ksnet_deploy.base.errors import ConfigError, OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.speed.frames import BENCH_CLIP
from ksnet_deploy.network.bundled import bundled_facts
from ksnet_deploy.upscale.estimate import FRAMES, MOMENTS
from ksnet_deploy.upscale.result import Events
from ksnet_deploy.upscale.run import estimate_video, upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.writing.presets import choose_encoder

SIZE = FrameSize(32, 48)


def instant() -> Upscaler:
    return Upscaler(open_runner=RepeatRunner)


@pytest.mark.parametrize("end_s", [None, Fraction(3, 2)])
def test_frames_and_bytes_are_about_those_of_the_output(tmp_path: Path, end_s: Fraction | None) -> None:
    target = tmp_path / "o.mp4"
    expected = estimate_video(BENCH_CLIP, target, instant(), end_s=end_s)
    assert list(tmp_path.iterdir()) == []
    assert (
        FRAMES * 2 < expected.measured_frames <= FRAMES * len(MOMENTS)
    )  # fewer are left at nine tenths of a short one
    assert expected.finished_frames == 0
    result = upscale_video(BENCH_CLIP, target, instant(), end_s=end_s)
    assert (expected.target, expected.size, expected.pixel_format) == (target, result.size, result.pixel_format)
    assert expected.frames == result.frames
    assert expected.bytes is not None
    assert 0.67 <= expected.bytes / target.stat().st_size <= 1.5
    assert expected.seconds == pytest.approx(expected.frames / expected.fps)


def test_time_grows_with_what_a_step_takes(tmp_path: Path) -> None:
    class Slow(RepeatRunner):
        def _step(self, lr: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            import time

            time.sleep(0.05)
            return super()._step(lr)

    source = make_video(tmp_path / "v.mp4", SIZE, frames=40)
    found = estimate_video(source, None, Upscaler(open_runner=Slow))
    assert found.seconds is not None
    assert found.seconds >= 0.05 * 40


def test_a_video_shorter_than_the_measurement_is_measured(tmp_path: Path) -> None:
    source = make_video(tmp_path / "v.mp4", SIZE, frames=1)
    found = estimate_video(source, None, instant())
    assert (found.frames, found.measured_frames > 0) == (1, True)


def test_what_would_fail_fails_at_once(tmp_path: Path) -> None:
    source = make_video(tmp_path / "v.mp4", SIZE)
    (tmp_path / "o.mp4").write_text("precious")
    with pytest.raises(OutputError, match="already exists"):
        estimate_video(source, tmp_path / "o.mp4", instant())
    with pytest.raises(ConfigError, match="give an even number"):
        estimate_video(source, tmp_path / "p.mp4", instant(), height=33)


def test_an_unfinished_job_is_told_and_left_alone(tmp_path: Path) -> None:
    source = make_video(tmp_path / "v.mp4", SIZE, frames=200)
    seen = iter(range(150))

    def stop() -> None:
        if next(seen, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale_video(source, None, instant(), events=Events(on_frame=stop))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    found = estimate_video(source, None, instant())
    assert found.finished_frames == 120
    assert found.seconds == pytest.approx(80 / found.fps)
    with pytest.raises(OutputError, match=r"begun with other settings \(encoder"):
        estimate_video(source, None, instant(), codec=choose_encoder("h264", quality=30))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_command_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ksnet_deploy.upscale.networks.NetworkFile.open", lambda _network, size, io, *_, **__: RepeatRunner(size, io)
    )
    source = make_video(tmp_path / "v.mp4", SIZE, frames=12, sound=True)
    told = run("upscale", source, "--dry-run")
    assert told.returncode == 0
    assert "12 frames of 128x192 (height x width) would take about 0:00:0" in told.stdout
    assert "no output was written" in told.stdout
    answer = json.loads(run("upscale", source, "--dry-run", "--json").stdout)
    assert (answer["dry_run"], answer["frames"], answer["output"]) == (True, 12, str(tmp_path / "v_x4.mp4"))
    assert answer["bytes"] > 0
    facts = bundled_facts()["lite-video"]
    assert facts.h264_crf23_gain_db is not None
    assert answer["network"] == (
        f"lite-video is for compressed video; {facts.validation_gain_db:+.2f} dB over bicubic (clean), "
        f"{facts.h264_crf23_gain_db:+.2f} dB over bicubic (H.264 at CRF 23)."
    )
    assert answer["network"] in told.stdout
    assert estimate_video(source, None, instant()).network is None, "of which nothing is known"
    refused = run("upscale", source, "-o", tmp_path / "frames", "--dry-run")
    assert refused.returncode == 1
    assert "--dry-run has no effect on a folder of pictures" in refused.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"v.mp4"}
