"""ONNX Runtime's CUDA device: never the CPU in its place, its libraries found, its operators; on stand-ins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from fake_onnxruntime import use_fake_cuda
from networks import SMALL

from ksnet_deploy.base.errors import BackendError, ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network import elements
from ksnet_deploy.network.elements import largest_tensor
from ksnet_deploy.runtime import onnx as runtime
from ksnet_deploy.runtime.lockstep import LockstepOnnxRunner
from ksnet_deploy.runtime.onnx import OnnxRunner, use_device_operators
from ksnet_deploy.runtime.open import open_runner

SIZE = FrameSize(32, 48)
SmallOnnx = Callable[..., Path]


@pytest.fixture
def no_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime-gpu without CUDA's libraries: it lists its provider, and takes the CPU without a word."""
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this machine has a CUDA build of ONNX Runtime")
    monkeypatch.setattr(ort, "get_available_providers", lambda: list(runtime.PROVIDERS.values()))
    monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load libcublas.so.13"))


@pytest.mark.usefixtures("no_libraries")
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_cuda_device_that_becomes_the_cpu_is_an_error(
    small_onnx: SmallOnnx, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in (OnnxRunner, LockstepOnnxRunner):
        with pytest.raises(BackendError, match="took CPUExecutionProvider in its place: its CUDA or cuDNN libraries"):
            kind(small_onnx("32x48"), SIZE, device="cuda")
    assert capsys.readouterr().out == ""  # frames may go there


def test_libraries_from_pip_are_loaded_before_a_session_on_cuda(
    small_onnx: SmallOnnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, loaded = use_fake_cuda(monkeypatch), []
    monkeypatch.setattr(ort, "preload_dlls", lambda: loaded.append(True))
    with OnnxRunner(small_onnx("32x48"), SIZE, device="cuda") as runner:
        runner.step(np.zeros((32, 48, 3), np.uint8))
        assert loaded == [True]
        assert "cuda" in asked  # the state stays there
    with OnnxRunner(small_onnx("32x48"), SIZE):
        assert loaded == [True]


def test_each_device_gets_its_own_operators(small_onnx: SmallOnnx, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_onnx("32x48")
    kinds = {}
    for device in ("cpu", "cuda"):
        model = onnx.load(path)
        use_device_operators(device)(model)
        kinds[device] = [node.op_type for node in model.graph.node]
    assert "DepthToSpace" in kinds["cuda"]  # which has a kernel of its own
    assert "DepthToSpace" not in kinds["cpu"]
    lr = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    expected = OnnxRunner(path, SIZE).step(lr)
    use_fake_cuda(monkeypatch)
    np.testing.assert_array_equal(OnnxRunner(path, SIZE, device="cuda").step(lr), expected)


def test_frames_too_large_for_any_gpu_are_refused_on_cuda_alone(
    small_onnx: SmallOnnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_fake_cuda(monkeypatch)
    monkeypatch.setattr(elements, "LIMIT", largest_tensor(SMALL, SIZE))
    with pytest.raises(ConfigError, match="2\\^31 elements"):
        open_runner(small_onnx("32x48"), SIZE, device="cuda")
    open_runner(small_onnx("32x48"), SIZE).close()
    monkeypatch.setattr(elements, "LIMIT", largest_tensor(SMALL, SIZE) + 1)
    open_runner(small_onnx("32x48"), SIZE, device="cuda").close()
