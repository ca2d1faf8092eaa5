"""What needs a GPU: each skips with its reason where there is none. Engines, ONNX Runtime on CUDA and
``upscale`` have not yet been run on one.

``KSNET_TEST_DEVICE=cpu`` plays the card on the CPU, to try the tests themselves.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_torch_cuda import use_fake_cuda
from networks import SMALL, new_checkpoint
from safetensors.numpy import save_file

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.network.folding import fold
from ksnet_deploy.network.pixels import decode_frame, encode_frame
from ksnet_deploy.network.precision import with_precision
from ksnet_deploy.runtime.base import pipelined
from ksnet_deploy.runtime.lanes import Lanes
from ksnet_deploy.runtime.torch import TorchRunner
from ksnet_deploy.runtime.torch_kernels import accelerated
from ksnet_deploy.runtime.torch_recorded import exact_and_tuned

PLAYED = os.environ.get("KSNET_TEST_DEVICE") == "cpu"
SIZE = FrameSize(32, 48) if PLAYED else FrameSize(72, 128)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not (PLAYED or torch.cuda.is_available()), reason="PyTorch finds no CUDA device here"),
]


@pytest.fixture(autouse=True)
def _play(monkeypatch: pytest.MonkeyPatch) -> None:
    if PLAYED:
        use_fake_cuda(monkeypatch)


def moving(count: int) -> list[np.ndarray]:
    """Blocks that move by a pixel each frame."""
    coarse = np.random.default_rng(0).integers(0, 256, (SIZE.height // 4 + 8, SIZE.width // 4 + 8, 3))
    scene = np.kron(coarse, np.ones((4, 4, 1))).astype(np.uint8)
    return [np.ascontiguousarray(scene[i : i + SIZE.height, i : i + SIZE.width]) for i in range(count)]


def least_db(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    return min(psnr(a, b) for a, b in zip(found, expected, strict=True))


@torch.inference_mode()
def test_the_recorded_step_equals_the_eager_one_over_six_frames() -> None:
    model = load_checkpoint(bundled_checkpoint("lite" if PLAYED else "uni")).model
    place = torch.device("cpu" if PLAYED else "cuda")
    network = with_precision(fold(model), "fp16").to(place)
    network = accelerated(network)
    lrs, expected = moving(6), []
    with exact_and_tuned():
        state = network.initial_state(decode_frame(torch.from_numpy(lrs[0])[None].to(place)))
        for lr in lrs:
            hr, state = network(decode_frame(torch.from_numpy(lr)[None].to(place)), state)
            expected.append(encode_frame(hr, torch.uint8)[0].cpu().numpy())
    with TorchRunner(model, SIZE, device="cuda") as runner:
        assert least_db([runner.step(lr) for lr in lrs], expected) > 60


def test_two_frames_in_flight_come_out_as_one_by_one(tmp_path: Path) -> None:
    model, lrs = new_checkpoint(tmp_path, SMALL).model, moving(7)
    with TorchRunner(model, SIZE, device="cuda") as runner:
        assert runner.most_in_flight == 2
        expected = [runner.step(lr) for lr in lrs]
        runner.reset()
        found = list(pipelined(runner, ((lr,) for lr in lrs)))
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("steps", [1, 2])
def test_a_saved_state_goes_on_bit_for_bit(steps: int, tmp_path: Path) -> None:
    model, lrs = new_checkpoint(tmp_path, SMALL).model, moving(5)
    with TorchRunner(model, SIZE, device="cuda") as runner:
        for lr in lrs[:steps]:
            runner.step(lr)
        saved = runner.state
        expected = [runner.step(lr) for lr in lrs[steps:]]
        runner.reset()
        runner.step(lrs[-1])
        runner.state = saved
        np.testing.assert_array_equal([runner.step(lr) for lr in lrs[steps:]], expected)


@pytest.mark.parametrize("name", ["lite", "lite-video", "uni"])
def test_half_on_the_gpu_stays_near_float32_on_the_cpu_over_thirty_frames(name: str) -> None:
    if PLAYED and name == "uni":
        pytest.skip("takes minutes in half precision on a CPU")
    model, lrs = load_checkpoint(bundled_checkpoint(name)).model, moving(4 if PLAYED else 30)
    with TorchRunner(model, SIZE) as reference, TorchRunner(model, SIZE, device="cuda") as runner:
        found, expected = [runner.step(lr) for lr in lrs], [reference.step(lr) for lr in lrs]
    least = least_db(found, expected)
    print(f"{name}: least PSNR of half against float32 {least:.1f} dB")
    assert least > 40


def test_scenes_side_by_side_stay_near_each_alone() -> None:
    """Two lanes, of which one begins another scene in between, with a state that is kept and given back."""
    model, lrs = load_checkpoint(bundled_checkpoint("lite" if PLAYED else "uni")).model, moving(6)
    with TorchRunner(model, SIZE, device="cuda") as alone, TorchRunner(model, SIZE, device="cuda", lanes=2) as runner:
        expected = [alone.step(lr) for lr in lrs]
        alone.reset()
        begun_anew = [alone.step(lr) for lr in lrs[3:]]
        lanes, found = Lanes(runner), list[dict[int, np.ndarray]]()
        for step, lr in enumerate(lrs):
            if step == 3:
                lanes.reset(1)
            if step == 5:
                lanes.go_on(0, lanes.state(0))
            found.append(lanes.step({0: lr, 1: lr}))
    assert least_db([pictures[0] for pictures in found], expected) > 50
    assert least_db([pictures[1] for pictures in found], expected[:3] + begun_anew) > 50


@pytest.mark.parametrize("layer", ["cuda-bindings", "pycuda"])
def test_device_memory_streams_and_graphs_do_what_they_say(layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ksnet_deploy.runtime.tensorrt import cuda_bindings, cuda_pycuda
    from ksnet_deploy.runtime.tensorrt.cuda import open_device

    if PLAYED:
        from fake_gpu import pretend_gpu

        pretend_gpu(monkeypatch, layer)
    elif layer == "pycuda" and not cuda_pycuda.imports():
        pytest.skip("pycuda is not installed")
    elif layer == "cuda-bindings":
        if not cuda_bindings.can_record():
            pytest.skip("cuda-bindings is not installed")
        monkeypatch.setattr(cuda_pycuda, "imports", lambda: False)
    device = open_device()
    assert device.layer == layer
    with (
        device.current(),
        device.stream() as stream,
        device.buffer(4000) as buffer,
        device.pinned((1000,), "float32") as source,
        device.pinned((1000,), "float32") as target,
    ):
        source.array[...] = np.arange(1000)

        def there_and_back() -> None:
            buffer.load(source, stream)
            buffer.store(target, stream)

        there_and_back()
        stream.synchronize()
        np.testing.assert_array_equal(target.array, np.arange(1000))
        if (graph := device.record(there_and_back, stream)) is not None:
            with graph:
                source.array[...] = -1
                graph.launch(stream)
                stream.synchronize()
                np.testing.assert_array_equal(target.array, np.full(1000, -1))
        buffer.zero(stream)
        buffer.store(target, stream)
        stream.synchronize()
        np.testing.assert_array_equal(target.array, np.zeros(1000))


def test_onnx_runtime_on_the_gpu_stays_near_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript, which exports, is not installed")
    if PLAYED:
        import fake_onnxruntime

        fake_onnxruntime.use_fake_cuda(monkeypatch)
    elif "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.skip("this ONNX Runtime is built without CUDA")
    from ksnet_deploy.export.onnx import export_onnx
    from ksnet_deploy.runtime.onnx import OnnxRunner

    checkpoint, lrs = new_checkpoint(tmp_path, SMALL), moving(4)
    with TorchRunner(checkpoint.model, SIZE) as reference:
        expected = [reference.step(lr) for lr in lrs]
    for precision, least in (("fp32", 60), ("fp16", 40)):
        path = tmp_path / f"{precision}.onnx"
        export_onnx(checkpoint, path, size=SIZE, precision=precision)  # type: ignore[arg-type]
        with OnnxRunner(path, SIZE, device="cuda") as runner:
            assert least_db([runner.step(lr) for lr in lrs], expected) > least


def test_the_plain_command_takes_the_gpu(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    if PLAYED:
        pytest.skip("a command is a process of its own, which no stand-in reaches")
    from media import make_video

    clip = make_video(tmp_path / "clip.mp4", FrameSize(72, 128), frames=8)
    command = [sys.executable, "-m", "ksnet_deploy", "upscale", str(clip), "-o", str(tmp_path / "larger.mp4")]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "in half precision" in run.stderr
    assert (tmp_path / "larger.mp4").is_file()


@pytest.mark.parametrize("more", [[], ["--recorded", "--temporal-weight", "0.1"]], ids=["plain", "recorded"])
def test_a_training_iteration_runs_on_the_gpu(tmp_path: Path, more: list[str]) -> None:
    clip = np.stack([np.kron(lr, np.ones((4, 4, 1))).astype(np.uint8) for lr in moving(6)])
    (tmp_path / "shards").mkdir()
    save_file({"clip": clip}, tmp_path / "shards" / "00000.safetensors", {"format": "ksnet-clips"})
    options = ["--size", "lite", "--stage", "1:1x3x32", "--workers", "0", "--licence", "Apache-2.0"]
    options += ["--device", "cpu" if PLAYED else "cuda", "--output", str(tmp_path / "run"), *more]
    command = [sys.executable, "-m", "ksnet_deploy", "train", str(tmp_path / "shards"), *options]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "run" / "ksnet.safetensors").is_file()
