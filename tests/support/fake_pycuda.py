"""A stand-in for ``pycuda.driver``, over the memory and the streams of :class:`fake_gpu.FakeCuda`.

It is as particular as pycuda is: nothing works on a thread on which no context was pushed, memory and streams are freed
there only, and the errors are of its own kinds.
"""

from __future__ import annotations

import ctypes
import math
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
from fake_gpu import FakeCuda

__all__ = ["FakePycuda"]


class FakePycuda:
    """What ``pycuda.driver`` offers, as far as it is used."""

    class Error(Exception):
        """Base of pycuda's errors."""

    class LogicError(Error):
        """No context on this thread, or a wrong argument."""

    class MemoryError(Error):
        """No room on the device."""

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.retained = 0
        self._thread = threading.local()

    @property
    def contexts(self) -> list[FakeContext]:
        """Those that are pushed on this thread."""
        if not hasattr(self._thread, "stack"):
            self._thread.stack = []
        stack: list[FakeContext] = self._thread.stack
        return stack

    def need_context(self) -> None:
        if not self.contexts:
            raise self.LogicError("explicit_context_dependent failed: invalid device context")

    def init(self) -> None:
        if self.cuda.cudaGetDeviceCount()[1] == 0:
            raise self.Error("cuInit failed: no CUDA-capable device is detected")

    def Device(self, index: int) -> FakeDevice:
        assert index == 0
        return FakeDevice(self)

    Device.count = lambda: 1  # type: ignore[attr-defined]

    def Stream(self, flags: int) -> FakeStream:
        assert flags == self.cuda.cudaStreamNonBlocking
        return FakeStream(self)

    event_flags = SimpleNamespace(DEFAULT=0, DISABLE_TIMING=2)

    def Event(self, flags: int) -> FakeEvent:
        return FakeEvent(self, flags)

    def mem_alloc(self, size: int) -> FakeAllocation:
        self.need_context()
        status, pointer = self.cuda.cudaMalloc(size)
        if status:
            raise self.MemoryError("cuMemAlloc failed: out of memory")
        return FakeAllocation(self, pointer)

    def pagelocked_empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        self.need_context()
        kind = np.dtype(dtype)
        _, pointer = self.cuda.cudaMallocHost(math.prod(shape) * kind.itemsize)
        return np.asarray(FakeHostAllocation(self, pointer, shape, kind))

    def memset_d8_async(self, target: int, value: int, size: int, stream: FakeStream) -> None:
        self.need_context()
        self.cuda.cudaMemsetAsync(target, value, size, stream.handle)

    def memcpy_htod_async(self, target: int, source: np.ndarray, stream: FakeStream) -> None:
        self.need_context()
        self.cuda.cudaMemcpyAsync(target, source.ctypes.data, source.nbytes, 1, stream.handle)

    def memcpy_dtoh_async(self, target: np.ndarray, source: int, stream: FakeStream) -> None:
        self.need_context()
        self.cuda.cudaMemcpyAsync(target.ctypes.data, source, target.nbytes, 2, stream.handle)


class FakeDevice:
    def __init__(self, driver: FakePycuda) -> None:
        self.driver = driver

    def compute_capability(self) -> tuple[int, int]:
        return self.driver.cuda.capability

    def retain_primary_context(self) -> FakeContext:
        self.driver.retained += 1
        return FakeContext(self.driver)


class FakeContext:
    def __init__(self, driver: FakePycuda) -> None:
        self.driver = driver

    def push(self) -> None:
        self.driver.contexts.append(self)

    def pop(self) -> None:
        self.driver.need_context()
        self.driver.contexts.pop()

    def detach(self) -> None:
        self.driver.retained -= 1


class FakeStream:
    def __init__(self, driver: FakePycuda) -> None:
        self.driver = driver
        driver.need_context()
        self.handle = driver.cuda.cudaStreamCreateWithFlags(1)[1]

    def wait_for_event(self, event: FakeEvent) -> None:
        self.driver.need_context()
        self.driver.cuda.cudaStreamWaitEvent(self.handle, event.handle, 0)

    def synchronize(self) -> None:
        self.driver.need_context()
        self.driver.cuda.cudaStreamSynchronize(self.handle)

    def __del__(self) -> None:
        if self.driver.contexts:  # else pycuda leaks it, and says so on the terminal
            self.driver.cuda.cudaStreamDestroy(self.handle)


class FakeEvent:
    def __init__(self, driver: FakePycuda, flags: int) -> None:
        self.driver = driver
        driver.need_context()
        self.handle = driver.cuda.cudaEventCreateWithFlags(flags)[1]

    def record(self, stream: FakeStream) -> FakeEvent:
        self.driver.need_context()
        self.driver.cuda.cudaEventRecord(self.handle, stream.handle)
        return self

    def synchronize(self) -> FakeEvent:
        self.driver.need_context()
        (status,) = self.driver.cuda.cudaEventSynchronize(self.handle)
        if status:
            raise self.driver.LogicError(f"cuEventSynchronize failed: error {status}")
        return self

    def time_since(self, earlier: FakeEvent) -> float:
        return self.driver.cuda.cudaEventElapsedTime(earlier.handle, self.handle)[1]

    def __del__(self) -> None:
        if self.driver.contexts:
            self.driver.cuda.cudaEventDestroy(self.handle)


class FakeAllocation:
    """Of memory on the device."""

    def __init__(self, driver: FakePycuda, pointer: int) -> None:
        self.driver, self.pointer = driver, pointer

    def __int__(self) -> int:
        return self.pointer

    def free(self) -> None:
        self.driver.need_context()
        self.driver.cuda.cudaFree(self.pointer)


class FakeHostAllocation(FakeAllocation):
    """Of page-locked memory: the base of the array that is made of it."""

    def __init__(self, driver: FakePycuda, pointer: int, shape: tuple[int, ...], kind: np.dtype[Any]) -> None:
        super().__init__(driver, pointer)
        self.__array_interface__ = {
            "version": 3, "shape": shape, "typestr": kind.str, "data": (pointer, False),
        }  # fmt: skip
        assert ctypes.sizeof(driver.cuda.memory[pointer]) == math.prod(shape) * kind.itemsize
