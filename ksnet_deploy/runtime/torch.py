"""The folded network in PyTorch: the reference on the CPU, a fast runtime on a CUDA device."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.network.config import Precision, StepName
from ksnet_deploy.network.elements import check_elements
from ksnet_deploy.network.folding import fold as folded
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.network.pixels import decode_frame, encode_frame
from ksnet_deploy.network.precision import with_precision
from ksnet_deploy.network.steps import AnyState, Step
from ksnet_deploy.runtime.base import Runner, SavedState, fitting_state
from ksnet_deploy.runtime.torch_kernels import accelerated
from ksnet_deploy.runtime.torch_recorded import RecordedStep

__all__ = [
    "TorchRunner",
    "cuda_device",
]


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
        """``precision`` (default: fp16 for a folded network on CUDA, else fp32); ``fold=False`` runs the training form,
        whose kernels are sums in float32; ``recorded=False`` launches a step's kernels one by one on CUDA; ``step`` is
        one of the network's; ``lanes`` scenes go side by side."""
        super().__init__(size, io)
        self.lanes = lanes
        on_cuda = device == "cuda"
        if on_cuda:
            check_elements(model.config, size, lanes)
        self._place = cuda_device() if on_cuda else torch.device("cpu")
        precision = precision or ("fp16" if on_cuda and fold else "fp32")
        self._model = with_precision(folded(model) if fold else model, precision).to(self._place)
        self._part = Step(self._model, step)
        self.takes, self.gives = self._part.takes, self._part.gives
        self._state: AnyState | None = None
        self._recorded: RecordedStep | None = None
        if on_cuda:
            self._model = accelerated(self._model, folded=fold, frames=self._dtype)
        if on_cuda and recorded:
            self._recorded = RecordedStep(self._advance, self._model, size, self._dtype, step, lanes)
            self.most_in_flight = RecordedStep.MOST_IN_FLIGHT

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
    def _submit(self, lr: NDArray[Any], *features: NDArray[Any]) -> None:
        if self._recorded is None:
            super()._submit(lr, *features)
            return
        self._recorded.submit(*self._tensors(lr, features), fresh=self._state is None)
        self._state = self._recorded.state

    def _collect(self) -> NDArray[Any]:
        if self._recorded is None:
            return super()._collect()
        return self._array(self._recorded.collect().numpy().copy())  # a later step writes where this one did

    @torch.inference_mode()
    def _step(self, lr: NDArray[Any], *features: NDArray[Any]) -> NDArray[Any]:
        frame, *given = (tensor.to(self._place) for tensor in self._tensors(lr, features))
        state = self._state if self._state is not None else self._part.initial_state(decode_frame(frame))
        result, self._state = self._advance(frame, state, *given)
        return self._array(result.cpu().numpy())

    def _tensors(self, lr: NDArray[Any], features: tuple[NDArray[Any], ...]) -> list[torch.Tensor]:
        """A frame and features as the step takes them, on the host."""
        frame = torch.from_numpy(lr).reshape(self.lanes, *lr.shape[-3:])
        return [frame, *(torch.from_numpy(array).to(self._model.dtype) for array in features)]

    def _array(self, result: NDArray[Any]) -> NDArray[Any]:
        """A result without the axis of lanes, where there is one."""
        return result[0] if self.gives == "hr" and self.lanes == 1 else result

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
        state = self._part.completed({name: tensor.to(self._place) for name, tensor in tensors.items()})
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
        if self._recorded is not None:
            self._recorded.wait()
        del self._model, self._part, self._recorded


def cuda_device() -> torch.device:
    """The CUDA device. Raises BackendError where PyTorch finds none."""
    if not torch.cuda.is_available():
        raise BackendError("PyTorch finds no CUDA device here; use --device cpu, or install a CUDA build of torch")
    return torch.device("cuda")
