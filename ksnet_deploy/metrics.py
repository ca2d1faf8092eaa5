"""Picture quality figures: the conventions are named in each docstring, because papers differ by them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PSNR_LIMIT", "luma", "psnr", "ssim"]

PSNR_LIMIT = 100.0
"""In dB; what a frame that equals the original, a black one for example, counts in a mean."""


def luma(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Y of BT.601 in limited range, [16, 235], not rounded: MATLAB's ``rgb2ycbcr``. (..., H, W, 3) -> (..., H, W)."""
    weights = np.array((65.481, 128.553, 24.966), dtype=np.float32) / 255
    return np.asarray(rgb.astype(np.float32) @ weights + np.float32(16), dtype=np.float32)


def psnr(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB over all values of two arrays of one shape, peak 255; infinite when equal."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise ValueError(
            f"psnr compares two arrays of one shape and type, found {found.shape} {found.dtype} and "
            f"{expected.shape} {expected.dtype}"
        )
    error = np.mean((found.astype(np.float64) - expected.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255.0**2 / error))


def ssim(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Mean structural similarity of two planes (H, W), values in [0, 255] (Wang et al., 2004).

    Gaussian window of 11 x 11 and sigma 1.5, only where it lies within the frame, K1 = 0.01, K2 = 0.03. This is the
    convention of MATLAB's original script and of BasicSR.
    """
    height, width = found.shape
    rows, columns = _gaussian_window(height), _gaussian_window(width)

    def blur(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(rows @ plane @ columns.T)

    x, y = found.astype(np.float64), expected.astype(np.float64)
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return float(similarity.mean())


@lru_cache(maxsize=16)
def _gaussian_window(size: int) -> NDArray[np.float64]:
    """(size - 10, size): one axis of the 11-tap Gaussian, as a banded matrix."""
    weight = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    matrix = np.zeros((size - 10, size))
    for tap, value in enumerate(weight / weight.sum()):
        matrix[np.arange(size - 10), np.arange(size - 10) + tap] = value
    return matrix
