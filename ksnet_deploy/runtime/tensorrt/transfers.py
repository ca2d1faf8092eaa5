"""Frames to the GPU and back beside the steps: while one frame is computed, the next is uploaded, the last downloaded.

Uploads, steps and downloads have a stream each, which wait for one another by events on the device, never on the host.
There are two slots, each with all memory of a frame, so that neighbouring frames share none.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.closing import Closing
from ksnet_deploy.runtime.tensorrt.cuda_layer import Device, Event, Stream

__all__ = ["SLOTS", "Kind", "Slot", "Transfers", "bytes_of"]

Kind = tuple[tuple[int, ...], str]
"""Shape of a tensor, and NumPy's name of its type."""
SLOTS = 2
"""Frames on their way at once."""


class Slot:
    """Memory of one frame on its way, on the host and on the device, and the moments that it passes."""

    def __init__(self, device: Device, inputs: Mapping[str, Kind], result: Kind, kept: ExitStack) -> None:
        self.hosts = {name: kept.enter_context(device.pinned(*kind)) for name, kind in inputs.items()}
        self.buffers = {name: kept.enter_context(device.buffer(bytes_of(kind))) for name, kind in inputs.items()}
        self.result = kept.enter_context(device.buffer(bytes_of(result)))
        self.result_host = kept.enter_context(device.pinned(*result))
        self.uploaded, self.computed, self.downloaded = (
            kept.enter_context(device.event(timed=False)) for _ in range(3)
        )


class Transfers(Closing):
    """The slots, and the streams that fill and empty them.

    A slot is filled again only after its result was taken, for which the host waited; so nothing of it is in use then.
    """

    def __init__(self, device: Device, steps: Stream, inputs: Mapping[str, Kind], result: Kind) -> None:
        """``steps`` is the stream on which frames are computed; inputs are told by name, without the state."""
        with ExitStack() as kept:
            self._steps = steps
            self._up, self._down = (kept.enter_context(device.stream()) for _ in range(2))
            self.slots = [Slot(device, inputs, result, kept) for _ in range(SLOTS)]
            self._kept = kept.pop_all()

    def upload(self, slot: Slot, arrays: Mapping[str, NDArray[Any]], begun: Event | None = None) -> None:
        """Put a frame's inputs on their way; what is put on the stream of the steps after this finds them there.

        ``begun`` is recorded as the moment before.
        """
        for name, array in arrays.items():
            slot.hosts[name].array[...] = array
        if begun is not None:
            begun.record(self._up)
        for name in arrays:
            slot.buffers[name].load(slot.hosts[name], self._up)
        slot.uploaded.record(self._up)
        self._steps.wait_for(slot.uploaded)

    def download(self, slot: Slot, ended: Event | None = None) -> None:
        """Put the result on its way, once the stream of the steps has done what it holds now.

        ``ended`` is recorded as the moment after.
        """
        slot.computed.record(self._steps)
        self._down.wait_for(slot.computed)
        slot.result.store(slot.result_host, self._down)
        if ended is not None:
            ended.record(self._down)
        slot.downloaded.record(self._down)

    def result(self, slot: Slot) -> NDArray[Any]:
        """Copy of the result, waited for; the slot is free then."""
        slot.downloaded.wait()
        return slot.result_host.array.copy()

    def drain(self) -> None:
        """Wait for all that is on its way."""
        for stream in (self._up, self._steps, self._down):
            stream.synchronize()

    def close(self) -> None:
        """Wait for all that is on its way, and release it."""
        with self._kept:
            self.drain()


def bytes_of(kind: Kind) -> int:
    """Bytes of a tensor."""
    shape, dtype = kind
    return int(np.prod(shape)) * np.dtype(dtype).itemsize
