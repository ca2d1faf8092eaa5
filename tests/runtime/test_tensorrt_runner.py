"""The engine runtime on a stand-in for the device: buffers, their roles, recording, resets, release."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_gpu import FakeCuda, FakeEngine, fake_engine, pretend_gpu

from ksnet_deploy.base.errors import ArtifactError, BackendError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.runtime.open import open_runner
from ksnet_deploy.runtime.tensorrt import cuda_bindings, cuda_pycuda
from ksnet_deploy.runtime.tensorrt.runner import TensorRTRunner
from ksnet_deploy.runtime.tensorrt.sidecar import Sidecar
from ksnet_deploy.runtime.tensorrt.target import GpuTarget

SmallOnnx = Callable[..., Path]
SIZE = FrameSize(32, 48)


@pytest.fixture(params=["cuda-bindings", "pycuda"])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """Everything below holds whichever package does the work."""
    return pretend_gpu(monkeypatch, layer=request.param)


@pytest.fixture
def engine(small_onnx: SmallOnnx, tmp_path: Path) -> Path:
    return fake_engine(small_onnx("32x48"), tmp_path / "small.engine", ("32x48", "32x48", "32x48"))


def frames(count: int, size: FrameSize = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size.height, size.width, 3), dtype=np.uint8)


@pytest.mark.usefixtures("gpu")
def test_a_sequence_with_resets_equals_onnx_runtimes(engine: Path, small_onnx: SmallOnnx) -> None:
    as_it_is = OnnxRunner(small_onnx("32x48"), SIZE, rewrite=lambda _model: None)
    with open_runner(engine, SIZE) as runner, as_it_is as reference:
        assert runner.backend == "rtx"
        for index, frame in enumerate(frames(9)):
            if index in (3, 4):  # after an odd and an even number of steps: both roles of the buffers
                runner.reset()
                reference.reset()
            np.testing.assert_array_equal(runner.step(frame), reference.step(frame))


def test_steps_are_launches_of_two_recorded_graphs(gpu: FakeCuda, engine: Path) -> None:
    with open_runner(engine, SIZE) as runner:
        before, recorded = gpu.launches, len(gpu.graphs)
        for frame in frames(4):
            runner.step(frame)
        assert recorded == len(gpu.graphs) == 2
        assert gpu.launches - before == 4


def test_closing_releases_everything_once(gpu: FakeCuda, engine: Path) -> None:
    runner = open_runner(engine, SIZE)
    runner.step(frames(1)[0])
    runner.close()
    runner.close()
    with pytest.raises(BackendError, match="is closed"):
        runner.step(frames(1)[0])
    assert runner.state == {}
    assert (gpu.memory, gpu.graphs, gpu.streams) == ({}, [], 0)


def test_a_recording_that_differs_is_noticed(gpu: FakeCuda, engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCuda, "cudaGraphLaunch", lambda *_: (0,))
    with pytest.raises(BackendError, match="does not give what the plain one gives"):
        open_runner(engine, SIZE)
    assert gpu.memory == {}


@pytest.mark.slow
@pytest.mark.usefixtures("gpu")
def test_an_engine_for_many_sizes_runs_at_one_of_them(small_onnx: SmallOnnx, tmp_path: Path) -> None:
    path = fake_engine(small_onnx(None, "float32"), tmp_path / "any.engine", ("16x16", "32x48", "64x64"))
    size = FrameSize(20, 36)
    with TensorRTRunner(path, size) as runner, OnnxRunner(small_onnx(None, "float32"), size) as reference:
        for frame in frames(3, size).astype(np.float32) / 255:
            np.testing.assert_allclose(runner.step(frame), reference.step(frame), atol=1e-4)
    with pytest.raises(ArtifactError, match="takes frames of 16x16 to 64x64"):
        TensorRTRunner(path, FrameSize(65, 64))


@pytest.mark.usefixtures("gpu")
def test_cuda_errors_become_one_sentence(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCuda, "cudaMalloc", lambda *_: (2, None))
    with pytest.raises(BackendError, match=r"cudaMalloc: error 2|cuMemAlloc failed: out of memory"):
        open_runner(engine, SIZE)


@pytest.mark.usefixtures("gpu")
def test_no_gpu_is_said_in_one_sentence(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCuda, "cudaGetDeviceCount", lambda _self: (0, 0))
    with pytest.raises(
        BackendError, match=r"needs a GPU: CUDA (finds no device|cannot go on .*no CUDA-capable device)"
    ):
        open_runner(engine, SIZE)


@pytest.mark.usefixtures("gpu")
def test_where_nothing_records_the_runner_goes_step_by_step(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for layer in (cuda_bindings.BindingsDevice, cuda_pycuda.PycudaDevice):
        monkeypatch.setattr(layer, "record", lambda *_: None)
    with TensorRTRunner(engine, SIZE) as runner:
        assert not runner.recorded
        first = runner.step(frames(1)[0])
        runner.reset()
        np.testing.assert_array_equal(runner.step(frames(1)[0]), first)


@pytest.mark.parametrize("answer", [None, False])
@pytest.mark.usefixtures("gpu")
def test_an_engine_that_cannot_be_recorded_runs_step_by_step(
    engine: Path, small_onnx: SmallOnnx, answer: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT 10 and 11 cannot be asked, and can be recorded; TensorRT-RTX may say no."""
    if answer is None:
        monkeypatch.delattr(FakeEngine, "is_stream_capturable")
    else:
        monkeypatch.setattr(FakeEngine, "is_stream_capturable", lambda *_: answer)
    as_it_is = OnnxRunner(small_onnx("32x48"), SIZE, rewrite=lambda _model: None)
    with TensorRTRunner(engine, SIZE) as runner, as_it_is as reference:
        assert runner.recorded == (answer is None)
        for frame in frames(3):
            np.testing.assert_array_equal(runner.step(frame), reference.step(frame))


def refusal(engine: Path, size: FrameSize = SIZE) -> str:
    with pytest.raises(ArtifactError) as caught:
        open_runner(engine, size)
    message = str(caught.value)
    assert "\n" not in message
    assert "build" in message
    assert "--model" not in message or f"build-engine {engine} --overwrite --model small" in message
    return message


@pytest.mark.usefixtures("gpu")
def test_engines_that_do_not_fit_are_refused_with_the_reason(engine: Path) -> None:
    sidecar, plan = Sidecar.read(engine), engine.read_bytes()
    assert "takes frames of 32x48" in refusal(engine, FrameSize(40, 48))
    engine.write_bytes(plan[:-100])
    assert "cut off" in refusal(engine)
    engine.write_bytes(plan[:1000] + b"x" + plan[1001:])
    assert "changed" in refusal(engine)
    engine.write_bytes(plan)
    replace(sidecar, version="1.6.0").write(engine)
    assert "1.6.0" in refusal(engine)
    replace(sidecar, spec=replace(sidecar.spec, target=GpuTarget(89))).write(engine)
    assert "built for sm89, and this GPU is sm86" in refusal(engine)
    engine.with_name("small.engine.json").write_text("{")
    assert "damaged" in refusal(engine)
    replace(sidecar, format=0).write(engine)
    assert "format 0" in refusal(engine)
    engine.with_name("small.engine.json").unlink()
    assert "missing" in refusal(engine)
    engine.unlink()
    assert "does not exist" in refusal(engine)
