"""Calibration: what the tensors of a network hold while it runs over a clip, frame after frame with its state."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import FrameSize, pad, values_of
from ksnet_deploy.base.words import counted
from ksnet_deploy.network.config import Precision
from ksnet_deploy.network.folding import fold
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.network.pixels import decode_frame
from ksnet_deploy.network.precision import in_whole_numbers

__all__ = ["FRAMES", "LEVELS", "Ranges", "Scale", "activation_ranges", "clip_frames", "clip_window"]

FRAMES = 8
"""Frames of the clip that are looked at, from its beginning."""
PART = FrameSize(144, 256)
"""Largest part of a frame that is looked at, its middle: what a tensor holds does not depend on the size."""
SAMPLES = 200_000
"""Values of a tensor that are kept of a window, evenly spread."""
LEVELS = 255
"""Steps of 8 bits."""
SHARES = np.linspace(0.3, 1.0, 36)
"""Shares of a tensor's range that are tried."""


@dataclass(frozen=True)
class Scale:
    """Eight-bit numbers for a tensor: ``value = step * (number - zero)``, numbers in 0..255."""

    step: float
    zero: int

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> Scale:
        """The scale with the least mean squared error of rounding and clipping together.

        The whole range of a tensor would spend most of the numbers on a few outliers.
        """
        low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
        scales = [cls._between(share * low, share * high) for share in SHARES]
        return min(scales, key=lambda scale: float(np.mean((scale.rounded(values) - values) ** 2)))

    @classmethod
    def _between(cls, low: float, high: float) -> Scale:
        step = max(high - low, 1e-6) / LEVELS
        return cls(step, round(-low / step))

    def rounded(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values as they come back from 8 bits."""
        numbers = np.clip(np.rint(values / np.float32(self.step)) + self.zero, 0, LEVELS)
        return np.asarray((numbers - self.zero) * self.step, np.float32)


Ranges = dict[str, tuple[Scale, Scale]]
"""Scales of the input and the output of convolutions, by their names in the network."""


def clip_window(clip: Path, frames: int = FRAMES) -> Tensor:
    """The first frames of a clip as a window (1, T, 3, H, W) in [0, 1], of the middle of each.

    Raises:
        InputError: the clip cannot be read, or has less than two frames.
    """
    return torch.cat([decode_frame(torch.from_numpy(frame)[None]) for frame in clip_frames(clip, frames)])[None]


def clip_frames(clip: Path, frames: int) -> list[NDArray[np.uint8]]:
    """The middle of each of the first frames of a clip, (H, W, 3) and at most :data:`PART`.

    Raises:
        InputError: the clip cannot be read, or has less than two frames.
    """
    from ksnet_deploy.video.reading.reader import VideoReader

    with VideoReader(clip) as reader:
        first = itertools.islice(reader.frames(eight_bits=True), frames)
        read = [_middle(values_of(frame.rgb, "uint8")) for frame in first]
    if len(read) < 2:
        raise InputError(
            f"{clip} has {counted(len(read), 'frame')}, and a recurrent network is calibrated on two or more; give a "
            "longer clip"
        )
    return read


def _middle(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = (min(side, most) for side, most in zip(frame.shape, (PART.height, PART.width), strict=False))
    top, left = (frame.shape[0] - height) // 2, (frame.shape[1] - width) // 2
    part: NDArray[np.uint8] = pad(np.ascontiguousarray(frame[top : top + height, left : left + width]))
    return part


def activation_ranges(network: KSNet, clip: Path, precision: Precision = "int8") -> Ranges:
    """Scales of what enters and leaves the convolutions in whole numbers, over the first frames of a clip. What a ReLU
    follows has a scale for the values after it, which begins at zero.

    Raises:
        InputError: as :func:`clip_window`.
    """
    window = clip_window(clip)
    network = fold(network)
    modules = in_whole_numbers(network, precision)
    rectified = _before_relu(network)
    seen: dict[str, tuple[list[Tensor], list[Tensor]]] = {name: ([], []) for name in modules}

    def recorder(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def record(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
            result = result.relu() if module in rectified else result
            for kept, tensor in zip(seen[name], (given[0], result), strict=True):
                flat = tensor.detach().flatten()
                kept.append(flat[:: max(flat.numel() * window.shape[1] // SAMPLES, 1)].clone())

        return record

    for name, module in modules.items():
        module.register_forward_hook(recorder(name))
    with torch.no_grad():
        network.forward_window(window)
    return {name: tuple(Scale.of(torch.cat(kept).numpy()) for kept in pair) for name, pair in seen.items()}  # type: ignore[misc]


def _before_relu(network: nn.Module) -> set[nn.Module]:
    """Modules whose result goes to a ReLU and nowhere else."""
    rows = [list(module.children()) for module in network.modules() if isinstance(module, nn.Sequential)]
    return {first for row in rows for first, second in itertools.pairwise(row) if isinstance(second, nn.ReLU)}
