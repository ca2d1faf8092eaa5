"""Frames smaller than the network takes, and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.config import FrameSize

__all__ = ["crop", "pad"]


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
