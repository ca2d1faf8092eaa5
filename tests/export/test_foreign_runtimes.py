"""Exported files in other runtimes, old and new, each in an environment of its own; docs/engines.md has the table."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import foreign_runtime
import numpy as np
import pytest

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export.onnx import export_onnx
from ksnet_deploy.export.proof.float32 import FLOAT32_TIE_GAP, compare_to_float32
from ksnet_deploy.export.proof.near_ties import RetakingRunner
from ksnet_deploy.export.proof.sequence import proof_frames
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.runtime.base import NEXT_PREFIX, Runner, SavedState

SIZE = FrameSize(72, 128)
FRAMES, RESET_AT = 10, 5

RUNTIMES = {
    # 1.17 is the first with opset 20.
    "onnxruntime 1.17.3": ("onnxruntime==1.17.3", "numpy<2"),
    "onnxruntime 1.18.1": ("onnxruntime==1.18.1", "numpy<2"),
    "onnxruntime 1.20.1": ("onnxruntime==1.20.1", "numpy"),
    "onnxruntime 1.22.1": ("onnxruntime==1.22.1", "numpy"),
    "onnxruntime 1.24.1": ("onnxruntime==1.24.1", "numpy"),
    "onnxruntime, newest": ("onnxruntime", "numpy"),
    "openvino, newest": ("openvino", "numpy"),
}


class Recorded(Runner):
    """What another runtime has computed, as a runner."""

    backend = "foreign"

    def __init__(self, results: Path) -> None:
        super().__init__(SIZE, "float32")
        self._recorded, self._index = np.load(results), -1

    def _step(self, _lr: np.ndarray) -> np.ndarray:
        self._index += 1
        frame: np.ndarray = self._recorded[f"{self._index}.hr"][0]
        return frame

    def reset(self) -> None:
        pass

    @property
    def state(self) -> SavedState:
        start = f"{self._index}.{NEXT_PREFIX}"
        return {name.removeprefix(start): self._recorded[name] for name in self._recorded if name.startswith(start)}

    @state.setter
    def state(self, saved: SavedState) -> None:
        raise NotImplementedError


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """lite as it is exported, and inlined."""
    folder, checkpoint = tmp_path_factory.mktemp("steps"), load_checkpoint(bundled_checkpoint("lite"))
    for inline in (False, True):
        export_onnx(checkpoint, folder / f"{inline}.onnx", size=SIZE, io="float32", inline=inline)
    return {inline: folder / f"{inline}.onnx" for inline in (False, True)}


@pytest.fixture(scope="module")
def python_with(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The interpreter of a new environment with a runtime; skips where its packages cannot be installed."""
    folder = tmp_path_factory.mktemp("environments")

    def python(runtime: str) -> Path:
        place = folder / runtime
        if not place.exists():
            venv.create(place, with_pip=True)
            command = [place / "bin/pip", "install", "--quiet", *RUNTIMES[runtime]]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"{' '.join(RUNTIMES[runtime])} cannot be installed here: {done.stderr.splitlines()[-1:]}")
        return place / "bin/python"

    return python


@pytest.mark.slow
@pytest.mark.parametrize("inline", [False, True], ids=["functions", "inlined"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_ten_recurrent_frames_of_lite_match_pytorch(
    runtime: str, inline: bool, steps: dict[bool, Path], python_with: Callable[[str], Path], tmp_path: Path
) -> None:
    if runtime.startswith("openvino") and not inline:
        pytest.skip("OpenVINO knows no ONNX functions; --inline is for it")
    python = python_with(runtime)
    with RetakingRunner(
        load_checkpoint(bundled_checkpoint("lite")).model, SIZE, io="float32", gap=FLOAT32_TIE_GAP
    ) as pytorch:
        frames = proof_frames(pytorch, FRAMES)
        np.save(tmp_path / "frames.npy", np.stack(frames))
        arguments = [steps[inline], tmp_path / "frames.npy", RESET_AT, tmp_path / "results.npz"]
        command = [python, foreign_runtime.__file__, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        report = compare_to_float32(pytorch, Recorded(tmp_path / "results.npz"), frames, reset_at=RESET_AT)
    print(f"{runtime}: {report.summary()}")
    assert len(report.frames) == FRAMES


@pytest.mark.slow
def test_the_script_for_other_environments_does_what_our_runtime_does(
    small_onnx: Callable[..., Path], tmp_path: Path
) -> None:
    from ksnet_deploy.runtime.onnx import OnnxRunner

    size, path = FrameSize(32, 48), small_onnx("32x48", "float32")
    with OnnxRunner(path, size, rewrite=lambda _model: None) as runner:
        frames = proof_frames(runner, 4)
        np.save(tmp_path / "frames.npy", np.stack(frames))
        arguments = [str(path), str(tmp_path / "frames.npy"), "2", str(tmp_path / "results.npz")]
        subprocess.run([sys.executable, foreign_runtime.__file__, *arguments], check=True)
        results = np.load(tmp_path / "results.npz")
        for index, frame in enumerate(frames):
            if index == 2:
                runner.reset()
            np.testing.assert_allclose(results[f"{index}.hr"][0], runner.step(frame), atol=1e-6)
