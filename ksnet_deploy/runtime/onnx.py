"""ONNX Runtime, on the CPU or a CUDA device."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from ksnet_deploy.base.errors import ArtifactError, BackendError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.machine import threads_told
from ksnet_deploy.ops.align_library import AlignKernel, align_kernel, kernel_in_words
from ksnet_deploy.ops.rewriting import aligns_in, leave_alignment, use_cuda_operators
from ksnet_deploy.runtime.base import NEXT_PREFIX, STATE_PREFIX, Runner, SavedState, fitting_state, reset_planes
from ksnet_deploy.runtime.gradients import gradients_in_registers
from ksnet_deploy.runtime.int8 import IN_INT8, check_int8
from ksnet_deploy.runtime.likeness import RECORDED_PSNR_DB
from ksnet_deploy.runtime.onnx_recorded import RecordedOnnxStep, attempts
from ksnet_deploy.runtime.rewrites import use_processor_operators
from ksnet_deploy.runtime.step_file import (
    check_countable,
    exported_lanes,
    exported_metadata,
    exported_size,
    features_taken,
    frame_type,
    is_int8,
    load_step,
    result_name,
    zero_state,
)

__all__ = [
    "SHARED",
    "OnnxRunner",
    "check_device",
    "open_session",
    "share_memory",
    "use_device_operators",
    "use_fastest_operators",
]

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
PROVIDER_OPTIONS: dict[str, dict[str, str]] = {
    "cpu": {},
    # float32 is float32; convolutions are measured, with all the memory that the fastest want.
    "cuda": {"use_tf32": "0", "cudnn_conv_algo_search": "EXHAUSTIVE", "cudnn_conv_use_max_workspace": "1"},
}

WAITING = {"session.intra_op.allow_spinning": "1", "session.intra_op.spin_duration_us": "100"}
"""Threads that wait spin for 100 us and then sleep: nearly as fast on an idle machine as spinning on, and within a
twentieth of sleeping at once on a busy one, where spinning on takes the cores from those that work."""
SHARED = {**WAITING, "session.use_env_allocators": "1"}
"""Sessions that run by turns and take their memory from one arena, once :func:`share_memory` was called."""


@cache
def share_memory() -> None:
    """Let sessions of :data:`SHARED` allocate from one arena: seven of their own took 2154 MB for uni at 180x320 in
    pieces, this one 1216 MB."""
    kind = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(kind, None)


class OnnxRunner(Runner):
    """Runs an exported step; the recurrent state stays in ONNX Runtime's own memory between the frames."""

    backend = "onnxruntime"

    def __init__(
        self,
        path: Path,
        size: FrameSize,
        *,
        device: str = "cpu",
        rewrite: Callable[[onnx.ModelProto], None] | None = None,
        options: Mapping[str, str] = WAITING,
        profile: Path | None = None,
        recorded: bool | None = None,
    ) -> None:
        """Load the file for frames of one size.

        Args:
            path: an ``.onnx`` that ``ksnet-deploy export`` wrote, of this size or dynamic.
            device: ``cpu`` or ``cuda``.
            rewrite: changes the model in memory; by default the device's faster operators, and the native kernel of
                the alignment where there is one, take the place of the function bodies that the file carries.
            options: entries of the session's configuration.
            profile: beginning of the name of a file to write every operator's time to; :meth:`end_profile` ends it.
            recorded: run the step as a CUDA graph. None: on CUDA, where the file is of one size and nothing is
                profiled; where that cannot be, the step is run plainly, and a note says so.

        Raises:
            ArtifactError: the file is missing, broken, not a KSNet step, or of another size.
            BackendError: the device is not available to ONNX Runtime, or does not record the step that must be.
            ConfigError: the frames are too large for a CUDA device.
        """
        model = load_step(path, size)
        if device == "cuda":
            check_countable(exported_metadata(model), size, exported_lanes(model))
        kernel = use_fastest_operators(model, device, rewrite)
        if device == "cpu" and rewrite is None:  # here alone, because steps in pieces are cut at the splits as they are
            gradients_in_registers(model)
        if kernel is not None and kernel.note is not None:
            self.notes = (kernel.note,)
        self.kernel = kernel_in_words(kernel) if device == "cpu" else None
        if is_int8(model):
            check_int8(device)
            self.notes = (*self.notes, IN_INT8)
        super().__init__(size, frame_type(path, model))
        self.lanes = exported_lanes(model)
        self._feature_types = features_taken(model)
        self.takes, self.gives = tuple(self._feature_types), result_name(model)
        self._device = device
        self._zeros = zero_state(model, size)
        self._state: dict[str, ort.OrtValue] | None = None
        self._recorded: RecordedOnnxStep | None = None
        if device == "cuda":
            plain = profile is not None or exported_size(model) is None
            graph = not plain if recorded is None else recorded
            self._session = self._opened_on_cuda(path, model, options, profile, graph=graph, must=recorded is True)
        elif recorded:
            raise BackendError("only a CUDA device runs a step as a recorded graph; leave recorded out, or take cuda")
        else:
            self._session = open_session(path, model, device, options, profile=profile, kernel=kernel)
        self._binding = self._session.io_binding()

    def _opened_on_cuda(
        self,
        path: Path,
        model: onnx.ModelProto,
        options: Mapping[str, str],
        profile: Path | None,
        *,
        graph: bool,
        must: bool,
    ) -> ort.InferenceSession:
        """A session with the fastest settings that this build of ONNX Runtime takes; what it does not take is noted, or
        an error where it must."""
        half = onnx.TensorProto.FLOAT16 in {tensor.data_type for tensor in model.graph.initializer}
        reason = ""
        for attempt in attempts(half=half, graph=graph):
            if must and not attempt.records:
                raise BackendError(f"ONNX Runtime does not record this step ({reason}); leave recorded out")
            try:
                session = open_session(path, model, "cuda", options, profile=profile, extra=attempt.options)
            except ArtifactError as error:  # that there is no CUDA device is another error, for all attempts
                if not attempt.options:
                    raise
                reason = reason or f"{error}"
                continue
            if attempt.records and (fault := self._fault_of_recorded(session)) is not None:
                reason = reason or fault
                continue
            if attempt.without:
                lost = " and ".join(attempt.without)
                self.notes = (*self.notes, f"ONNX Runtime runs without {lost}, which is slower ({reason}).")
            return session
        raise AssertionError("the last attempt has no options")

    def _fault_of_recorded(self, session: ort.InferenceSession) -> str | None:
        """Take the recorded step where it computes what the plain one does; else the reason against it."""
        try:
            step = RecordedOnnxStep(session, self._device, self._zeros, self.gives)
            least = step.least_psnr_db()
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            return f"the step was not recorded: {' '.join(str(error).split())[:300]}"
        if least < RECORDED_PSNR_DB:
            return f"the recorded step has {least:.0f} dB against the plain one, not {RECORDED_PSNR_DB:.0f}"
        self._recorded = step
        return None

    def _step(self, lr: NDArray[Any], *features: NDArray[Any]) -> NDArray[Any]:
        batch = lr.reshape(self.lanes, *lr.shape[-3:])
        if self._recorded is not None:
            pairs = zip(self.takes, features, strict=True)
            given = {name: np.ascontiguousarray(array, self._feature_types[name]) for name, array in pairs}
            return self._without_lane(self._recorded({"lr": batch, **given}))
        state = self._state if self._state is not None else self._initial_state(batch)
        binding = self._binding
        binding.bind_cpu_input("lr", batch)
        for name, array in zip(self.takes, features, strict=True):
            binding.bind_cpu_input(name, np.ascontiguousarray(array, self._feature_types[name]))
        for name, value in state.items():
            binding.bind_ortvalue_input(STATE_PREFIX + name, value)
        binding.bind_output(self.gives, "cpu")
        for name in self._zeros:
            binding.bind_output(NEXT_PREFIX + name, self._device)
        self._session.run_with_iobinding(binding)
        result, *following = binding.get_outputs()
        self._state = dict(zip(self._zeros, following, strict=True))
        binding.clear_binding_inputs()
        binding.clear_binding_outputs()
        return self._without_lane(result.numpy())

    def _without_lane(self, result: NDArray[Any]) -> NDArray[Any]:
        """A frame alone where there is one; features keep their first axis."""
        return result[0] if self.gives == "hr" and self.lanes == 1 else result

    def _initial_state(self, batch: NDArray[Any]) -> dict[str, ort.OrtValue]:
        arrays = self._zeros | {"prev_lr": np.ascontiguousarray(reset_planes(batch))}
        return {name: self._to_device(array) for name, array in arrays.items()}

    def _to_device(self, array: NDArray[Any]) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy(array, self._device, 0)

    @property
    def state(self) -> SavedState:
        if self._recorded is not None:
            return self._recorded.state
        return {name: value.numpy().copy() for name, value in (self._state or {}).items()}

    @state.setter
    def state(self, saved: SavedState) -> None:
        self._check_open()
        fitting = fitting_state(saved, self._zeros) if saved else {}
        if self._recorded is not None:
            self._recorded.load(fitting) if fitting else self._recorded.reset()
            return
        self._state = {name: self._to_device(array.copy()) for name, array in fitting.items()} or None

    def zero_state(self) -> SavedState:
        return {name: array.copy() for name, array in self._zeros.items()}

    def reset(self) -> None:
        self._state = None
        if self._recorded is not None:
            self._recorded.reset()

    def end_profile(self) -> Path:
        """The file, complete; a list of events as Chrome's tracing has them, times in microseconds."""
        return Path(self._session.end_profiling())

    def _close(self) -> None:
        self.reset()
        self._recorded = None
        del self._binding, self._session


def use_device_operators(device: str) -> Callable[[onnx.ModelProto], None]:
    """The rewriting of a model for what ONNX Runtime is fastest at on a device."""
    return use_cuda_operators if device == "cuda" else use_processor_operators


def use_fastest_operators(
    model: onnx.ModelProto, device: str, rewrite: Callable[[onnx.ModelProto], None] | None = None
) -> AlignKernel | None:
    """Rewrite a model, in memory, for a device and the native kernel, or as ``rewrite`` does. Returns the kernel, as
    :func:`open_session` needs it."""
    if rewrite is not None:
        rewrite(model)
        return None
    use_device_operators(device)(model)
    return _use_align_kernel(model, device)


def _use_align_kernel(model: onnx.ModelProto, device: str) -> AlignKernel | None:
    """Leave, in memory, the alignments to the native kernel; it has float32 on a CPU. Returns what the session needs,
    or None where none of them is for it."""
    if device != "cpu" or aligns_in(model) != {onnx.TensorProto.FLOAT}:
        return None
    kernel = align_kernel("onnxruntime")
    if kernel.library is not None and (reason := _refusal(kernel.library)) is not None:
        kernel = AlignKernel(None, None, f"The alignment's native kernel is left out: {reason}")
    if kernel.library is not None:
        leave_alignment(model)
    return kernel


@cache
def _refusal(library: Path) -> str | None:
    """Reason why this ONNX Runtime does not take a library of operators; None where it does."""
    try:
        ort.SessionOptions().register_custom_ops_library(str(library))
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        return f"{error}"
    return None


def check_device(device: str) -> None:
    """Raise BackendError where this ONNX Runtime does not run on a device, ``cpu`` or ``cuda``."""
    provider = PROVIDERS[device]
    if provider not in ort.get_available_providers():
        raise BackendError(
            f"ONNX Runtime here has no {provider}, only {', '.join(ort.get_available_providers())}; "
            "use --device cpu, or install ksnet-deploy with its 'gpu' extra"
        )


def _load_cuda_libraries() -> None:
    """Load CUDA's and cuDNN's libraries from the packages that pip installed, where ONNX Runtime does not look."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it misses, and frames may go to that output
        getattr(ort, "preload_dlls", lambda: None)()


def open_session(
    path: Path,
    model: onnx.ModelProto,
    device: str,
    options: Mapping[str, str] | None = None,
    *,
    profile: Path | None = None,
    kernel: AlignKernel | None = None,
    extra: Mapping[str, str] | None = None,
) -> ort.InferenceSession:
    """Create an inference session for a model that came from a file; ``options`` are extra session-config entries,
    ``kernel`` is of :func:`use_fastest_operators`, and ``extra`` are options of the device.

    Raises:
        ArtifactError: it cannot.
        BackendError: the device is not available to it.
    """
    check_device(device)
    if device == "cuda":
        _load_cuda_libraries()
    settings = ort.SessionOptions()
    # Planning memory over the whole graph costs 130 MB more at 180x320 and makes no step faster.
    settings.enable_mem_pattern = False
    settings.intra_op_num_threads = threads_told() or 0  # 0 is a thread for every core
    settings.log_severity_level = 4  # what fails is raised, and told in our words
    if profile is not None:
        settings.enable_profiling, settings.profile_file_prefix = True, str(profile)
    for name, value in (options or {}).items():
        settings.add_session_config_entry(name, value)
    if kernel is not None and kernel.library is not None:
        settings.register_custom_ops_library(str(kernel.library))
    provider = PROVIDERS[device]
    try:
        provided = [(provider, PROVIDER_OPTIONS[device] | dict(extra or {}))]
        # Else what a provider refuses is printed, where frames may go, and the CPU taken.
        fallback = {"enable_fallback": 0} if device == "cuda" else {}
        session = ort.InferenceSession(model.SerializeToString(), settings, providers=provided, **fallback)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ArtifactError(f"ONNX Runtime cannot load {path} ({error}); export it again") from error
    if (taken := session.get_providers()[0]) != provider:  # of which it tells nobody
        raise BackendError(
            f"ONNX Runtime could not load {provider}, and took {taken} in its place: its CUDA or cuDNN libraries or "
            "the driver are missing or of another version; install ksnet-deploy with its 'gpu' extra and check the "
            "driver with nvidia-smi, or use --device cpu"
        )
    return session
