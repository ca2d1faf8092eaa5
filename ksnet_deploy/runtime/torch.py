"""The reference runtime: the folded network in plain PyTorch, on the CPU or a CUDA device."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from ksnet_deploy.config import FrameSize
from ksnet_deploy.errors import BackendError, ConfigError
from ksnet_deploy.folding import fold
from ksnet_deploy.model import KSNet, State
from ksnet_deploy.runtime.base import FrameType, Runner

__all__ = ["TorchRunner", "decode_frame", "encode_frame"]


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
    """Runs a network as PyTorch executes it, one operator after the other."""

    backend = "torch"

    def __init__(self, model: KSNet, size: FrameSize, *, device: str = "cpu", io: FrameType = "uint8") -> None:
        super().__init__(size, io)
        if model.config.direction != "uni":
            raise ConfigError("a bidirectional checkpoint cannot be run frame by frame; use a 'uni' checkpoint")
        if device == "cuda" and not torch.cuda.is_available():
            raise BackendError("PyTorch finds no CUDA device here; use --device cpu, or install a CUDA build of torch")
        self._device = torch.device(device)
        self._model = fold(model).to(self._device)
        self._state: State | None = None

    @torch.inference_mode()
    def _step(self, lr: NDArray[Any]) -> NDArray[Any]:
        planes = decode_frame(torch.from_numpy(lr)[None].to(self._device))
        state = self._state if self._state is not None else self._model.initial_state(planes)
        hr, self._state = self._model(planes, state)
        frame: NDArray[Any] = encode_frame(hr, getattr(torch, self.io))[0].cpu().numpy()
        return frame

    def reset(self) -> None:
        self._state = None

    def close(self) -> None:
        self.reset()
        del self._model
