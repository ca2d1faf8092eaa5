from __future__ import annotations

import json
from pathlib import Path

import pytest

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.speed import Latency, moving_frames, run_benchmark
from ksnet_deploy.network.checkpoints import Checkpoint


def test_latency_percentiles_are_in_milliseconds() -> None:
    latency = Latency.of([i / 1000 for i in range(1, 102)])
    assert (latency.samples, latency.p50_ms) == (101, pytest.approx(51))
    assert (latency.p90_ms, latency.p99_ms) == (pytest.approx(91), pytest.approx(100))
    assert latency.fps == pytest.approx(1000 / 51)


def test_frames_move_and_have_the_size_asked_for() -> None:
    frames = moving_frames(FrameSize(101, 200), 3)
    assert all(frame.shape == (101, 200, 3) for frame in frames)
    assert (frames[0] != frames[1]).any()


def test_report_compares_every_backend_with_the_reference(small: Checkpoint, clip: Path) -> None:
    report = run_benchmark(small.path, FrameSize(32, 48), clip=clip, seconds=0.5)
    answer = json.loads(json.dumps(report.as_dict()))
    torch_row, onnx_row = answer["results"]
    assert (torch_row["backend"], onnx_row["backend"]) == ("torch", "onnxruntime")
    for row in (torch_row, onnx_row):
        assert row["step"]["samples"] >= 3
        assert 0 < row["step"]["p50_ms"] <= row["step"]["p90_ms"] <= row["step"]["p99_ms"]
        assert row["clip_fps"] > 0
        assert row["peak_memory_mb"] > 50
    assert torch_row["psnr_db"] is None
    assert onnx_row["equal_to_reference"] or onnx_row["psnr_db"] > 50
    table = report.as_text()
    assert "as published" in table
    assert table.count("\n") == 4


def test_a_missing_clip_is_refused(small: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        run_benchmark(small.path, FrameSize(32, 48), clip=tmp_path / "none.mp4")
