"""One engine, checked and loaded: from its file and sidecar to a context that runs it on a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ksnet_deploy.base.closing import Closing
from ksnet_deploy.base.errors import ArtifactError, BackendError
from ksnet_deploy.base.frames import IO_TYPES, FrameSize, FrameType
from ksnet_deploy.ops.library import find_plugin_library, load_plugins
from ksnet_deploy.runtime.step_file import check_countable
from ksnet_deploy.runtime.tensorrt.cuda import open_device
from ksnet_deploy.runtime.tensorrt.cuda_layer import Device, DeviceBuffer, Stream
from ksnet_deploy.runtime.tensorrt.profile import profiled
from ksnet_deploy.runtime.tensorrt.runtime_cache import RuntimeCache
from ksnet_deploy.runtime.tensorrt.sidecar import EngineTensor, Sidecar
from ksnet_deploy.runtime.tensorrt.target import FLAVOURS, import_tensorrt

__all__ = ["DTYPES", "Engine", "frame_type"]

DTYPES = {"UINT8": "uint8", "HALF": "float16", "FLOAT": "float32", "INT32": "int32", "INT64": "int64"}
"""NumPy's names of TensorRT's types."""


class Engine(Closing):
    """An engine on the GPU at hand, for frames of one size."""

    def __init__(self, path: Path, size: FrameSize) -> None:
        """Check and load it; on the device's thread, :attr:`device` is to be current for all else.

        Raises:
            ArtifactError: the engine does not fit this machine or the size, or is damaged.
            BackendError: there is no GPU, or it cannot run the engine.
            ConfigError: the frames are too large for a GPU.
        """
        self.path = path
        self.sidecar = sidecar = Sidecar.read(path)
        trt = import_tensorrt(sidecar.spec.flavour)
        library = find_plugin_library() if sidecar.spec.plugins else None
        device, reason = _device()
        target = None if device is None else device.target
        sidecar.check(path, size, flavour_version=trt.__version__, device=target, plugin_library=library)
        if device is None:
            raise BackendError(f"{path} needs a GPU: {reason}")
        check_countable(sidecar.metadata, size, sidecar.spec.batch)
        self.device = device
        self._compiled: RuntimeCache | None = None
        with device.current():
            self._load(trt, library)

    def _load(self, trt: Any, library: Path | None) -> None:
        path, flavour = self.path, self.sidecar.spec.flavour
        if library is not None:
            load_plugins(trt, library)
        self._trt = trt
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise ArtifactError(
                f"{FLAVOURS[flavour]} {trt.__version__} refuses {path}; build it again with 'ksnet-deploy build-engine'"
            )
        self._context = self._engine.create_execution_context(*self._runtime_config(trt))
        if self._context is None:
            raise BackendError(
                f"the GPU has no room for {path} (out of memory); close other programs that use it, or take smaller "
                "frames"
            )

    def _runtime_config(self, trt: Any) -> tuple[Any, ...]:
        """TensorRT-RTX compiles kernels for the size at hand; at once, not during the run, which a recording would
        miss."""
        strategies = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
        if strategies is None:
            return ()
        config = self._engine.create_runtime_config()
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        if hasattr(config, "create_runtime_cache"):
            self._compiled = RuntimeCache(self.path, self.sidecar.engine_sha256, config)
        return (config,)

    @property
    def inputs(self) -> list[EngineTensor]:
        """Inputs that it has: TensorRT may take away one that nothing reads, though not its output."""
        names = {self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)}
        return [tensor for tensor in self.sidecar.inputs if tensor.name in names]

    def set_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Say the shapes of the inputs, once. Raises BackendError where it does not take them."""
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise BackendError(
                    f"TensorRT does not take {name} of shape {shape} in {self.path}; build the engine again"
                )

    def can_be_recorded(self, stream: Stream) -> bool:
        """Whether its run can be recorded as a graph; TensorRT 10 and 11 cannot be asked, and can."""
        capturable = getattr(self._context, "is_stream_capturable", None)
        return capturable is None or bool(capturable(stream.handle))

    def run(self, tensors: Mapping[str, DeviceBuffer], stream: Stream) -> None:
        """Put a run on a stream, from and to those tensors. Raises BackendError where TensorRT refuses."""
        for name, buffer in tensors.items():
            if not self._context.set_tensor_address(name, buffer.pointer):
                raise BackendError(f"TensorRT does not know the tensor {name}; build the engine again")
        if not self._context.execute_async_v3(stream.handle):
            raise BackendError("TensorRT could not run the engine on this GPU; build it again for this machine")

    def profiled(self) -> AbstractContextManager[dict[str, float]]:
        """Milliseconds of the layers in the runs inside, by type; see :func:`~.profile.profiled`."""
        return profiled(self._trt, self._engine, self._context)

    def keep_compiled(self) -> None:
        """Keep what TensorRT-RTX compiled, beside the engine."""
        if self._compiled is not None:
            self._compiled.keep()

    def close(self) -> None:
        # The context and the engine before the runtime.
        del self._context, self._engine, self._runtime
        self._compiled = None


def frame_type(path: Path, inputs: Sequence[EngineTensor]) -> FrameType:
    """Type of the frames that an engine takes. Raises ArtifactError where it is none of ours."""
    dtype = next((DTYPES.get(tensor.dtype, tensor.dtype) for tensor in inputs if tensor.name == "lr"), "none")
    if dtype not in IO_TYPES:
        raise ArtifactError(f"{path} takes frames of type {dtype}; expected {', '.join(IO_TYPES)}; build it again")
    return dtype  # type: ignore[return-value]


def _device() -> tuple[Device | None, str]:
    """The GPU, or why there is none."""
    try:
        return open_device(), ""
    except BackendError as error:
        return None, str(error)
