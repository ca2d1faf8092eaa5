"""The device through NVIDIA's ``cuda-bindings``: wheels that need a driver and nothing else. They alone have graphs."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.runtime.tensorrt.cuda_layer import Device, DeviceBuffer, Event, Graph, PinnedArray, Stream
from ksnet_deploy.runtime.tensorrt.target import GpuTarget

__all__ = ["BindingsDevice", "can_record", "record_graph"]


def _cudart() -> Any:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise BackendError(
            f"NVIDIA's CUDA bindings are not installed ({error}); install ksnet-deploy with the extra 'rtx', "
            "'tensorrt' or 'nvidia'"
        ) from error
    return runtime


def _call(name: str, *arguments: Any) -> Any:
    """Call a function of the CUDA runtime; its result, or a BackendError with CUDA's own words."""
    cudart = _cudart()
    try:
        status, *results = getattr(cudart, name)(*arguments)
    except RuntimeError as error:  # the bindings' own, where they find no driver
        raise BackendError(f"CUDA cannot be used here ({error}); install NVIDIA's driver") from error
    if int(status) != 0:
        _, text = cudart.cudaGetErrorString(status)
        words = text.decode() if isinstance(text, bytes) else str(text)
        raise BackendError(f"CUDA cannot go on ({name}: {words}); check the driver with nvidia-smi")
    return results[0] if results else None


class BindingsDevice(Device):
    """The CUDA runtime's current device; the runtime makes its primary context current on every thread by itself."""

    layer = "cuda-bindings"

    def __init__(self) -> None:
        """Raises BackendError, with the reason, where no device can be used."""
        if not _call("cudaGetDeviceCount"):
            raise BackendError("CUDA finds no device here; check with nvidia-smi that the driver sees one")
        kinds = _cudart().cudaDeviceAttr
        self._index = _call("cudaGetDevice")
        major = _call("cudaDeviceGetAttribute", kinds.cudaDevAttrComputeCapabilityMajor, self._index)
        minor = _call("cudaDeviceGetAttribute", kinds.cudaDevAttrComputeCapabilityMinor, self._index)
        self.target = GpuTarget(10 * major + minor)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        before = _call("cudaGetDevice")
        if before == self._index:
            yield
            return
        _call("cudaSetDevice", self._index)
        try:
            yield
        finally:
            _call("cudaSetDevice", before)

    def stream(self) -> Stream:
        return _Stream()

    def buffer(self, size_bytes: int) -> DeviceBuffer:
        return _DeviceBuffer(size_bytes)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> PinnedArray:
        return _PinnedArray(shape, dtype)

    def event(self, *, timed: bool = True) -> Event:
        return _Event(timed=timed)

    def record(self, work: Callable[[], None], stream: Stream) -> Graph:
        return record_graph(work, stream)


def can_record() -> bool:
    """Whether graphs can be recorded here: whether the bindings are installed."""
    try:
        return importlib.util.find_spec("cuda.bindings") is not None
    except ModuleNotFoundError:  # of the namespace
        return False


def record_graph(work: Callable[[], None], stream: Stream) -> Graph:
    """Record what ``work`` puts on a stream, whichever layer made it, without doing it."""
    mode = _cudart().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    _call("cudaStreamBeginCapture", stream.handle, mode)
    try:
        work()
    except BaseException:
        with contextlib.suppress(BackendError):  # of the two errors, the first one has the reason
            _call("cudaStreamEndCapture", stream.handle)
        raise
    graph = _call("cudaStreamEndCapture", stream.handle)
    try:
        return _Graph(_call("cudaGraphInstantiate", graph, 0))
    finally:
        _call("cudaGraphDestroy", graph)


class _Graph(Graph):
    def __init__(self, executable: Any) -> None:
        self._executable = executable

    def launch(self, stream: Stream) -> None:
        _call("cudaGraphLaunch", self._executable, stream.handle)

    def close(self) -> None:
        _call("cudaGraphExecDestroy", self._executable)


class _Stream(Stream):
    def __init__(self) -> None:
        self.handle = int(_call("cudaStreamCreateWithFlags", _cudart().cudaStreamNonBlocking))

    def wait_for(self, event: Event) -> None:
        assert isinstance(event, _Event)
        _call("cudaStreamWaitEvent", self.handle, event.handle, 0)

    def synchronize(self) -> None:
        _call("cudaStreamSynchronize", self.handle)

    def close(self) -> None:
        _call("cudaStreamDestroy", self.handle)


class _DeviceBuffer(DeviceBuffer):
    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.pointer = int(_call("cudaMalloc", size_bytes))

    def zero(self, stream: Stream) -> None:
        _call("cudaMemsetAsync", self.pointer, 0, self.size_bytes, stream.handle)

    def load(self, source: PinnedArray, stream: Stream) -> None:
        kind = _cudart().cudaMemcpyKind.cudaMemcpyHostToDevice
        array = source.array
        _call("cudaMemcpyAsync", self.pointer, array.ctypes.data, array.nbytes, kind, stream.handle)

    def store(self, target: PinnedArray, stream: Stream) -> None:
        kind = _cudart().cudaMemcpyKind.cudaMemcpyDeviceToHost
        array = target.array
        _call("cudaMemcpyAsync", array.ctypes.data, self.pointer, array.nbytes, kind, stream.handle)

    def close(self) -> None:
        _call("cudaFree", self.pointer)


class _PinnedArray(PinnedArray):
    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        kind = np.dtype(dtype)
        size_bytes = int(np.prod(shape)) * kind.itemsize
        self._pointer = int(_call("cudaMallocHost", size_bytes))
        memory = (ctypes.c_uint8 * size_bytes).from_address(self._pointer)
        self.array: NDArray[Any] = np.ctypeslib.as_array(memory).view(kind).reshape(shape)

    def close(self) -> None:
        _call("cudaFreeHost", self._pointer)


class _Event(Event):
    def __init__(self, *, timed: bool) -> None:
        self.handle = _call("cudaEventCreateWithFlags", 0 if timed else _cudart().cudaEventDisableTiming)

    def record(self, stream: Stream) -> None:
        _call("cudaEventRecord", self.handle, stream.handle)

    def wait(self) -> None:
        _call("cudaEventSynchronize", self.handle)

    def ms_since(self, earlier: Event) -> float:
        assert isinstance(earlier, _Event)
        self.wait()
        return float(_call("cudaEventElapsedTime", earlier.handle, self.handle))

    def close(self) -> None:
        _call("cudaEventDestroy", self.handle)
