"""The device through ``pycuda``: the driver's own calls, on the primary context, never through ``pycuda.autoinit``.

``autoinit`` would make a second context, where PyTorch, TensorRT and our kernels use the primary one, and memory of
the one is none in the other. A context of pycuda is current on the thread that pushed it only, and its objects can be
freed there only; so every use stands between a push and a pop. It has no graphs: those are ``cuda-bindings``'s, on its
stream.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from numpy.typing import DTypeLike

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.runtime.tensorrt.cuda_bindings import can_record, record_graph
from ksnet_deploy.runtime.tensorrt.cuda_layer import Device, DeviceBuffer, Event, Graph, PinnedArray, Stream
from ksnet_deploy.runtime.tensorrt.target import GpuTarget

__all__ = ["PycudaDevice", "imports"]

NON_BLOCKING = 1
"""The driver's ``CU_STREAM_NON_BLOCKING``."""


def imports() -> bool:
    """Whether pycuda is there and finds a driver; without ``libcuda.so.1`` its import fails."""
    try:
        _driver()
    except ImportError:
        return False
    return True


def _driver() -> Any:
    import pycuda.driver

    return pycuda.driver


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """pycuda's errors as BackendErrors with its own words, which are the driver's."""
    driver = _driver()
    try:
        yield
    except driver.Error as error:
        raise BackendError(f"CUDA cannot go on ({error}); check the driver with nvidia-smi") from error


@functools.cache
def _primary_context(driver: Any, index: int) -> Any:
    """Retained once and kept until the process ends: pycuda's ``detach`` leaves it current on the thread that made it,
    and does nothing on others. At the end it must be told, or its destructor complains on the terminal."""
    context = driver.Device(index).retain_primary_context()
    atexit.register(context.detach)
    return context


class PycudaDevice(Device):
    """One of the driver's devices."""

    layer = "pycuda"

    def __init__(self, index: int = 0) -> None:
        """Raises BackendError, with the reason, where it cannot be used."""
        with _told():
            _driver().init()
            if not _driver().Device.count():
                raise BackendError("CUDA finds no device here; check with nvidia-smi that the driver sees one")
            major, minor = _driver().Device(index).compute_capability()
        self.target = GpuTarget(10 * major + minor)
        self._index = index

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        with _told():
            context = _primary_context(_driver(), self._index)
            context.push()
        try:
            yield
        finally:
            with _told():
                context.pop()

    def stream(self) -> Stream:
        return _Stream()

    def buffer(self, size_bytes: int) -> DeviceBuffer:
        return _DeviceBuffer(size_bytes)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> PinnedArray:
        return _PinnedArray(shape, dtype)

    def event(self, *, timed: bool = True) -> Event:
        return _Event(timed=timed)

    def record(self, work: Callable[[], None], stream: Stream) -> Graph | None:
        return record_graph(work, stream) if can_record() else None


class _Stream(Stream):
    def __init__(self) -> None:
        with _told():
            self.wrapped: Any = _driver().Stream(NON_BLOCKING)
        self.handle = int(self.wrapped.handle)

    def wait_for(self, event: Event) -> None:
        assert isinstance(event, _Event)
        with _told():
            self.wrapped.wait_for_event(event.wrapped)

    def synchronize(self) -> None:
        with _told():
            self.wrapped.synchronize()

    def close(self) -> None:
        self.wrapped = None  # its destructor is all that destroys it


class _DeviceBuffer(DeviceBuffer):
    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        with _told():
            self._allocation = _driver().mem_alloc(size_bytes)
        self.pointer = int(self._allocation)

    def zero(self, stream: Stream) -> None:
        with _told():
            _driver().memset_d8_async(self.pointer, 0, self.size_bytes, _wrapped(stream))

    def load(self, source: PinnedArray, stream: Stream) -> None:
        with _told():
            _driver().memcpy_htod_async(self.pointer, source.array, _wrapped(stream))

    def store(self, target: PinnedArray, stream: Stream) -> None:
        with _told():
            _driver().memcpy_dtoh_async(target.array, self.pointer, _wrapped(stream))

    def close(self) -> None:
        with _told():
            self._allocation.free()


class _PinnedArray(PinnedArray):
    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        with _told():
            self.array = _driver().pagelocked_empty(shape, dtype)

    def close(self) -> None:
        with _told():
            self.array.base.free()  # type: ignore[union-attr]  # pycuda's own allocation


class _Event(Event):
    def __init__(self, *, timed: bool) -> None:
        with _told():
            flags = _driver().event_flags
            self.wrapped: Any = _driver().Event(flags.DEFAULT if timed else flags.DISABLE_TIMING)

    def record(self, stream: Stream) -> None:
        with _told():
            self.wrapped.record(_wrapped(stream))

    def wait(self) -> None:
        with _told():
            self.wrapped.synchronize()

    def ms_since(self, earlier: Event) -> float:
        assert isinstance(earlier, _Event)
        self.wait()
        with _told():
            return float(self.wrapped.time_since(earlier.wrapped))

    def close(self) -> None:
        self.wrapped = None


def _wrapped(stream: Stream) -> Any:
    assert isinstance(stream, _Stream)
    return stream.wrapped
