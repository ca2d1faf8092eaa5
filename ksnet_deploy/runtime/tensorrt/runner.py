"""Engines of TensorRT 10, 11 and TensorRT-RTX. Not yet run on a GPU: tested with a stand-in for the device."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.runtime.base import NEXT_PREFIX, STATE_PREFIX, Runner, SavedState, fitting_state, reset_planes
from ksnet_deploy.runtime.likeness import RECORDED_PSNR_DB, likeness
from ksnet_deploy.runtime.tensorrt.cuda_layer import DeviceBuffer, Event, Graph, PinnedArray
from ksnet_deploy.runtime.tensorrt.engine import DTYPES, Engine, frame_type
from ksnet_deploy.runtime.tensorrt.transfers import SLOTS, Kind, Slot, Transfers, bytes_of

__all__ = ["TensorRTRunner"]


class TensorRTRunner(Runner):
    """Runs an engine. The state stays on the device, in two sets of buffers that swap roles after every step.

    A step is one launch of a CUDA graph, of which there is one for each role of the buffers, between an upload and a
    download on streams of their own, so that those of the frames in flight go on meanwhile. Where an engine cannot be
    recorded, or cuda-bindings, which records, is not installed, ``recorded`` is False and the engine is launched
    without a graph; a recording that fails is noted.
    """

    recorded = False
    """Whether a step is a launch of a graph."""
    most_in_flight = SLOTS
    _events: tuple[Event, Event] | None = None
    _timed: tuple[Event, Event] | tuple[None, None] = None, None
    """Moments before and after the step that is timed."""

    def __init__(self, path: Path, size: FrameSize) -> None:
        """Load an engine for frames of one size.

        Raises:
            ArtifactError: the engine does not fit this machine or the size, or is damaged.
            BackendError: there is no GPU, or it cannot run the engine.
            ConfigError: the frames are too large for a GPU.
        """
        engine = Engine(path, size)
        self._cleanup = ExitStack()
        self._device, self._engine = engine.device, engine
        with self._device.current():
            try:
                super().__init__(size, frame_type(path, engine.sidecar.inputs))
                self.lanes, self.backend = engine.sidecar.spec.batch, engine.sidecar.spec.flavour
                self._open(engine)
            except BaseException:
                with self._cleanup:
                    engine.close()
                raise

    def _open(self, engine: Engine) -> None:
        self._stream = self._device.stream()
        self._cleanup.callback(self._stream.close)
        inputs, outputs = engine.inputs, engine.sidecar.outputs
        shapes = {tensor.name: tensor.at(self.size) for tensor in inputs}
        engine.set_shapes(shapes)
        dtypes = {tensor.name: DTYPES[tensor.dtype] for tensor in (*inputs, *outputs)}
        result = next(tensor for tensor in outputs if not tensor.name.startswith(NEXT_PREFIX))
        self.takes = tuple(name for name in shapes if name != "lr" and not name.startswith(STATE_PREFIX))
        self.gives = result.name
        up, area = self.size.upscaled, (self.size.height, self.size.width)
        self._frame_kind: Kind = (*self.lane_axis, *area, 3), self.io
        self._feature_kinds: dict[str, Kind] = {name: (shapes[name], dtypes[name]) for name in self.takes}
        shape = (*self.lane_axis, up.height, up.width, 3) if self.gives == "hr" else result.at(self.size)
        # The last frame of a scene that begins, for each slot: the load of one may wait while the next is written.
        self._planes = [self._pinned((*self.lane_axis, 3, *area), "float32") for _ in range(SLOTS)]
        self._state_kinds: dict[str, Kind] = {
            name.removeprefix(STATE_PREFIX): (shape, dtypes[name])
            for name, shape in shapes.items()
            if name.startswith(STATE_PREFIX)
        }
        self._lane_hosts: dict[str, PinnedArray] = {}
        self._states = [
            {name: self._buffer(bytes_of(kind)) for name, kind in self._state_kinds.items()} for _ in range(2)
        ]
        self._unread = {
            tensor.name: self._buffer(bytes_of((tensor.at(self.size), dtypes[tensor.name])))
            for tensor in outputs
            if tensor.name.startswith(NEXT_PREFIX) and tensor.name.removeprefix(NEXT_PREFIX) not in self._state_kinds
        }
        self._transfers = Transfers(
            self._device,
            self._stream,
            {"lr": self._frame_kind, **self._feature_kinds},
            (shape, self.io if self.gives == "hr" else dtypes[result.name]),
        )
        self._cleanup.callback(self._transfers.close)
        self._in_flight: deque[Slot] = deque()
        self._current = 0
        """Set of states that the next step reads, and slot of its frame; the two change together."""
        self._fresh = True
        self._graphs: list[Graph] | None = None
        self._record_graphs()
        engine.keep_compiled()

    def timed_step(self, lr: NDArray[Any], *features: NDArray[Any]) -> float:
        with self._device.current():
            if self._events is None:
                self._events = self._device.event(), self._device.event()
                for event in self._events:
                    self._cleanup.callback(event.close)
            self._timed = begin, end = self._events
            try:
                self.step(lr, *features)
            finally:
                self._timed = None, None
            return end.ms_since(begin)

    def layer_times(self, lr: NDArray[Any], *features: NDArray[Any]) -> dict[str, float]:
        graphs, self._graphs = self._graphs, None  # whose layers are not told
        try:
            with self._device.current(), self._engine.profiled() as times:
                self.step(lr, *features)
        finally:
            self._graphs = graphs
        return dict(times)

    def _submit(self, lr: NDArray[Any], *features: NDArray[Any]) -> None:
        begin, end = self._timed
        with self._device.current():
            slot = self._transfers.slots[self._current]
            if self._fresh:
                self._clear_state(lr)
            self._transfers.upload(slot, {"lr": lr, **dict(zip(self.takes, features, strict=True))}, begin)
            if self._graphs is None:
                self._enqueue(self._current)
            else:
                self._graphs[self._current].launch(self._stream)
            self._transfers.download(slot, end)
        self._in_flight.append(slot)
        self._current = 1 - self._current

    def _collect(self) -> NDArray[Any]:
        with self._device.current():
            return self._transfers.result(self._in_flight.popleft())

    def _step(self, lr: NDArray[Any], *features: NDArray[Any]) -> NDArray[Any]:
        self._submit(lr, *features)
        return self._collect()

    def _enqueue(self, current: int) -> None:
        """Put the engine on the stream, from one set of states to the other."""
        slot = self._transfers.slots[current]
        bindings = {**slot.buffers, self.gives: slot.result, **self._unread}
        bindings |= {STATE_PREFIX + name: buffer for name, buffer in self._states[current].items()}
        bindings |= {NEXT_PREFIX + name: buffer for name, buffer in self._states[1 - current].items()}
        self._engine.run(bindings, self._stream)

    def _record_graphs(self) -> None:
        """Record the step for both roles of the states, where that computes what the plain step does."""
        rng = np.random.default_rng(0)
        frames = rng.integers(0, 256, (2, *self._frame_kind[0]))
        frames = frames.astype(self.io) if self.io == "uint8" else (frames / 255).astype(self.io)
        given = [rng.normal(0, 0.1, shape) for shape, _ in self._feature_kinds.values()]
        plain = [self._step(frame, *given) for frame in frames]  # which TensorRT wants before it is recorded
        if self._engine.can_be_recorded(self._stream):
            self._graphs = self._recorded_graphs()
        if self._graphs is not None:
            self.reset()
            self._current = 0
            least = min(
                likeness(self._step(frame, *given), expected) for frame, expected in zip(frames, plain, strict=True)
            )
            self.recorded = least >= RECORDED_PSNR_DB
            if not self.recorded:
                self._graphs = None
                self.notes = (
                    f"The recorded step has {least:.0f} dB against the plain one, where {RECORDED_PSNR_DB:.0f} dB were "
                    "expected; the plain one is run, which is slower. Update the GPU's driver, and report this.",
                )
        self.reset()

    def _recorded_graphs(self) -> list[Graph] | None:
        """One graph for each role of the states; None where no installed package records, or where that fails, which is
        noted."""
        graphs = []
        for current in range(2):
            try:
                graph = self._device.record(lambda current=current: self._enqueue(current), self._stream)  # type: ignore[misc]
            except BackendError as error:
                self.notes = (f"The step is launched without a graph, which is slower: it was not recorded ({error}).",)
                return None
            if graph is None:
                return None
            self._cleanup.callback(graph.close)
            graphs.append(graph)
        return graphs

    def _clear_state(self, lr: NDArray[Any]) -> None:
        """A fresh state: zeros, and the frame itself as the last one."""
        for name, buffer in self._states[self._current].items():
            if name == "prev_lr":
                planes = self._planes[self._current]
                planes.array[...] = reset_planes(lr)
                buffer.load(planes, self._stream)
            else:
                buffer.zero(self._stream)
        self._fresh = False

    def _pinned(self, shape: tuple[int, ...], dtype: str) -> PinnedArray:
        array = self._device.pinned(shape, dtype)
        self._cleanup.callback(array.close)
        return array

    def _buffer(self, size_bytes: int) -> DeviceBuffer:
        buffer = self._device.buffer(size_bytes)
        self._cleanup.callback(buffer.close)
        return buffer

    def reset(self) -> None:
        self._fresh = True

    @property
    def state(self) -> SavedState:
        parts = [self.read_lane(lane) for lane in range(self.lanes)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    @state.setter
    def state(self, saved: SavedState) -> None:
        self._check_open()
        fitting = fitting_state(saved, self.zero_state()) if saved else {}
        self._fresh = not saved
        for lane in range(self.lanes) if saved else ():
            self.write_lane(lane, {name: array[lane : lane + 1] for name, array in fitting.items()})

    def zero_state(self) -> SavedState:
        return {name: np.zeros(*kind) for name, kind in self._state_kinds.items()}

    def read_lane(self, lane: int) -> SavedState:
        saved = {}
        with self._device.current():
            for name in () if self._fresh else self._state_kinds:
                part, host = self._lane(lane, name)
                part.store(host, self._stream)
                self._stream.synchronize()
                saved[name] = host.array.copy()
        return saved

    def write_lane(self, lane: int, saved: SavedState) -> None:
        self._check_open()
        with self._device.current():
            for buffer in self._states[self._current].values() if self._fresh else ():
                buffer.zero(self._stream)
            self._fresh = False
            for name in self._state_kinds:
                part, host = self._lane(lane, name)
                if name not in saved:
                    part.zero(self._stream)
                    continue
                host.array[...] = saved[name]
                part.load(host, self._stream)
                self._stream.synchronize()

    def _lane(self, lane: int, name: str) -> tuple[DeviceBuffer, PinnedArray]:
        """A lane's part of a state, and host memory for it; made when first asked for, for most runs never save one."""
        (_, *shape), dtype = self._state_kinds[name]
        if name not in self._lane_hosts:
            self._lane_hosts[name] = self._pinned((1, *shape), dtype)
        host = self._lane_hosts[name]
        return self._states[self._current][name].part(lane * host.array.nbytes, host.array.nbytes), host

    def _close(self) -> None:
        self.reset()
        with self._device.current(), self._cleanup:
            try:
                self._transfers.drain()
            finally:
                self._engine.close()  # before the memory that it uses
