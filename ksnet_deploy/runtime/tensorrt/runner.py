"""Engines of TensorRT 10, 11 and TensorRT-RTX. Not yet run on a GPU: tested with a stand-in for the device."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.errors import ArtifactError, BackendError
from ksnet_deploy.base.frames import IO_TYPES, FrameSize, FrameType
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.ops.library import find_plugin_library, load_plugins
from ksnet_deploy.runtime.base import NEXT_PREFIX, STATE_PREFIX, Runner, SavedState, fitting_state, reset_planes
from ksnet_deploy.runtime.step_file import check_countable
from ksnet_deploy.runtime.tensorrt.cuda import open_device
from ksnet_deploy.runtime.tensorrt.cuda_layer import Device, DeviceBuffer, Event, Graph, PinnedArray
from ksnet_deploy.runtime.tensorrt.runtime_cache import RuntimeCache
from ksnet_deploy.runtime.tensorrt.sidecar import EngineTensor, Sidecar
from ksnet_deploy.runtime.tensorrt.target import FLAVOURS, import_tensorrt

__all__ = ["TensorRTRunner"]

DTYPES = {"UINT8": "uint8", "HALF": "float16", "FLOAT": "float32"}
"""NumPy's names of TensorRT's types."""
RECORDED_PSNR_DB = 60.0
"""Least PSNR of a recorded step against the plain one: TensorRT does not promise the same rounding in two runs, and
both have the same error of 55 to 63 dB against float32."""


class TensorRTRunner(Runner):
    """Runs an engine. The state stays on the device, in two sets of buffers that swap roles after every step.

    A step is one launch of a CUDA graph (copy in, engine, copy out), of which there is one for each role of the
    buffers, and one wait, for the frame. Where an engine cannot be recorded, or cuda-bindings, which records, is not
    installed, ``recorded`` is False and the parts are put on the stream one by one.
    """

    recorded = False
    """Whether a step is a launch of a graph."""
    _compiled: RuntimeCache | None = None
    _events: tuple[Event, Event] | None = None
    _after_step: Event | None = None

    def __init__(self, path: Path, size: FrameSize) -> None:
        """Load an engine for frames of one size.

        Raises:
            ArtifactError: the engine does not fit this machine or the size, or is damaged.
            BackendError: there is no GPU, or it cannot run the engine.
            ConfigError: the frames are too large for a GPU.
        """
        sidecar = Sidecar.read(path)
        trt = import_tensorrt(sidecar.spec.flavour)
        library = find_plugin_library() if sidecar.spec.plugins else None
        device, reason = _device()
        target = None if device is None else device.target
        sidecar.check(path, size, flavour_version=trt.__version__, device=target, plugin_library=library)
        if device is None:
            raise BackendError(f"{path} needs a GPU: {reason}")
        check_countable(sidecar.metadata, size, sidecar.spec.batch)
        super().__init__(size, _frame_type(path, sidecar))
        self.lanes = sidecar.spec.batch
        self.backend = sidecar.spec.flavour
        self._device = device
        self._cleanup = ExitStack()
        with device.current():
            try:
                self._open(path, sidecar, trt, library)
            except BaseException:
                self._cleanup.close()
                raise

    def _open(self, path: Path, sidecar: Sidecar, trt: Any, library: Path | None) -> None:
        if library is not None:
            load_plugins(trt, library)
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise ArtifactError(
                f"{FLAVOURS[sidecar.spec.flavour]} {trt.__version__} refuses {path}; "
                "build it again with 'ksnet-deploy build-engine'"
            )
        self._context = self._engine.create_execution_context(*self._runtime_config(trt, path, sidecar))
        if self._context is None:
            raise BackendError(
                f"the GPU has no room for {path}; close other programs that use it, or take smaller frames"
            )
        self._stream = self._device.stream()
        self._cleanup.callback(self._stream.close)
        inputs, outputs = self._inputs(sidecar), sidecar.outputs
        shapes = {tensor.name: tensor.at(self.size) for tensor in inputs}
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise BackendError(f"TensorRT does not take {name} of shape {shape} in {path}; build the engine again")
        dtypes = {tensor.name: DTYPES[tensor.dtype] for tensor in (*inputs, *outputs)}
        self._lr = self._pinned((*self.lane_axis, self.size.height, self.size.width, 3), self.io)
        result = next(tensor for tensor in outputs if not tensor.name.startswith(NEXT_PREFIX))
        self.takes = tuple(name for name in shapes if name != "lr" and not name.startswith(STATE_PREFIX))
        self.gives = result.name
        up = self.size.upscaled
        shape = (*self.lane_axis, up.height, up.width, 3) if self.gives == "hr" else result.at(self.size)
        self._result = self._pinned(shape, self.io if self.gives == "hr" else dtypes[result.name])
        self._planes = self._pinned((*self.lane_axis, 3, self.size.height, self.size.width), "float32")
        self._lr_device = self._buffer(self._lr.array.nbytes)
        self._given = {name: self._pinned(shapes[name], dtypes[name]) for name in self.takes}
        self._features = {name: self._buffer(host.array.nbytes) for name, host in self._given.items()}
        self._result_device = self._buffer(self._result.array.nbytes)
        self._state_kinds = {
            name.removeprefix(STATE_PREFIX): (shape, dtypes[name])
            for name, shape in shapes.items()
            if name.startswith(STATE_PREFIX)
        }
        self._lane_hosts: dict[str, PinnedArray] = {}
        self._states = [
            {
                name: self._buffer(int(np.prod(shape)) * np.dtype(dtype).itemsize)
                for name, (shape, dtype) in self._state_kinds.items()
            }
            for _ in range(2)
        ]
        self._unread = {
            tensor.name: self._buffer(int(np.prod(tensor.at(self.size))) * np.dtype(dtypes[tensor.name]).itemsize)
            for tensor in outputs
            if tensor.name.startswith(NEXT_PREFIX) and tensor.name.removeprefix(NEXT_PREFIX) not in self._state_kinds
        }
        self._current = 0
        self._fresh = True
        self._graphs: list[Graph] | None = None
        self._record_graphs()
        if self._compiled is not None:
            self._compiled.keep()

    def _inputs(self, sidecar: Sidecar) -> list[EngineTensor]:
        """Inputs that the engine has: TensorRT may take away a state that nothing reads, though not its output."""
        names = {self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)}
        return [tensor for tensor in sidecar.inputs if tensor.name in names]

    def _runtime_config(self, trt: Any, path: Path, sidecar: Sidecar) -> tuple[Any, ...]:
        """TensorRT-RTX compiles kernels for the size at hand; at once, not during the run, which a recording would
        miss."""
        strategies = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
        if strategies is None:
            return ()
        config = self._engine.create_runtime_config()
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        if hasattr(config, "create_runtime_cache"):
            self._compiled = RuntimeCache(path, sidecar.engine_sha256, config)
        return (config,)

    def timed_step(self, lr: NDArray[Any], *features: NDArray[Any]) -> float:
        with self._device.current():
            if self._events is None:
                self._events = self._device.event(), self._device.event()
                for event in self._events:
                    self._cleanup.callback(event.close)
            begin, end = self._events
            begin.record(self._stream)
            self._after_step = end
            try:
                self.step(lr, *features)
            finally:
                self._after_step = None
            return end.ms_since(begin)

    def _step(self, lr: NDArray[Any], *features: NDArray[Any]) -> NDArray[Any]:
        with self._device.current():
            return self._take_step(lr, *features)

    def _take_step(self, lr: NDArray[Any], *features: NDArray[Any]) -> NDArray[Any]:
        if self._fresh:
            self._clear_state(lr)
        self._lr.array[...] = lr
        for name, array in zip(self.takes, features, strict=True):
            self._given[name].array[...] = array
        if self._graphs is None:
            self._enqueue(self._current)
        else:
            self._graphs[self._current].launch(self._stream)
        if self._after_step is not None:
            self._after_step.record(self._stream)
        self._stream.synchronize()
        self._current = 1 - self._current
        return self._result.array.copy()

    def _enqueue(self, current: int) -> None:
        """Put a step on the stream: frame in, engine from one set of states to the other, frame out."""
        self._lr_device.load(self._lr, self._stream)
        for name, host in self._given.items():
            self._features[name].load(host, self._stream)
        bindings = {"lr": self._lr_device, self.gives: self._result_device, **self._features, **self._unread}
        bindings |= {STATE_PREFIX + name: buffer for name, buffer in self._states[current].items()}
        bindings |= {NEXT_PREFIX + name: buffer for name, buffer in self._states[1 - current].items()}
        for name, buffer in bindings.items():
            if not self._context.set_tensor_address(name, buffer.pointer):
                raise BackendError(f"TensorRT does not know the tensor {name}; build the engine again")
        if not self._context.execute_async_v3(self._stream.handle):
            raise BackendError("TensorRT could not run the engine on this GPU; build it again for this machine")
        self._result_device.store(self._result, self._stream)

    def _record_graphs(self) -> None:
        """Record the step for both roles of the states, where that computes what the plain step does."""
        rng = np.random.default_rng(0)
        frames = rng.integers(0, 256, (2, *self._lr.array.shape))
        frames = frames.astype(self.io) if self.io == "uint8" else (frames / 255).astype(self.io)
        given = [rng.normal(0, 0.1, host.array.shape) for host in self._given.values()]
        plain = [
            self._take_step(frame, *given) for frame in frames
        ]  # and TensorRT wants a plain run before it is recorded
        capturable = getattr(self._context, "is_stream_capturable", None)
        if capturable is None or capturable(self._stream.handle):
            self._graphs = self._recorded_graphs()
        if self._graphs is not None:
            self.reset()
            self._current = 0
            least = min(
                _likeness(self._take_step(frame, *given), expected)
                for frame, expected in zip(frames, plain, strict=True)
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
        """One graph for each role of the states; None where no installed package records."""
        graphs = []
        for current in range(2):
            graph = self._device.record(lambda current=current: self._enqueue(current), self._stream)  # type: ignore[misc]
            if graph is None:
                return None
            self._cleanup.callback(graph.close)
            graphs.append(graph)
        return graphs

    def _clear_state(self, lr: NDArray[Any]) -> None:
        """A fresh state: zeros, and the frame itself as the last one."""
        for name, buffer in self._states[self._current].items():
            if name == "prev_lr":
                self._planes.array[...] = reset_planes(lr)
                buffer.load(self._planes, self._stream)
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
        with self._device.current():
            # The context and the engine before the runtime, and all before the memory they use.
            del self._context, self._engine, self._runtime
            self._compiled = None
            self._cleanup.close()


def _likeness(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """PSNR in dB of two frames of any one type; of values that are not finite, minus infinity."""
    levels = [frame if frame.dtype == np.uint8 else frame.astype(np.float32) * 255 for frame in (found, expected)]
    return psnr(*levels) if np.isfinite(levels).all() else -np.inf


def _frame_type(path: Path, sidecar: Sidecar) -> FrameType:
    dtype = next((DTYPES.get(tensor.dtype, tensor.dtype) for tensor in sidecar.inputs if tensor.name == "lr"), "none")
    if dtype not in IO_TYPES:
        raise ArtifactError(f"{path} takes frames of type {dtype}; expected {', '.join(IO_TYPES)}; build it again")
    return dtype  # type: ignore[return-value]


def _device() -> tuple[Device | None, str]:
    """The GPU, or why there is none."""
    try:
        return open_device(), ""
    except BackendError as error:
        return None, str(error)
