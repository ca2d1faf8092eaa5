"""Engines in lockstep over tiles: one for every piece of a step. Not yet run on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.runtime.pieces import PiecesRunner
from ksnet_deploy.runtime.tensorrt.cuda_layer import DeviceBuffer, PinnedArray
from ksnet_deploy.runtime.tensorrt.engine import DTYPES, Engine, frame_type
from ksnet_deploy.runtime.tensorrt.sidecar import EngineTensor
from ksnet_deploy.runtime.tensorrt.transfers import Kind, bytes_of

__all__ = ["LockstepEngineRunner", "piece_path"]


class _Tensor:
    """Memory on the device that goes back to where it was taken from when nothing refers to it any more.

    All work is on one stream, so that whoever takes it next comes after those that used it.
    """

    def __init__(self, kind: Kind, buffer: DeviceBuffer, free: list[DeviceBuffer]) -> None:
        self.kind, self.buffer, self._free = kind, buffer, free

    def __del__(self) -> None:
        self._free.append(self.buffer)


class LockstepEngineRunner(PiecesRunner):
    """Runs the engines of a step's pieces. Memory is kept from tile to tile and from frame to frame."""

    def __init__(self, paths: Sequence[Path], size: FrameSize) -> None:
        """Load the engines, in their order; raises as :class:`~ksnet_deploy.runtime.tensorrt.engine.Engine` does."""
        self._cleanup, self._engines = ExitStack(), list[Engine]()
        self._free: dict[int, list[DeviceBuffer]] = {}
        self._hosts: dict[Kind, PinnedArray] = {}
        try:
            for path in paths:
                self._engines.append(Engine(path, size))
            first = self._engines[0]
            self._device, sidecars = first.device, [engine.sidecar for engine in self._engines]
            pieces = [(_kinds(engine.inputs), _kinds(engine.sidecar.outputs)) for engine in self._engines]
            lr = next(tensor for sidecar in sidecars for tensor in sidecar.inputs if tensor.name == "lr")
            step = first.sidecar.metadata.get("ksnet.step", "step")
            super().__init__(size, frame_type(paths[0], [lr]), pieces, step)
            self.backend = first.sidecar.spec.flavour
            self._new = set(range(len(paths)))
            """Engines that have not run yet."""
            self._outputs = [
                {name: (shape, dtype.name) for name, (shape, dtype) in outputs.items()} for _, outputs in pieces
            ]
            with self._device.current():
                self._stream = self._device.stream()
                self._cleanup.callback(self._stream.close)
                for engine, (inputs, _) in zip(self._engines, pieces, strict=True):
                    engine.set_shapes({name: shape for name, (shape, _) in inputs.items()})
        except BaseException:
            self._release()
            raise

    def _run(self, index: int, inputs: dict[str, Any]) -> dict[str, Any]:
        with self._device.current():
            outputs = {name: self._tensor(kind) for name, kind in self._outputs[index].items()}
            buffers = {name: tensor.buffer for name, tensor in (inputs | outputs).items()}
            self._engines[index].run(buffers, self._stream)
            if index in self._new:  # whatever had to be compiled is, by now
                self._new.remove(index)
                self._engines[index].keep_compiled()
        return outputs

    def _to_device(self, array: NDArray[Any]) -> _Tensor:
        kind = array.shape, array.dtype.name
        with self._device.current():
            tensor, host = self._tensor(kind), self._host(kind)
            host.array[...] = array
            tensor.buffer.load(host, self._stream)
            self._stream.synchronize()  # the next array of this kind takes the same memory
        return tensor

    def _to_host(self, value: _Tensor) -> NDArray[Any]:
        with self._device.current():
            host = self._host(value.kind)
            value.buffer.store(host, self._stream)
            self._stream.synchronize()
            return host.array.copy()

    def _tensor(self, kind: Kind) -> _Tensor:
        size_bytes = bytes_of(kind)
        free = self._free.setdefault(size_bytes, [])
        if not free:
            free.append(self._device.buffer(size_bytes))
            self._cleanup.callback(free[0].close)
        return _Tensor(kind, free.pop(), free)

    def _host(self, kind: Kind) -> PinnedArray:
        if kind not in self._hosts:
            self._hosts[kind] = self._device.pinned(*kind)
            self._cleanup.callback(self._hosts[kind].close)
        return self._hosts[kind]

    def _close(self) -> None:
        self.reset()
        self._release()

    def _release(self) -> None:
        if not self._engines:
            return
        with self._engines[0].device.current(), self._cleanup:
            try:
                if hasattr(self, "_stream"):
                    self._stream.synchronize()
            finally:
                while self._engines:
                    self._engines.pop().close()


def piece_path(path: Path, index: int) -> Path:
    """``film.engine`` -> ``film.piece0.engine``."""
    return path.with_name(f"{path.stem}.piece{index}{path.suffix}")


def _kinds(tensors: Sequence[EngineTensor]) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    return {tensor.name: (tensor.shape, np.dtype(DTYPES[tensor.dtype])) for tensor in tensors}
