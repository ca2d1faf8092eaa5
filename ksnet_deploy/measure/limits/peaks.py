"""Peaks of this machine in computing and moving: a large convolution and a large copy, measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ksnet_deploy.base.machine import cores, threads_told

__all__ = ["Peaks", "cpu_peaks", "gpu_peaks"]

CHANNELS, SIDE = 128, 128
COPIED_BYTES = 1 << 27


@dataclass(frozen=True)
class Peaks:
    """Rates that no layer goes beyond."""

    operations_per_s: float
    bytes_per_s: float
    source: str
    """Origin of the rates."""


def cpu_peaks(*, bfloat16: bool = False, seconds: float = 1.0) -> Peaks:
    """Peaks of the CPU: a 3x3 convolution of 128 channels, in OpenVINO's bfloat16, or in float32 in ONNX Runtime where
    it is installed and else in PyTorch, and a copy of 128 MB, both by as many threads as ``OMP_NUM_THREADS`` says, or
    as there are cores. The best of several, in about so many seconds."""
    if bfloat16:
        run = _convolution_in_openvino()
    else:
        run = _convolution_in_torch() if find_spec("onnxruntime") is None else _convolution_in_onnxruntime()
    operations = 2 * 9 * CHANNELS**2 * SIDE**2
    computed = operations / _best(run, seconds / 2)
    kind = "bfloat16" if bfloat16 else "float32"
    return Peaks(computed, _copied_per_s(seconds / 2), f"a {kind} convolution and a copy, measured here")


def gpu_peaks(seconds: float = 1.0) -> Peaks:
    """Peaks of the CUDA device, in half precision by PyTorch. Not yet run on a GPU.

    Raises:
        BackendError: PyTorch finds no such device, though another runtime may.
    """
    import torch

    from ksnet_deploy.runtime.torch import cuda_device

    device = cuda_device()
    x = torch.randn(1, 256, 512, 512, device=device, dtype=torch.float16).to(memory_format=torch.channels_last)
    weight = torch.randn(256, 256, 3, 3, device=device, dtype=torch.float16).to(memory_format=torch.channels_last)
    source = torch.empty(1 << 28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def finished(work: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            work()
            torch.cuda.synchronize()

        return run

    with torch.inference_mode():
        convolved_s = _best(finished(lambda: torch.nn.functional.conv2d(x, weight, padding=1)), seconds / 2)
        copied_s = _best(finished(lambda: target.copy_(source)), seconds / 2)
    operations = 2 * 9 * 256**2 * 512**2
    return Peaks(
        operations / convolved_s, 2 * source.numel() / copied_s, "a half convolution and a copy, measured here"
    )


def _best(work: Callable[[], Any], seconds: float) -> float:
    """The least seconds of a work, repeated for so long and at least three times after the first."""
    work()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        before = time.perf_counter()
        work()
        times.append(time.perf_counter() - before)
    return min(times)


def _copied_per_s(seconds: float) -> float:
    """Bytes read and written per second."""
    threads = threads_told() or cores()
    source = np.ones(COPIED_BYTES, np.uint8)
    parts = list(zip(np.array_split(source, threads), np.array_split(np.empty_like(source), threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        return (
            2 * COPIED_BYTES / _best(lambda: list(pool.map(lambda part: np.copyto(part[1], part[0]), parts)), seconds)
        )


def _convolution(element_type: int) -> onnx.ModelProto:
    """A graph of one convolution, 1x128x128x128."""
    rng = np.random.default_rng(0)
    kind = helper.tensor_dtype_to_np_dtype(element_type)
    weight = rng.standard_normal((CHANNELS, CHANNELS, 3, 3), np.float32).astype(kind)
    shape = [1, CHANNELS, SIDE, SIDE]
    node = helper.make_node("Conv", ["x", "weight"], ["y"], pads=[1, 1, 1, 1])
    values = (helper.make_tensor_value_info(name, element_type, shape) for name in ("x", "y"))
    graph = helper.make_graph(
        [node], "peak", [next(values)], [next(values)], [numpy_helper.from_array(weight, "weight")]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def _convolution_in_onnxruntime() -> Callable[[], Any]:
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads_told() or 0
    session = ort.InferenceSession(
        _convolution(TensorProto.FLOAT).SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(0).standard_normal((1, CHANNELS, SIDE, SIDE), np.float32)
    return lambda: session.run(None, {"x": x})


def _convolution_in_torch() -> Callable[[], Any]:
    import torch

    layer = torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1).requires_grad_(requires_grad=False)
    x = torch.randn(1, CHANNELS, SIDE, SIDE)
    return lambda: layer(x)


def _convolution_in_openvino() -> Callable[[], Any]:
    import openvino

    core = openvino.Core()
    model = core.read_model(_convolution(TensorProto.BFLOAT16).SerializeToString())
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads_told() or cores()})
    run: Callable[[], Any] = compiled.create_infer_request().infer
    return run
