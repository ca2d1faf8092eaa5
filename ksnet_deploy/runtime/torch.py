"""The folded network in PyTorch: the reference on the CPU, a fast runtime on a CUDA device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from numpy.typing import NDArray

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.network.config import Precision, StepName
from ksnet_deploy.network.elements import check_elements
from ksnet_deploy.network.folding import fold as folded
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.network.precision import with_precision
from ksnet_deploy.network.steps import AnyState, Step
from ksnet_deploy.runtime.base import Runner, SavedState, fitting_state
from ksnet_deploy.runtime.torch_kernels import accelerated

__all__ = [
    "RecordedStep",
    "TorchRunner",
    "advance_into",
    "cuda_device",
    "decode_frame",
    "encode_frame",
    "exact_and_tuned",
]

Advance = Callable[..., tuple[torch.Tensor, Any]]
"""(frame, state, *features) -> (result, next state), frames as they are exchanged with the world."""


def decode_frame(frame: torch.Tensor) -> torch.Tensor:
    """(N, H, W, 3) of any frame type -> (N, 3, H, W) float32 in [0, 1]."""
    # Cast before transposing: TensorRT lets uint8 touch nothing but a cast.
    planes = frame.to(torch.float32).permute(0, 3, 1, 2)
    return planes / 255.0 if frame.dtype == torch.uint8 else planes


def encode_frame(planes: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(N, 3, H, W) -> (N, H, W, 3) of a frame type; uint8 is clamped to 0..255 and rounded, floats are as they are."""
    if dtype == torch.uint8:
        planes = (planes.clamp(0.0, 1.0) * 255.0).round()
    return planes.permute(0, 2, 3, 1).to(dtype)


class TorchRunner(Runner):
    """Runs a network as PyTorch executes it: the reference on the CPU, a fast runtime on a CUDA device.

    On CUDA it computes in half precision, with the native kernels where their library is found, and a step is one
    launch of a CUDA graph.
    """

    backend = "torch"

    def __init__(
        self,
        model: KSNet,
        size: FrameSize,
        *,
        device: str = "cpu",
        io: FrameType = "uint8",
        precision: Precision | None = None,
        fold: bool = True,
        recorded: bool = True,
        step: StepName = "step",
        lanes: int = 1,
    ) -> None:
        """``precision`` is fp32 on the CPU and fp16 on CUDA unless given; ``fold=False`` runs the training form;
        ``recorded=False`` launches a step's kernels one by one on CUDA; ``step`` is one of the network's; ``lanes``
        scenes go side by side."""
        super().__init__(size, io)
        self.lanes = lanes
        on_cuda = device == "cuda"
        if on_cuda:
            check_elements(model.config, size, lanes)
        self._place = cuda_device() if on_cuda else torch.device("cpu")
        network = with_precision(folded(model) if fold else model, precision or ("fp16" if on_cuda else "fp32"))
        self._model = network.to(self._place)
        self._part = Step(self._model, step)
        self.takes, self.gives = self._part.takes, self._part.gives
        self._state: AnyState | None = None
        self._recorded: RecordedStep | None = None
        if on_cuda:
            self._model = accelerated(self._model)
        if on_cuda and recorded:
            self._recorded = RecordedStep(self._advance, self._model, size, self._dtype, step, lanes)

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.io)
        return dtype

    def _advance(self, frame: torch.Tensor, state: AnyState, *features: torch.Tensor) -> tuple[torch.Tensor, AnyState]:
        result, following = self._part(decode_frame(frame), *features, state=state)
        return encode_frame(result, self._dtype) if self.gives == "hr" else result, following

    def timed_step(self, lr: NDArray[Any], *features: NDArray[Any]) -> float:
        if self._place.type != "cuda":
            return super().timed_step(lr, *features)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        self.step(lr, *features)
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))

    @torch.inference_mode()
    def _step(self, lr: NDArray[Any], *features: NDArray[Any]) -> NDArray[Any]:
        frame = torch.from_numpy(lr).reshape(self.lanes, *lr.shape[-3:])
        given = [torch.from_numpy(array).to(self._model.dtype) for array in features]
        if self._recorded is not None:
            result = self._recorded(frame, *given, fresh=self._state is None)
            self._state = self._recorded.state
            array: NDArray[Any] = result.numpy().copy()  # the next step writes where this one did
        else:
            frame, *given = (tensor.to(self._place) for tensor in (frame, *given))
            state = self._state if self._state is not None else self._part.initial_state(decode_frame(frame))
            result, self._state = self._advance(frame, state, *given)
            array = result.cpu().numpy()
        return array[0] if self.gives == "hr" and self.lanes == 1 else array

    def reset(self) -> None:
        self._state = None

    @property
    def state(self) -> SavedState:
        return {} if self._state is None else self._arrays(self._state)

    @state.setter
    @torch.inference_mode()  # in which the recorded step's memory was made, and in which alone it may be written
    def state(self, saved: SavedState) -> None:
        self._check_open()
        self._state = None
        if saved:
            fitting = fitting_state(saved, self.zero_state())
            self._take({name: torch.from_numpy(array.copy()) for name, array in fitting.items()})

    def _take(self, tensors: dict[str, torch.Tensor]) -> None:
        """Go on from the tensors that the network reads."""
        state = self._part.completed(tensors)
        if self._recorded is not None:
            self._recorded.state = state
        self._state = state if self._recorded is None else self._recorded.state

    @torch.inference_mode()
    def zero_state(self) -> SavedState:
        return self._arrays(self._part.initial_state(self._black))

    def read_lane(self, lane: int) -> SavedState:
        return {} if self._state is None else self._arrays(self._state, slice(lane, lane + 1))

    @torch.inference_mode()
    def write_lane(self, lane: int, saved: SavedState) -> None:  # what the other lanes have stays on the device
        self._check_open()
        state = self._state if self._state is not None else self._part.initial_state(self._black)
        tensors = {name: tensor.clone() for name, tensor in self._part.read_part(state).items()}
        for name, tensor in tensors.items():
            tensor[lane] = torch.from_numpy(saved[name][0].copy()) if name in saved else 0
        self._take(tensors)

    def _arrays(self, state: AnyState, lanes: slice = slice(None)) -> SavedState:
        return {name: t[lanes].cpu().numpy().copy() for name, t in self._part.read_part(state).items()}

    @property
    def _black(self) -> torch.Tensor:
        place = next(self._model.parameters()).device
        return torch.zeros(self.lanes, 3, self.size.height, self.size.width, device=place)

    def _close(self) -> None:
        self.reset()
        del self._model, self._part, self._recorded


def cuda_device() -> torch.device:
    """The CUDA device. Raises BackendError where PyTorch finds none."""
    if not torch.cuda.is_available():
        raise BackendError("PyTorch finds no CUDA device here; use --device cpu, or install a CUDA build of torch")
    return torch.device("cuda")


def exact_and_tuned() -> AbstractContextManager[None]:
    """Convolutions in the algorithm that was measured to be fastest, and float32 ones in float32.

    Unless told otherwise, PyTorch takes TF32 for those, which has the ten bits of half precision.
    """
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=True, allow_tf32=False
    )
    return flags


def advance_into(
    advance: Advance,
    frame: torch.Tensor,
    state: AnyState,
    following: AnyState,
    names: Sequence[str],
    features: Sequence[torch.Tensor] = (),
) -> torch.Tensor:
    """A step from one state into the memory of another, as far as the named parts go; returns its result."""
    result, new = advance(frame, state, *features)
    for name in names:
        getattr(following, name).copy_(getattr(new, name))
    return result


class RecordedStep:
    """A step as CUDA graphs: frame in, network, frame out; with features in or out in the steps of bi.

    The state lies in two sets of tensors that swap roles after every step, and there is a graph for each role. Frames
    pass through page-locked memory, from and to which the graph copies by itself.
    """

    def __init__(
        self,
        advance: Advance,
        network: KSNet,
        size: FrameSize,
        dtype: torch.dtype,
        step: StepName = "step",
        lanes: int = 1,
    ) -> None:
        """``advance`` computes that step of the network on so many frames of that type, on the network's device."""
        self._part = Step(network, step)
        place = next(network.parameters()).device
        on_cuda = place.type == "cuda"
        with torch.inference_mode(), exact_and_tuned():
            self._lr = torch.zeros(lanes, size.height, size.width, 3, dtype=dtype, pin_memory=on_cuda)
            self._frame = self._lr.to(place)
            shape, kind = (lanes, network.config.channels, size.height, size.width), network.dtype
            self._given = [torch.zeros(shape, dtype=kind, pin_memory=on_cuda) for _ in self._part.takes]
            self._features = [host.to(place) for host in self._given]
            if self._part.gives == "hr":
                shape, kind = (lanes, size.upscaled.height, size.upscaled.width, 3), dtype
            self._result = torch.zeros(shape, dtype=kind, pin_memory=on_cuda)
            self._states = [self._memory(), self._memory()]
            self._current = 0
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # cuDNN chooses its algorithms before the recording
                for _ in range(3):
                    advance(self._frame, self.state, *self._features)
            torch.cuda.current_stream().wait_stream(stream)
            self._graphs = [self._record(advance, *self._states), self._record(advance, *self._states[::-1])]

    def _memory(self) -> AnyState:
        """Memory for a state in the layout that the network computes in; what it never reads has none of its own."""
        initial = self._part.initial_state(decode_frame(self._frame))
        own = {name: getattr(initial, name).clone(memory_format=torch.channels_last) for name in self._part.names}
        memory: AnyState = initial._replace(**own)
        return memory

    def _record(self, advance: Advance, state: AnyState, following: AnyState) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for device, host in zip((self._frame, *self._features), (self._lr, *self._given), strict=True):
                device.copy_(host, non_blocking=True)
            result = advance_into(advance, self._frame, state, following, self._part.names, self._features)
            self._result.copy_(result, non_blocking=True)
        return graph

    @property
    def state(self) -> AnyState:
        """The state before the next step, in the memory that the graphs use."""
        return self._states[self._current]

    @state.setter
    def state(self, state: AnyState) -> None:
        for name in self._part.names:
            getattr(self.state, name).copy_(getattr(state, name))

    def __call__(self, frame: torch.Tensor, *features: torch.Tensor, fresh: bool) -> torch.Tensor:
        """The step's result in page-locked memory, which the next call overwrites."""
        self._lr.copy_(frame)
        for host, given in zip(self._given, features, strict=True):
            host.copy_(given)
        if fresh:
            self.state = self._part.initial_state(decode_frame(self._lr.to(self._frame.device)))
        self._graphs[self._current].replay()
        self._current = 1 - self._current
        torch.cuda.current_stream().synchronize()
        return self._result
