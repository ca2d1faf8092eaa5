"""The suite for a lent GPU, played on this CPU with tiny sizes, so that it works the day it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from runners import RepeatRunner
from safetensors.numpy import load_file

from ksnet_deploy.base.frames import FrameSize

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

TINY = {
    "DEVICE": "cpu",
    "MODEL": "lite",
    "SIZE": "16x24",
    "SHAPE": "1x3x32",
    "PRECISION": "fp32",
    "SECONDS_A_ROW": "0.01",
    "TESTS": "tests/test_gpu.py -k saved_state",
    "BUDGET_S": "900",
    "TRY_S": "2",
    "RESERVE_S": "100000",
    "LEAST_ITERATIONS": "1",
    "HOLD_OUT": "1",
    "WORKERS": "0",
}


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two videos and a still, as OpenCV writes them."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a", "b"):
        video = cv2.VideoWriter(str(folder / f"{name}.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, (198, 194))
        for shade in range(6):
            video.write(np.full((194, 198, 3), 20 * shade, np.uint8))
        video.release()
    cv2.imwrite(str(folder / "still.png"), np.full((190, 190, 3), 90, np.uint8))
    (folder / "broken.mp4").write_bytes(b"nothing")
    return folder


def suite(out: Path, *arguments: str, **settings: str) -> tuple[int, dict[str, str]]:
    """Exit code and verdicts."""
    environment = os.environ | TINY | settings | {"OUT": str(out), "PYTHON": sys.executable}
    command = ["bash", str(ROOT / "benchmarks" / "gpu_suite.sh"), *arguments]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = (out / "summary.txt").read_text().splitlines()
    print(run.stdout, run.stderr)
    return run.returncode, dict(line.split(": ", 1) for line in lines)


@pytest.mark.slow
def test_the_suite_runs_whole_on_a_cpu(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, verdicts = suite(out, str(clips))
    assert code == 0, verdicts
    assert list(verdicts) == ["kernels", "tests", "engine", "benchmark", "training"]
    assert "passed" in verdicts["tests"]
    assert verdicts["training"].startswith("1 iterations at ")
    assert {path.name for path in out.iterdir()} >= {"cpu-lite.json", "ksnet.safetensors", "suite.log", "summary.txt"}


@pytest.mark.slow
def test_a_part_that_fails_stops_no_other_and_is_told_by_the_exit_code(tmp_path: Path) -> None:
    code, verdicts = suite(tmp_path / "out", TESTS="tests/test_gpu.py -k no_such_test")
    assert code == 1
    assert verdicts["tests"].startswith("FAILED")
    assert verdicts["benchmark"] == "done"
    assert verdicts["training"].startswith("none")


def test_clips_become_shards_without_pyav(clips: Path, tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "shards_with_opencv.py"
    command = [sys.executable, str(script), str(clips), str(tmp_path / "shards"), "--hold-out", "1"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "broken.mp4 cannot be read and is left out" in run.stderr
    assert run.stdout.startswith("2 clips and stills to train on, 1 to validate with")
    shards = tmp_path / "shards"
    training, validation = (load_file(shards / part / "00000.safetensors") for part in ("training", "validation"))
    assert {name: clip.shape for name, clip in training.items()} == {"b": (6, 192, 196, 3), "still": (1, 188, 188, 3)}
    assert list(validation) == ["a"]
    assert abs(training["b"][5].astype(int) - 100).max() < 8

    run = subprocess.run([*command, "--least-side", "192"], capture_output=True, text=True, check=False)
    assert run.stdout.splitlines() == [
        "1 smaller than 192 pixels are left out",
        "1 clips and stills to train on, 1 to validate with",
    ]


@pytest.mark.slow
def test_a_row_that_fails_costs_no_other_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import gpu
    import gpu_kernels

    def out_of_order(*_: object) -> None:
        raise RuntimeError("CUDA error:\n misaligned address")

    monkeypatch.setattr(gpu_kernels.reference, "deform_conv2d", out_of_order)
    monkeypatch.setattr(gpu, "LANES", (1, 2))
    arguments = ["gpu.py", "--size", "16x24", "--model", "lite", "--seconds", "0.01", "--device", "cpu", "--output"]
    monkeypatch.setattr(sys, "argv", [*arguments, str(tmp_path)])
    gpu.main()
    report = json.loads((tmp_path / "cpu-lite.json").read_text())
    rows = {row["operator"]: row for row in report["kernels"] if row["implementation"].startswith("PyTorch")}
    assert rows["deform_conv2d"]["error"] == "RuntimeError: CUDA error: misaligned address"
    assert rows["topk_split"]["ms"] > 0
    assert rows["align"]["over_floor"] > 0
    assert report["steps"][0]["fps"] > 0
    one, two = report["lanes"]
    assert one["same_bits"]
    assert (two["scenes side by side"], two["speed_up"] > 0) == (2, True)
    assert len(report["ceilings"]) == 2


def test_the_kernels_never_get_the_same_inputs_twice_in_a_row() -> None:
    import gpu_kernels as gpu

    seen: list[int] = []
    call = gpu.taking_turns(seen.append, [(number,) for number in range(gpu.INPUT_SETS)])
    for _ in range(2 * gpu.INPUT_SETS):
        call()
    assert seen == 2 * list(range(gpu.INPUT_SETS))
    assert gpu.INPUT_SETS > 1


@pytest.mark.parametrize("most", [1, 2])
def test_frames_in_flight_are_measured_beside_one_at_a_time(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """With a runner that takes as many as it says; where its pictures are not the same bits, the row says so."""
    import gpu

    size, rows, deepest = FrameSize(8, 12), list[dict[str, Any]](), [0]

    class Counting(RepeatRunner):
        most_in_flight = most
        wrong = False

        def _submit(self, lr: NDArray[Any], *features: NDArray[Any]) -> None:
            deepest[0] = max(deepest[0], self.in_flight + 1)
            super()._submit(lr + (self.wrong and self.in_flight > 0), *features)

    def attempt(_part: str, names: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> None:
        try:
            rows.append(names | measure())
        except ValueError as error:
            rows.append(names | {"error": str(error)})

    gpu.overlap_rows(attempt, "played", lambda: Counting(size), size, 0.001)
    one, two = rows
    assert (one["frames in flight"], two["frames in flight"], deepest[0]) == (1, 2, most)
    assert one["same_bits"]
    if most == 1:
        assert two["error"] == "the runner takes 1 at once"
        return
    assert two["same_bits"]
    assert two["speed_up"] > 0
    monkeypatch.setattr(Counting, "wrong", True)
    rows.clear()
    gpu.overlap_rows(attempt, "played", lambda: Counting(size), size, 0.001)
    assert not rows[1]["same_bits"]


def test_the_rows_of_an_operator_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference plays the native kernels; what is compared are the inputs that each row gives them."""
    import gpu_kernels
    import torch

    from ksnet_deploy.network.bundled import bundled_checkpoint
    from ksnet_deploy.network.checkpoints import load_checkpoint
    from ksnet_deploy.ops import native, reference

    for name in ("align", "deform_conv2d", "topk_split"):
        monkeypatch.setattr(native, name, getattr(reference, name))
    model = load_checkpoint(bundled_checkpoint("lite")).model
    for rows, count in ((gpu_kernels.align_rows, 5), (gpu_kernels.deform_rows, 2), (gpu_kernels.split_rows, 3)):
        candidates, moved = rows(FrameSize(9, 14), model, "cpu", torch.float32, True)
        assert moved > 0
        found = [work() for work in candidates.values()]
        assert len(found) >= count
        for other in found[1:]:
            torch.testing.assert_close(other, found[0], atol=1e-4, rtol=0)
