"""A stand-in for CUDA and TensorRT, so that the engine runtime can be tested where there is neither.

Memory is host memory, and streams are those of :class:`fake_streams.Streams`, which put work off. An "engine" is an
exported ONNX file, which ONNX Runtime computes.
"""

from __future__ import annotations

import ctypes
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from fake_streams import Streams, Work

from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.runtime.tensorrt import cuda_bindings, cuda_pycuda
from ksnet_deploy.runtime.tensorrt import engine as tensorrt
from ksnet_deploy.runtime.tensorrt.sidecar import EngineTensor, Sidecar
from ksnet_deploy.runtime.tensorrt.spec import EngineSpec
from ksnet_deploy.runtime.tensorrt.target import GpuTarget, SizeRange

KINDS = {
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.FLOAT16: "HALF",
    onnx.TensorProto.FLOAT: "FLOAT",
    onnx.TensorProto.INT64: "INT64",
}

LAYERS = ["cuda-bindings", pytest.param("pycuda", marks=pytest.mark.slow)]
"""Packages that do the work on the device, as parameters of what holds for both."""


class FakeCuda:
    """What ``cuda.bindings.runtime`` offers, as far as it is used; every function returns (status, results...)."""

    cudaStreamNonBlocking = 1
    cudaEventDisableTiming = 2
    cudaDeviceAttr = SimpleNamespace(cudaDevAttrComputeCapabilityMajor=75, cudaDevAttrComputeCapabilityMinor=76)
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)

    def __init__(self, capability: tuple[int, int] = (8, 6)) -> None:
        self.capability = capability
        self.memory: dict[int, Any] = {}
        self.work = Streams(done=self._tick)
        self.graphs: list[list[Work]] = []
        self.launches = 0
        self.replay_error = 0
        """Levels that a launch of a graph adds to one in a hundred bytes of the engine's picture."""
        self.events: dict[int, float] = {}
        self.clock_ms = 0.0
        self.current = 0
        self.has_runtime_cache = True
        self.driver = b"kernels for driver 580"
        self.compilations = 0
        self.last_result: tuple[int, int] | None = None
        self.need_context: Callable[[], None] = lambda: None
        """Called where TensorRT wants a context that is current; raises where the layer has left none."""
        self.log: list[str] = []
        """What was done on the device, in its order: ``upload``, ``compute``, ``download``."""

    def _tick(self) -> None:
        self.clock_ms += 1

    @property
    def streams(self) -> int:
        return len(self.work.queues)

    @property
    def pending(self) -> list[Any]:
        """Work that is not done yet, on all streams."""
        return self.work.pending

    @property
    def recording(self) -> bool:
        return bool(self.work.captures)

    def cudaGetDeviceCount(self) -> tuple[int, int]:
        return 0, 1

    def cudaGetDevice(self) -> tuple[int, int]:
        return 0, self.current

    def cudaSetDevice(self, index: int) -> tuple[int]:
        self.current = index
        return (0,)

    def cudaDeviceGetAttribute(self, kind: int, _device: int) -> tuple[int, int]:
        return 0, self.capability[kind - 75]

    def cudaStreamCreateWithFlags(self, _flags: int) -> tuple[int, int]:
        return 0, self.work.create()

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        self.work.destroy(stream)
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        self.work.run(stream)
        return (0,)

    def cudaStreamWaitEvent(self, stream: int, event: int, _flags: int) -> tuple[int]:
        self.work.wait(stream, event)
        return (0,)

    def cudaMalloc(self, size: int) -> tuple[int, int]:
        block = (ctypes.c_uint8 * size)(*([0xFF] * min(size, 64)))  # not zero, as on a device
        self.memory[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    cudaMallocHost = cudaMalloc

    def cudaFree(self, pointer: int) -> tuple[int]:
        assert not self.pending, "memory is freed while there is work that may use it"
        del self.memory[pointer]
        return (0,)

    cudaFreeHost = cudaFree

    def cudaMemsetAsync(self, pointer: int, value: int, size: int, stream: int) -> tuple[int]:
        self.work.put(stream, lambda: ctypes.memset(pointer, value, size) and None)
        return (0,)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        what = "upload" if kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice else "download"

        def copy() -> None:
            ctypes.memmove(target, source, size)
            self.log.append(what)

        self.work.put(stream, copy)
        return (0,)

    def cudaEventCreateWithFlags(self, _flags: int) -> tuple[int, int]:
        self.clock_ms += 1  # so that no two events have one name
        self.events[handle := 1000 + int(self.clock_ms)] = math.nan
        return 0, handle

    def cudaEventDestroy(self, event: int) -> tuple[int]:
        del self.events[event]
        return (0,)

    def cudaEventRecord(self, event: int, stream: int) -> tuple[int]:
        self.work.record(event, stream, lambda: self.events.__setitem__(event, self.clock_ms))
        return (0,)

    def cudaEventSynchronize(self, event: int) -> tuple[int]:
        self.work.run_to(event)
        return (0,)

    def cudaEventElapsedTime(self, start: int, end: int) -> tuple[int, float]:
        return 0, self.events[end] - self.events[start]

    def cudaStreamBeginCapture(self, stream: int, _mode: int) -> tuple[int]:
        self.work.captures[stream] = []
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, list[Work]]:
        return 0, self.work.captures.pop(stream)

    def cudaGraphInstantiate(self, graph: list[Work], _flags: int) -> tuple[int, list[Work]]:
        self.graphs.append(graph)
        return 0, graph

    def cudaGraphDestroy(self, _graph: list[Work]) -> tuple[int]:
        return (0,)

    def cudaGraphExecDestroy(self, graph: list[Work]) -> tuple[int]:
        self.graphs.remove(graph)
        return (0,)

    def cudaGraphLaunch(self, graph: list[Work], stream: int) -> tuple[int]:
        self.launches += 1
        for work in graph:
            self.work.put(stream, work)
        if self.replay_error:
            self.work.put(stream, self._disturb)
        return (0,)

    def _disturb(self) -> None:
        assert self.last_result is not None
        pointer, size = self.last_result
        values = np.frombuffer((ctypes.c_uint8 * size).from_address(pointer), np.uint8)
        values[::100] ^= self.replay_error

    def cudaGetErrorString(self, status: int) -> tuple[int, bytes]:
        return 0, f"error {status}".encode()


class FakeTensorRT:
    """What the module ``tensorrt`` offers, as far as it is used."""

    def __init__(self, cuda: FakeCuda, version: str) -> None:
        self.cuda, self.__version__ = cuda, version

    DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")

    LayerInformationFormat = SimpleNamespace(JSON="json")

    class IProfiler:
        """What a profiler is made from; TensorRT takes none whose own ``__init__`` was not called."""

        def __init__(self) -> None:
            self.is_made = True

    def Logger(self, _severity: int) -> None:
        return None

    Logger.ERROR = 1  # type: ignore[attr-defined]

    def Runtime(self, _logger: None) -> FakeTensorRT:
        return self

    def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine:
        self.cuda.need_context()
        return FakeEngine(self.cuda, plan)


class FakeRuntimeCache:
    """Kernels that were compiled: none, or those of a driver."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.compiled = cuda, b""

    def deserialize(self, blob: bytes) -> bool:
        self.cuda.need_context()
        fits = blob == self.cuda.driver
        self.compiled = blob if fits else b""
        return fits

    def compile(self) -> None:
        self.cuda.compilations += not self.compiled
        self.compiled = self.cuda.driver

    def serialize(self) -> memoryview:
        self.cuda.need_context()
        return memoryview(self.compiled)


class FakeEngine:
    """Engine and execution context in one."""

    def __init__(self, cuda: FakeCuda, plan: bytes) -> None:
        self.cuda = cuda
        self.session = ort.InferenceSession(plan, providers=["CPUExecutionProvider"])
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.runs = 0
        self.nodes = onnx.load_from_string(plan).graph.node
        self.details = True
        """Whether it was built with the details of its layers."""
        self.profiler: Any = None
        self.names = [value.name for value in (*self.session.get_inputs(), *self.session.get_outputs())]
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def create_runtime_config(self) -> SimpleNamespace:
        config = SimpleNamespace()
        if self.cuda.has_runtime_cache:
            config.create_runtime_cache = lambda: FakeRuntimeCache(self.cuda)
            config.set_runtime_cache = lambda cache: setattr(config, "cache", cache)
        return config

    def create_execution_context(self, config: SimpleNamespace) -> FakeEngine:
        self.cuda.need_context()
        if hasattr(config, "create_runtime_cache"):
            config.cache.compile()
        assert config.dynamic_shapes_kernel_specialization_strategy == "eager"
        return self

    def create_engine_inspector(self) -> FakeEngine:
        return self

    def get_engine_information(self, kind: str) -> str:
        assert kind == "json"
        layers = [{"Name": f"layer {index}", "LayerType": node.op_type} for index, node in enumerate(self.nodes)]
        return json.dumps({"Layers": layers if self.details else [layer["Name"] for layer in layers]})

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return name in self.names

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self.addresses[name] = pointer
        return name in self.names

    def is_stream_capturable(self, _stream: int) -> bool:
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.cuda.need_context()
        assert not self.cuda.recording or self.runs, "TensorRT wants a plain run before it is recorded"
        self.runs += 1
        addresses = dict(self.addresses)
        self.cuda.work.put(stream, lambda: self._run(addresses))
        if self.profiler is not None:
            assert self.profiler.is_made
            assert not self.cuda.recording
            self.cuda.work.run(stream)  # which TensorRT waits for then
            for index, node in enumerate(self.nodes):
                self.profiler.report_layer_time(f"layer {index}", 0.5 if node.op_type == "Conv" else 0.125)
        return True

    def _run(self, addresses: dict[str, int]) -> None:
        feeds = {
            value.name: self._view(addresses[value.name], self.shapes[value.name], value.type)
            for value in self.session.get_inputs()
        }
        names = [value.name for value in self.session.get_outputs()]
        for name, array in zip(names, self.session.run(names, feeds), strict=True):
            ctypes.memmove(addresses[name], np.ascontiguousarray(array).ctypes.data, array.nbytes)
            if not name.startswith("next."):
                self.cuda.last_result = addresses[name], array.nbytes
        self.cuda.log.append("compute")

    @staticmethod
    def _view(pointer: int, shape: tuple[int, ...], kind: str) -> np.ndarray:
        kinds = {"tensor(uint8)": "u1", "tensor(float16)": "f2", "tensor(float)": "f4", "tensor(int64)": "i8"}
        dtype = np.dtype(kinds[kind])
        size = int(np.prod(shape)) * dtype.itemsize
        return np.frombuffer((ctypes.c_uint8 * size).from_address(pointer), dtype).reshape(shape)


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, layer: str = "cuda-bindings") -> FakeCuda:
    """Let engines run on a stand-in, which is returned, through one of the packages."""
    from fake_pycuda import FakePycuda

    device = FakeCuda()
    driver = FakePycuda(device)
    if layer == "pycuda":
        device.need_context = driver.need_context
    monkeypatch.setattr(cuda_bindings, "_cudart", lambda: device)
    monkeypatch.setattr(cuda_pycuda, "can_record", lambda: True)
    monkeypatch.setattr(cuda_pycuda, "imports", lambda: layer == "pycuda")
    monkeypatch.setattr(cuda_pycuda, "_driver", lambda: driver)
    monkeypatch.setattr(tensorrt, "import_tensorrt", lambda _flavour: FakeTensorRT(device, "1.7.1"))
    return device


def fake_engine(exported: Path, path: Path, sizes: tuple[str, str, str]) -> Path:
    """An "engine" of an exported file, for three sizes as of ``--min --opt --max``, with its sidecar."""
    path.write_bytes(exported.read_bytes())
    graph = onnx.load(path).graph

    def tensor(value: onnx.ValueInfoProto) -> EngineTensor:
        kind = value.type.tensor_type
        return EngineTensor(value.name, KINDS[kind.elem_type], tuple(dim.dim_value or -1 for dim in kind.shape.dim))

    lr = next((value for value in graph.input if value.name == "lr"), None)  # which not every piece has
    Sidecar(
        spec=EngineSpec(
            *("rtx", GpuTarget(86), "fp32", SizeRange(*map(FrameSize.parse, sizes))),
            batch=lr.type.tensor_type.shape.dim[0].dim_value if lr else 1,
        ),
        engine_sha256=sha256_of(path),
        onnx_sha256="",
        version="1.7.1",
        model="small",
        inputs=tuple(map(tensor, graph.input)),
        outputs=tuple(map(tensor, graph.output)),
        layers={},
        metadata={},
        build_s=1.0,
    ).write(path)
    return path
