"""Frames: their size, their element types, and the arithmetic of their levels and borders."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.errors import BackendError, ConfigError

__all__ = [
    "IO_TYPES",
    "SCALE",
    "FrameSize",
    "FrameType",
    "as_array",
    "as_levels",
    "crop",
    "levels_of",
    "pad",
    "values_of",
]


SCALE = 4
"""Magnification of the network, in each direction."""


@dataclass(frozen=True, order=True)
class FrameSize:
    """Height and width of a frame in pixels, in that order; written ``180x320``."""

    height: int
    width: int

    MINIMUM = 16
    """Smallest height or width the network takes: ESA's strided convolution and 7x7 pooling need 15 rows."""

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ConfigError(f"a frame of {self.height}x{self.width} is empty; both sides must be at least 1 pixel")

    @classmethod
    def parse(cls, text: str) -> FrameSize:
        """Read ``HEIGHTxWIDTH``, for example ``180x320``. Raises ConfigError for anything else."""
        match = re.fullmatch(r"([0-9]+)x([0-9]+)", text.strip().lower())
        if match is None:
            raise ConfigError(f"'{text}' is not a frame size; write HEIGHTxWIDTH in pixels, for example 180x320")
        if max(len(side.lstrip("0")) for side in match.groups()) > 5:
            shown = text if len(text) < 40 else f"{text[:20]}..."
            raise ConfigError(f"a frame of {shown} is too large; a side is at most 99999 pixels")
        return cls(int(match[1]), int(match[2]))

    @property
    def upscaled(self) -> FrameSize:
        """The size after the network."""
        return FrameSize(self.height * SCALE, self.width * SCALE)

    @property
    def padded(self) -> FrameSize:
        """The size the network is run at: this one, or the network's minimum where a side is shorter."""
        return FrameSize(max(self.height, self.MINIMUM), max(self.width, self.MINIMUM))

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


FrameType = Literal["uint8", "float16", "float32"]
"""Element type of frames: ``uint8`` in 0..255, or a float in [0, 1] (the HR side may overshoot)."""
IO_TYPES: tuple[str, ...] = get_args(FrameType)


def pad(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the last row and column of an (H, W, 3) frame up to the network's minimum size."""
    size = FrameSize(*frame.shape[:2])
    if size == size.padded:
        return frame
    extra = ((0, size.padded.height - size.height), (0, size.padded.width - size.width), (0, 0))
    return np.pad(frame, extra, mode="edge")


def crop(frame: NDArray[np.uint8], size: FrameSize) -> NDArray[np.uint8]:
    """Cut an (H, W, 3) frame to the size, from the top left."""
    return frame[: size.height, : size.width]


def values_of(frame: NDArray[Any], io: FrameType) -> NDArray[Any]:
    """A frame of integer levels, uint8 or uint16, as a runner takes it."""
    most = np.iinfo(frame.dtype).max
    if io != "uint8":
        values: NDArray[Any] = (frame.astype(np.float32) / np.float32(most)).astype(io)
        return values
    if frame.dtype == np.uint8:
        return frame
    rounded: NDArray[Any] = ((frame.astype(np.uint32) * 255 + most // 2) // most).astype(np.uint8)
    return rounded


def levels_of(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Frame of a runner as integer levels; the network's overshoot beyond black and white is cut off."""
    if values.dtype == dtype:
        return values
    most = np.iinfo(dtype).max
    if values.dtype == np.uint8:
        widened: NDArray[Any] = np.multiply(values, most // 255, dtype=dtype)
        return widened
    levels: NDArray[Any] = np.rint(np.clip(values.astype(np.float32), 0, 1) * np.float32(most)).astype(dtype)
    return levels


def as_array(frame: Any) -> NDArray[Any]:
    """A frame in the main memory, whatever library holds it."""
    if hasattr(frame, "detach"):  # a tensor, which may be on a GPU
        frame = frame.detach().cpu().numpy()
    array: NDArray[Any] = np.asarray(frame)
    return array


def as_levels(frame: Any) -> NDArray[Any]:
    """A frame as an array of R'G'B' levels, (H, W, 3) of uint8 or uint16. Raises BackendError for anything else."""
    array = as_array(frame)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype not in (np.uint8, np.uint16):
        raise BackendError(
            f"a frame of shape {array.shape} and type {array.dtype} cannot be upscaled; give (H, W, 3) of uint8 or "
            "uint16"
        )
    return array
