"""The few CUDA calls that running an engine takes, on NVIDIA's own bindings: device, stream, memory, graph."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.runtime.tensorrt.target import GpuTarget

__all__ = ["DeviceBuffer", "Event", "Graph", "PinnedArray", "Stream", "compute_capability"]


def _cudart() -> Any:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise BackendError(
            f"NVIDIA's CUDA bindings are not installed ({error}); install ksnet-deploy with the extra 'rtx' or "
            "'tensorrt'"
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


def compute_capability() -> GpuTarget:
    """Compute capability of the current device. Raises BackendError, with the reason, where none can be used."""
    if not _call("cudaGetDeviceCount"):
        raise BackendError("CUDA finds no device here; check with nvidia-smi that the driver sees one")
    kinds = _cudart().cudaDeviceAttr
    device = _call("cudaGetDevice")
    major = _call("cudaDeviceGetAttribute", kinds.cudaDevAttrComputeCapabilityMajor, device)
    minor = _call("cudaDeviceGetAttribute", kinds.cudaDevAttrComputeCapabilityMinor, device)
    return GpuTarget(10 * major + minor)


class Stream:
    """A queue of work on the device."""

    def __init__(self) -> None:
        self.handle: Any = _call("cudaStreamCreateWithFlags", _cudart().cudaStreamNonBlocking)

    def synchronize(self) -> None:
        """Wait until all of it is done."""
        _call("cudaStreamSynchronize", self.handle)

    def close(self) -> None:
        _call("cudaStreamDestroy", self.handle)


class Event:
    """A moment of a stream, by the device's own clock."""

    def __init__(self) -> None:
        self._handle: Any = _call("cudaEventCreate")

    def record(self, stream: Stream) -> None:
        """Note the moment when what is on the stream so far is done."""
        _call("cudaEventRecord", self._handle, stream.handle)

    def since_ms(self, earlier: Event) -> float:
        """Milliseconds from another event, when the stream has done both."""
        return float(_call("cudaEventElapsedTime", earlier._handle, self._handle))

    def close(self) -> None:
        _call("cudaEventDestroy", self._handle)


class DeviceBuffer:
    """Memory on the device."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.pointer: int = int(_call("cudaMalloc", size_bytes))

    def zero(self, stream: Stream) -> None:
        _call("cudaMemsetAsync", self.pointer, 0, self.size_bytes, stream.handle)

    def load(self, source: PinnedArray, stream: Stream) -> None:
        """Copy from the host; ``source`` must stay as it is until the stream has done it."""
        kind = _cudart().cudaMemcpyKind.cudaMemcpyHostToDevice
        _call("cudaMemcpyAsync", self.pointer, source.pointer, self.size_bytes, kind, stream.handle)

    def store(self, target: PinnedArray, stream: Stream) -> None:
        """Copy to the host; ``target`` is complete when the stream is synchronized."""
        kind = _cudart().cudaMemcpyKind.cudaMemcpyDeviceToHost
        _call("cudaMemcpyAsync", target.pointer, self.pointer, self.size_bytes, kind, stream.handle)

    def close(self) -> None:
        _call("cudaFree", self.pointer)


class PinnedArray:
    """Page-locked host memory, which the device copies from and to by itself, as a NumPy array."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        kind = np.dtype(dtype)
        size_bytes = int(np.prod(shape)) * kind.itemsize
        self.pointer: int = int(_call("cudaMallocHost", size_bytes))
        memory = (ctypes.c_uint8 * size_bytes).from_address(self.pointer)
        self.array: NDArray[Any] = np.ctypeslib.as_array(memory).view(kind).reshape(shape)

    def close(self) -> None:
        _call("cudaFreeHost", self.pointer)


class Graph:
    """Work that was recorded once and is launched as a whole."""

    def __init__(self, record: Callable[[], None], stream: Stream) -> None:
        """Record what ``record`` puts on the stream, without doing it."""
        mode = _cudart().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _call("cudaStreamBeginCapture", stream.handle, mode)
        try:
            record()
        except BaseException:
            with contextlib.suppress(BackendError):  # of the two errors, the first one has the reason
                _call("cudaStreamEndCapture", stream.handle)
            raise
        graph = _call("cudaStreamEndCapture", stream.handle)
        try:
            self._executable: Any = _call("cudaGraphInstantiate", graph, 0)
        finally:
            _call("cudaGraphDestroy", graph)

    def launch(self, stream: Stream) -> None:
        _call("cudaGraphLaunch", self._executable, stream.handle)

    def close(self) -> None:
        _call("cudaGraphExecDestroy", self._executable)
