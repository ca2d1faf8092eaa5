"""A step in ONNX Runtime as CUDA graphs, and the settings of its CUDA device. Not yet run on a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ksnet_deploy.runtime.base import NEXT_PREFIX, STATE_PREFIX, SavedState, reset_planes
from ksnet_deploy.runtime.likeness import likeness

__all__ = ["Attempt", "RecordedOnnxStep", "attempts"]

NHWC, GRAPH = {"prefer_nhwc": "1"}, {"enable_cuda_graph": "1"}
_GRAPH_ID = "gpu_graph_id"
_FRAMES = 4


class Attempt(NamedTuple):
    """Provider options to open a session with, and what they leave out of the fastest, in words."""

    options: dict[str, str]
    without: tuple[str, ...]

    @property
    def records(self) -> bool:
        """Whether the step can be recorded."""
        return GRAPH.items() <= self.options.items()


def attempts(*, half: bool, graph: bool) -> Iterator[Attempt]:
    """The options to try on a CUDA device, fastest first; the last has none.

    Args:
        half: of a file in half precision, for whose convolutions tensor cores want the channels last. In float32,
            without TF32, there is nothing to win by it.
        graph: record the step.
    """
    layouts: list[tuple[dict[str, str], tuple[str, ...]]] = [(NHWC, ())] if half else []
    layouts.append(({}, ("channels last",) if half else ()))
    if graph:
        yield from (Attempt({**layout, **GRAPH}, without) for layout, without in layouts)
    plain = ("its recorded step",) if graph else ()
    yield from (Attempt(dict(layout), (*without, *plain)) for layout, without in layouts)


class RecordedOnnxStep:
    """A session's step with every tensor in one place on the device, so that ONNX Runtime replays it as a CUDA graph.

    The state lies in two sets of tensors that swap roles after every step, and there is a graph for each role.

    All runs are in one thread: ONNX Runtime records anew in each that runs a session, keeps what it makes for it until
    the session ends, and while it records forbids CUDA to all others. A cluster's chains have threads of their own.
    """

    def __init__(self, session: ort.InferenceSession, device: str, zeros: SavedState, gives: str) -> None:
        """Bind what the session takes and gives.

        Args:
            session: opened with :data:`GRAPH`, of a file for one size.
            device: ``cuda``.
            zeros: the state's tensors, (N, C, H, W).
            gives: name of the result.
        """
        self._session, self._zeros = session, zeros
        self._thread = ThreadPoolExecutor(1, "recorded step")  # which ends when nothing refers to it any more
        given = [value for value in session.get_inputs() if not value.name.startswith(STATE_PREFIX)]
        self._inputs = {value.name: self._placed(_empty(value), device) for value in given}
        self._states = [{name: self._placed(array, device) for name, array in zeros.items()} for _ in range(2)]
        result = next(value for value in session.get_outputs() if value.name == gives)
        self._result = self._placed(_empty(result), device)
        self._bindings = [self._bound(gives, *self._states), self._bound(gives, *self._states[::-1])]
        self._current = 0
        self._fresh = True

    @staticmethod
    def _placed(array: NDArray[Any], device: str) -> ort.OrtValue:
        return ort.OrtValue.ortvalue_from_numpy(array.copy(), device, 0)

    def _bound(
        self, gives: str, before: Mapping[str, ort.OrtValue], after: Mapping[str, ort.OrtValue]
    ) -> ort.IOBinding:
        binding = self._session.io_binding()
        for name, value in self._inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._zeros:
            binding.bind_ortvalue_input(STATE_PREFIX + name, before[name])
            binding.bind_ortvalue_output(NEXT_PREFIX + name, after[name])
        binding.bind_ortvalue_output(gives, self._result)
        return binding

    def __call__(self, given: Mapping[str, NDArray[Any]], *, recorded: bool = True) -> NDArray[Any]:
        """The step's result for the inputs but the state; ``recorded=False`` launches its kernels one by one."""
        if self._fresh:
            self.load(self._zeros | {"prev_lr": np.ascontiguousarray(reset_planes(given["lr"]))})
        for name, array in given.items():
            self._inputs[name].update_inplace(array)
        options = ort.RunOptions()
        options.add_run_config_entry(_GRAPH_ID, str(self._current + 1) if recorded else "-1")
        binding = self._bindings[self._current]
        self._thread.submit(self._session.run_with_iobinding, binding, options).result()
        binding.synchronize_outputs()
        self._current = 1 - self._current
        result: NDArray[Any] = self._result.numpy()
        return result.copy() if self._result.device_name() == "cpu" else result  # of the CPU it is the tensor's memory

    def least_psnr_db(self) -> float:
        """PSNR of the worst of some frames, recorded and replayed, against the plain step; the state is fresh again.

        A version that records one graph whatever it is asked for would show here: it replays it on the wrong state.
        """
        rng = np.random.default_rng(0)
        kinds = {name: (value.shape(), np.asarray(value.numpy()).dtype) for name, value in self._inputs.items()}
        steps = [{name: _noise(rng, shape, kind) for name, (shape, kind) in kinds.items()} for _ in range(_FRAMES)]
        found = []
        for recorded in (False, True):
            self.reset()
            self._current = 0
            found.append([self(given, recorded=recorded) for given in steps])
        self.reset()
        return min(likeness(*pair) for pair in zip(*found, strict=True))

    def load(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a state, (N, C, H, W) each."""
        for name in self._zeros:
            self._states[self._current][name].update_inplace(np.ascontiguousarray(state[name]))
        self._fresh = False

    def reset(self) -> None:
        """The next frame begins a scene."""
        self._fresh = True

    @property
    def state(self) -> SavedState:
        """The state that the next step reads; empty where a scene begins."""
        return {} if self._fresh else {name: v.numpy().copy() for name, v in self._states[self._current].items()}


def _empty(tensor: Any) -> NDArray[Any]:
    kinds = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}
    return np.zeros(tensor.shape, kinds[tensor.type])


def _noise(rng: np.random.Generator, shape: list[int], kind: np.dtype[Any]) -> NDArray[Any]:
    return rng.integers(0, 256, shape, np.uint8) if kind == np.uint8 else rng.random(shape).astype(kind)
