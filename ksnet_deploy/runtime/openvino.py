"""OpenVINO on the CPU, in bfloat16 where the processor computes in it, else in float32.

Its own hint for bfloat16 would take the sampling coordinates and the channel scores along, which costs 10 dB. Instead
an export in half precision says what may be reduced and what stays float32 (:mod:`ksnet_deploy.network.precision`), and
bfloat16 takes the place of float16 in it.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from ksnet_deploy.base.errors import ArtifactError, BackendError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.machine import cores, has_bfloat16, threads_told
from ksnet_deploy.network.config import Precision
from ksnet_deploy.ops.align_library import AlignKernel, align_kernel, kernel_in_words
from ksnet_deploy.ops.functions import ALIGN, DOMAIN
from ksnet_deploy.ops.rewriting import aligns_in, leave_alignment
from ksnet_deploy.runtime.base import NEXT_PREFIX, STATE_PREFIX, Runner, SavedState, fitting_state, reset_planes
from ksnet_deploy.runtime.int8 import IN_INT8, without_rounded_sums
from ksnet_deploy.runtime.step_file import (
    exported_lanes,
    features_taken,
    frame_type,
    is_int8,
    load_step,
    result_name,
)

__all__ = [
    "OpenVINORunner",
    "check_openvino",
    "export_precision",
    "is_fastest_here",
    "is_installed",
    "with_bfloat16",
]

IN_BFLOAT16 = (
    "OpenVINO computes in bfloat16 on this processor, which is near float32 but not equal to it; --runtime onnxruntime "
    "computes in float32."
)
BFLOAT16 = onnx.helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16)


def is_installed() -> bool:
    return importlib.util.find_spec("openvino") is not None


def check_openvino(device: str = "cpu") -> None:
    """Raise BackendError where OpenVINO is not installed, or is to run on another device than the CPU."""
    if device != "cpu":
        raise BackendError(f"OpenVINO runs on the CPU here, not on {device}; use --device cpu, or another runtime")
    if not is_installed():
        raise BackendError("OpenVINO is not installed; install ksnet-deploy with the 'openvino' extra")


def export_precision() -> Precision:
    """Precision of the export that is run here: half where it becomes bfloat16, else float32."""
    return "fp16" if has_bfloat16() else "fp32"


def is_fastest_here() -> bool:
    """Whether OpenVINO is installed and faster than ONNX Runtime by more than it costs: in bfloat16 by a third, in
    float32 by a tenth at most and only with the native kernel (``benchmarks/waterfall.py``), while ONNX Runtime also
    runs tiles and starts sooner."""
    return is_installed() and has_bfloat16()


class OpenVINORunner(Runner):
    """Runs an exported step. The state is in two sets of tensors that swap roles after every step."""

    backend = "openvino"

    def __init__(self, path: Path, size: FrameSize) -> None:
        """Load the file for frames of one size.

        Args:
            path: an ``.onnx`` that ``ksnet-deploy export`` wrote, of this size or dynamic.

        Raises:
            ArtifactError: the file is missing, broken, not a KSNet step, or of another size.
            BackendError: OpenVINO is not installed.
        """
        check_openvino()
        try:
            import openvino
        except Exception as error:  # of its own, or of a library that it misses
            raise BackendError(
                f"OpenVINO is installed, but cannot be imported ({error}); install it again, or use "
                "--runtime onnxruntime"
            ) from error

        model = load_step(path, size)
        kernel = _align_kernel(model)
        self.kernel = kernel_in_words(kernel)
        native = kernel is not None and kernel.library is not None
        model = onnx.inliner.inline_selected_functions(model, [(DOMAIN, ALIGN)] if native else [], exclude=True)
        if native:
            leave_alignment(model)
        super().__init__(size, frame_type(path, model))
        self.lanes = exported_lanes(model)
        self.takes, self.gives = tuple(features_taken(model)), result_name(model)
        if is_int8(model):
            self.notes = (IN_INT8,)
            without_rounded_sums(model)
        if has_bfloat16() and with_bfloat16(model):
            self.notes = (*self.notes, IN_BFLOAT16)
        if kernel is not None and kernel.note is not None:
            self.notes = (*self.notes, kernel.note)
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # for what the graph itself does not have in bfloat16
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads_told() or cores(),
            "ENABLE_CPU_PINNING": False,  # pinned threads wait for their core while others are free
        }
        try:
            core = openvino.Core()
            if kernel is not None and kernel.library is not None:
                core.add_extension(str(kernel.library))
            network = core.read_model(model.SerializeToString())
            network.reshape({value: self._shape(model, value) for value in network.inputs})
            self._compiled = core.compile_model(network, "CPU", settings)
            self._request = self._compiled.create_infer_request()
        except RuntimeError as error:  # the base of OpenVINO's exceptions
            raise ArtifactError(f"OpenVINO cannot load {path} ({error}); export it again") from error
        named = {_own_name(model, value): value for value in self._compiled.inputs}
        states = [value for name, value in named.items() if name.startswith(STATE_PREFIX)]
        self._names = [name.removeprefix(STATE_PREFIX) for name in named if name.startswith(STATE_PREFIX)]
        self._states = [
            {n: openvino.Tensor(v.element_type, v.shape) for n, v in zip(self._names, states, strict=True)}
            for _ in range(2)
        ]
        self._lr = openvino.Tensor(named["lr"].element_type, named["lr"].shape)
        self._request.set_tensor("lr", self._lr)
        self._features = [openvino.Tensor(named[name].element_type, named[name].shape) for name in self.takes]
        for name, tensor in zip(self.takes, self._features, strict=True):
            self._request.set_tensor(name, tensor)
        self._current = 0
        self._fresh = True

    def _shape(self, model: onnx.ModelProto, value: Any) -> list[int]:
        """A static shape of an input, of which a dynamic file leaves height and width free."""
        if _own_name(model, value) == "lr":
            return [self.lanes, self.size.height, self.size.width, 3]
        return [self.lanes, value.partial_shape[1].get_length(), self.size.height, self.size.width]

    def _step(self, lr: NDArray[Any], *features: NDArray[Any]) -> NDArray[Any]:
        before, following = self._states[self._current], self._states[1 - self._current]
        batch = lr.reshape(self.lanes, *lr.shape[-3:])
        if self._fresh:
            for tensor in before.values():
                tensor.data.fill(0)
            if "prev_lr" in before:  # OpenVINO leaves out what nothing reads
                before["prev_lr"].data[...] = reset_planes(batch)
            self._fresh = False
        self._lr.data[...] = batch
        for tensor, array in zip(self._features, features, strict=True):
            tensor.data[...] = array  # where it is bfloat16, both sides show its bits as 16-bit floats
        for name in self._names:
            self._request.set_tensor(STATE_PREFIX + name, before[name])
            self._request.set_tensor(NEXT_PREFIX + name, following[name])
        self._request.infer()
        self._current = 1 - self._current
        found: NDArray[Any] = self._request.get_tensor(self.gives).data.copy()
        return found[0] if self.gives == "hr" and self.lanes == 1 else found

    def zero_state(self) -> SavedState:
        return {name: np.zeros(tensor.shape, np.float32) for name, tensor in self._states[0].items()}

    def reset(self) -> None:
        self._fresh = True

    @property
    def state(self) -> SavedState:
        """Copy of the recurrent state; what is bfloat16 becomes float32, which holds it exactly."""
        if self._fresh:
            return {}
        return {name: _values(tensor).astype(np.float32) for name, tensor in self._states[self._current].items()}

    @state.setter
    def state(self, saved: SavedState) -> None:
        self._check_open()
        fitting = fitting_state(saved, self.zero_state()) if saved else {}
        self._fresh = not saved
        for name, array in fitting.items():
            values = _values(self._states[self._current][name])
            values[...] = array.astype(values.dtype)

    def _close(self) -> None:
        self.reset()
        del self._request, self._compiled, self._states, self._lr, self._features


def _align_kernel(model: onnx.ModelProto) -> AlignKernel | None:
    """The native kernel for a file's alignments, which has float32 and bfloat16; None where none of them is for it."""
    kinds = aligns_in(model)
    if kinds != {TensorProto.FLOAT} and not (kinds == {TensorProto.FLOAT16} and has_bfloat16()):
        return None
    return align_kernel("openvino")


def _own_name(model: onnx.ModelProto, value: Any) -> str:
    """The name of an input in the file: it has that of an operator too which OpenVINO left out, as an empty padding."""
    name: str = next(graph_input.name for graph_input in model.graph.input if graph_input.name in value.names)
    return name


def _values(tensor: Any) -> NDArray[Any]:
    """View of a tensor's memory as what it holds: OpenVINO shows bfloat16 as NumPy's 16-bit floats."""
    data: NDArray[Any] = tensor.data
    return data.view(BFLOAT16) if tensor.element_type.get_type_name() == "bf16" else data


def with_bfloat16(model: onnx.ModelProto) -> bool:
    """Put, in memory, bfloat16 in the place of float16: in weights, casts, inputs, outputs and what lies between.

    Returns:
        Whether there was any float16.
    """
    graph = model.graph
    found = any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.initializer)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    for tensor in graph.initializer:
        _to_bfloat16(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _to_bfloat16(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.BFLOAT16
    return found


def _to_bfloat16(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT16:
        array = np.asarray(numpy_helper.to_array(tensor))
        tensor.CopyFrom(numpy_helper.from_array(array.astype(BFLOAT16), tensor.name))
