"""Picture quality figures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["psnr"]


def psnr(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB over all values of two uint8 arrays of one shape; infinite when equal."""
    if found.shape != expected.shape or found.dtype != np.uint8 or expected.dtype != np.uint8:
        raise ValueError(
            f"psnr compares two uint8 arrays of one shape, found {found.shape} {found.dtype} and "
            f"{expected.shape} {expected.dtype}"
        )
    error = np.mean((found.astype(np.float64) - expected.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255.0**2 / error))
