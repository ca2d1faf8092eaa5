"""Interface of a GPU, as far as running an engine needs it: a device; and on it streams, memory, events, recorded work.

``cuda_pycuda.py`` and ``cuda_bindings.py`` do it; :func:`ksnet_deploy.runtime.tensorrt.cuda.open_device` chooses. Every
error of theirs is a BackendError with CUDA's own words.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from numpy.typing import DTypeLike, NDArray

from ksnet_deploy.base.closing import Closing
from ksnet_deploy.runtime.tensorrt.target import GpuTarget

__all__ = ["Device", "DeviceBuffer", "Event", "Graph", "PinnedArray", "Stream"]


class Stream(Closing):
    """A queue of work on the device, which waits for no other queue."""

    handle: int
    """The ``cudaStream_t``, which is the driver's ``CUstream`` too."""

    @abstractmethod
    def wait_for(self, event: Event) -> None:
        """Let what is put on it from now on wait, on the device, for the moment that an event was last recorded as."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until all of it is done."""


class PinnedArray(Closing):
    """Page-locked host memory, which the device copies from and to by itself, as a NumPy array."""

    array: NDArray[Any]


class DeviceBuffer(Closing):
    """Memory on the device."""

    size_bytes: int
    pointer: int

    def part(self, first: int, size_bytes: int) -> DeviceBuffer:
        """So many of its bytes from one on; only the whole is closed."""
        part = copy.copy(self)
        part.pointer, part.size_bytes = self.pointer + first, size_bytes
        return part

    @abstractmethod
    def zero(self, stream: Stream) -> None:
        """Set all of it to zero."""

    @abstractmethod
    def load(self, source: PinnedArray, stream: Stream) -> None:
        """Copy from the host, as much as the array holds; it must stay as it is until the stream has done it."""

    @abstractmethod
    def store(self, target: PinnedArray, stream: Stream) -> None:
        """Copy to the host; ``target`` is complete when the stream is synchronized."""


class Event(Closing):
    """A moment on a stream, by the device's own clock."""

    @abstractmethod
    def record(self, stream: Stream) -> None:
        """Let it be the moment at which the stream has done what it holds now."""

    @abstractmethod
    def wait(self) -> None:
        """Wait for it, on the host."""

    @abstractmethod
    def ms_since(self, earlier: Event) -> float:
        """Wait for it; the milliseconds since another event of the same layer. Both are timed ones."""


class Graph(Closing):
    """Work that was recorded once and is launched as a whole."""

    @abstractmethod
    def launch(self, stream: Stream) -> None:
        """Put it on a stream."""


class Device(Closing):
    """A GPU, in its primary context, which PyTorch and TensorRT use too.

    Everything it makes is made, used and closed inside ``with device.current():``, on any thread, and closed before it.
    """

    layer: str
    """Package that does the work."""
    target: GpuTarget
    """Compute capability."""

    @abstractmethod
    def current(self) -> AbstractContextManager[None]:
        """Make it the current device of this thread, for as long as the context lasts; may be nested."""

    @abstractmethod
    def stream(self) -> Stream: ...

    @abstractmethod
    def buffer(self, size_bytes: int) -> DeviceBuffer:
        """Memory that holds anything at first."""

    @abstractmethod
    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> PinnedArray:
        """Memory that holds anything at first."""

    @abstractmethod
    def event(self, *, timed: bool = True) -> Event:
        """An event; one that is not timed orders streams only, and costs them less."""

    @abstractmethod
    def record(self, work: Callable[[], None], stream: Stream) -> Graph | None:
        """Record what ``work`` puts on the stream, without doing it; None where no installed package can."""

    def close(self) -> None:
        """Nothing to release: as the CUDA runtime does, a process keeps the primary context until it ends."""
