"""The folded network in PyTorch: the reference on the CPU, a fast runtime on a CUDA device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray

from ksnet_deploy.base.errors import BackendError, ConfigError
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.network.channel_selection import SplitLevel
from ksnet_deploy.network.config import Precision
from ksnet_deploy.network.folding import fold as folded
from ksnet_deploy.network.model import FlowGuidedAlignment, KSNet, State
from ksnet_deploy.network.precision import with_precision
from ksnet_deploy.network.state_names import completed_state, read_part
from ksnet_deploy.runtime.base import Runner, SavedState, fitting_state

__all__ = ["RecordedStep", "TorchRunner", "advance_in_place", "decode_frame", "encode_frame", "use_native_kernels"]

Advance = Callable[[torch.Tensor, State], tuple[torch.Tensor, State]]
"""(frame, state) -> (HR frame, next state), frames as they are exchanged with the world."""


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
    launch of a CUDA graph. Not yet run on a GPU.
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
    ) -> None:
        """``precision`` is fp32 on the CPU and fp16 on CUDA unless given; ``fold=False`` runs the training form."""
        super().__init__(size, io)
        if model.config.direction != "uni":
            raise ConfigError("a bidirectional checkpoint cannot be run frame by frame; use a 'uni' checkpoint")
        if device == "cuda" and not torch.cuda.is_available():
            raise BackendError("PyTorch finds no CUDA device here; use --device cpu, or install a CUDA build of torch")
        self._device = torch.device(device)
        network = with_precision(
            folded(model) if fold else model, precision or ("fp16" if device == "cuda" else "fp32")
        )
        self._model = network.to(self._device)
        self._state: State | None = None
        self._recorded: RecordedStep | None = None
        if device == "cuda":
            self._model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            use_native_kernels(self._model)
            self._recorded = RecordedStep(self._advance, self._model.initial_state, size, self._dtype)

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.io)
        return dtype

    def _advance(self, frame: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        hr, following = self._model(decode_frame(frame), state)
        return encode_frame(hr, self._dtype), following

    @torch.inference_mode()
    def _step(self, lr: NDArray[Any]) -> NDArray[Any]:
        frame = torch.from_numpy(lr)[None]
        if self._recorded is not None:
            hr = self._recorded(frame, fresh=self._state is None)
            self._state = self._recorded.state
        else:
            state = self._state if self._state is not None else self._model.initial_state(decode_frame(frame))
            hr, self._state = self._advance(frame, state)
        array: NDArray[Any] = hr[0].cpu().numpy()
        return array

    def reset(self) -> None:
        self._state = None

    @property
    def state(self) -> SavedState:
        return {} if self._state is None else self._arrays(self._state)

    @state.setter
    def state(self, saved: SavedState) -> None:
        self._check_open()
        self._state = None
        if saved:
            fitting = fitting_state(saved, self._arrays(self._model.initial_state(self._black)))
            tensors = completed_state({name: torch.from_numpy(array.copy()) for name, array in fitting.items()})
            if self._recorded is not None:
                for held, tensor in zip(self._recorded.state, tensors, strict=True):
                    held.copy_(tensor)
            self._state = tensors if self._recorded is None else self._recorded.state

    def _arrays(self, state: State) -> SavedState:
        return {name: t.cpu().numpy().copy() for name, t in read_part(state, self._model.config).items()}

    @property
    def _black(self) -> torch.Tensor:
        return torch.zeros(1, 3, self.size.height, self.size.width, device=self._device)

    def _close(self) -> None:
        self.reset()
        del self._model, self._recorded


def advance_in_place(advance: Advance, frame: torch.Tensor, state: State) -> torch.Tensor:
    """A step that leaves its next state in the memory of the last one; returns the HR frame."""
    hr, following = advance(frame, state)
    # Copied twice: parts of the next state are parts of the last one, under another name.
    for held, new in zip(state, [tensor.clone() for tensor in following], strict=True):
        held.copy_(new)
    return hr


class RecordedStep:
    """A step as a CUDA graph, with its frame and state in memory of its own."""

    def __init__(
        self,
        advance: Advance,
        initial_state: Callable[[torch.Tensor], State],
        size: FrameSize,
        dtype: torch.dtype,
    ) -> None:
        self._initial_state = initial_state
        with torch.inference_mode():
            self._frame = torch.zeros(1, size.height, size.width, 3, dtype=dtype, device="cuda")
            self.state = State(*(tensor.clone() for tensor in initial_state(decode_frame(self._frame))))
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # cuDNN chooses its algorithms before the recording
                for _ in range(3):
                    advance(self._frame, self.state)
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._hr = advance_in_place(advance, self._frame, self.state)

    def __call__(self, frame: torch.Tensor, *, fresh: bool) -> torch.Tensor:
        self._frame.copy_(frame)
        if fresh:
            for held, new in zip(self.state, self._initial_state(decode_frame(self._frame)), strict=True):
                held.copy_(new)
        self._graph.replay()
        return self._hr


def use_native_kernels(network: KSNet) -> bool:
    """Put the native kernels in the place of the reference operators, where their library was built; tell whether."""
    from ksnet_deploy.ops.library import find_kernel_library

    if find_kernel_library() is None:
        return False
    from ksnet_deploy.ops import native

    for module in network.modules():
        if isinstance(module, FlowGuidedAlignment):
            module.deform_conv2d = native.deform_conv2d
        if isinstance(module, SplitLevel) and not module.ranked:
            module.topk_split = native.topk_split
    return True
