from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from media import make_video
from networks import SMALL
from runners import RepeatRunner

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.speed import Latency, _is_trained, measure_step, moving_frames, run_benchmark
from ksnet_deploy.network.bundled import bundled_checkpoint, bundled_names
from ksnet_deploy.network.checkpoints import Checkpoint, save_checkpoint
from ksnet_deploy.network.model import KSNet


def test_latency_percentiles_are_in_milliseconds() -> None:
    latency = Latency.of([i / 1000 for i in range(1, 102)])
    assert (latency.samples, latency.p50_ms) == (101, pytest.approx(51))
    assert (latency.p90_ms, latency.p99_ms) == (pytest.approx(91), pytest.approx(100))
    assert latency.fps == pytest.approx(1000 / 51)


def test_frames_move_and_have_the_size_asked_for() -> None:
    frames = moving_frames(FrameSize(101, 200), 3)
    assert all(frame.shape == (101, 200, 3) for frame in frames)
    assert (frames[0] != frames[1]).any()


class Clocked(RepeatRunner):
    """Each step takes the next of some times, on a clock of its own."""

    def __init__(self, times: list[float]) -> None:
        super().__init__(FrameSize(16, 16))
        self.times, self.now, self.seen = times, 0.0, []

    def _step(self, lr: np.ndarray) -> np.ndarray:
        self.now += self.times[len(self.seen)]
        self.seen.append(int(lr[0, 0, 0]))
        return super()._step(lr)

    def reset(self) -> None:
        self.seen.append(-1)
        self.times.insert(len(self.seen) - 1, 0.0)


def test_steps_are_timed_one_by_one_without_the_first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [np.full((16, 16, 3), i, np.uint8) for i in range(3)]
    runner = Clocked([100.0, 100.0, 0.1, 0.2, 0.3, 0.4, 100.0])
    monkeypatch.setattr("ksnet_deploy.measure.speed.time.perf_counter", lambda: runner.now)
    latency = measure_step(runner, frames, seconds=0.9, warm_up=2)
    assert runner.seen == [0, 1, -1, 0, 1, 2, 0], "the frames again and again, from a fresh state"
    assert (latency.samples, latency.p50_ms, latency.p99_ms) == (4, pytest.approx(250), pytest.approx(397))
    short = Clocked([0.5, 0.5, 0.5, 100.0])
    monkeypatch.setattr("ksnet_deploy.measure.speed.time.perf_counter", lambda: short.now)
    assert measure_step(short, frames, seconds=0.1, warm_up=0).samples == 3


def test_report_compares_every_backend_with_the_reference(small: Checkpoint, clip: Path) -> None:
    report = run_benchmark(small.path, FrameSize(32, 48), clip=clip, seconds=0.5)
    answer = json.loads(json.dumps(report.as_dict()))
    torch_row, onnx_row = answer["results"]
    assert (torch_row["backend"], onnx_row["backend"]) == ("torch", "onnxruntime")
    for row in (torch_row, onnx_row):
        assert row["step"]["samples"] >= 3
        assert 0 < row["step"]["p50_ms"] <= row["step"]["p90_ms"] <= row["step"]["p99_ms"]
        assert row["step"]["fps"] == pytest.approx(1000 / row["step"]["p50_ms"])
        assert row["clip_fps"] > 0
        assert 1e6 * row["peak_memory_mb"] < psutil.virtual_memory().total
    # PyTorch alone is larger than this, and it is not loaded where ONNX Runtime is measured.
    assert torch_row["peak_memory_mb"] > 150
    assert onnx_row["peak_memory_mb"] < torch_row["peak_memory_mb"]
    assert torch_row["psnr_db"] is None
    assert onnx_row["equal_to_reference"] or onnx_row["psnr_db"] > 50
    head, columns, *rows, paper = report.as_text().splitlines()
    assert f"at 32x48 (height x width), float32 network, uint8 frames, on {report.machine}" in head
    assert [row.split()[0] for row in rows] == ["torch", "onnxruntime"]
    assert [float(row.split()[1]) for row in rows] == [round(r["step"]["p50_ms"], 1) for r in (torch_row, onnx_row)]
    assert "clip fps" in columns
    assert "as published" in paper


def test_a_missing_clip_is_refused(small: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        run_benchmark(small.path, FrameSize(32, 48), clip=tmp_path / "none.mp4")


@pytest.mark.parametrize("upsampler", ["progressive", "direct"])
def test_a_trained_network_is_compared_and_an_untrained_one_is_not(tmp_path: Path, upsampler: Any) -> None:
    config = replace(SMALL, upsampler=upsampler)
    model = KSNet(config)
    with torch.no_grad():
        next(layer for layer in reversed(model.reconstruct.head) if hasattr(layer, "weight")).weight.fill_(0.01)
    save_checkpoint(model, tmp_path / "trained.safetensors", training="none", licence="Apache-2.0")
    assert _is_trained(tmp_path / "trained.safetensors")
    save_checkpoint(KSNet(config), tmp_path / "new.safetensors", training="none", licence="Apache-2.0")
    assert not _is_trained(tmp_path / "new.safetensors")


def test_the_bundled_networks_are_trained() -> None:
    assert all(_is_trained(bundled_checkpoint(name)) for name in bundled_names())


@pytest.mark.parametrize("fits", [True, False])
def test_an_exported_file_is_measured_by_itself(
    small_onnx: Callable[..., Path], clip: Path, tmp_path: Path, fits: bool
) -> None:
    shown = clip if fits else make_video(tmp_path / "other.mp4", FrameSize(40, 48), frames=3)
    report = run_benchmark(small_onnx("32x48"), FrameSize(32, 48), clip=shown, seconds=0.05)
    (row,) = report.results
    assert (row.backend, row.psnr_db, row.clip_fps is not None) == ("onnxruntime", None, fits)
    head, _, line, _ = report.as_text().splitlines()
    assert "float32 network, uint8 frames" in head
    assert line.split()[-1] == "-"
    assert "untrained" not in line
