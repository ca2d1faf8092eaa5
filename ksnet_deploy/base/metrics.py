"""Picture quality figures: the conventions are named in each docstring, because papers differ by them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PSNR_LIMIT", "SSIM_WINDOW", "capped_psnr", "luma", "psnr", "ssim"]

SSIM_WINDOW = 11
"""Side of SSIM's window, and the least height and width that it is defined for."""
PSNR_LIMIT = 100.0
"""PSNR in dB that a frame equal to the original, a black one for example, counts in a mean."""


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


def capped_psnr(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """:func:`psnr`, at most :data:`PSNR_LIMIT`, so that means of it are finite."""
    return min(psnr(found, expected), PSNR_LIMIT)


def ssim(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Mean structural similarity of two planes (H, W), values in [0, 255] (Wang et al., 2004).

    Gaussian window of 11 x 11 and sigma 1.5, only where it lies within the frame, K1 = 0.01, K2 = 0.03. This is the
    convention of MATLAB's original script and of BasicSR. ValueError where the window does not fit.
    """
    if min(found.shape) < SSIM_WINDOW:
        raise ValueError(f"ssim needs planes of {SSIM_WINDOW}x{SSIM_WINDOW} and more, found {found.shape}")
    x, y = found.astype(np.float64), expected.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return float(similarity.mean())


def _blur(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, W) -> (H - 10, W - 10): the 11 x 11 Gaussian, one axis after the other."""
    weights = np.exp(-(np.arange(-(SSIM_WINDOW // 2), SSIM_WINDOW // 2 + 1) ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    height, width = (side - SSIM_WINDOW + 1 for side in plane.shape)
    down = sum(weight * plane[tap : tap + height] for tap, weight in enumerate(weights))
    blurred: NDArray[np.float64] = sum(weight * down[:, tap : tap + width] for tap, weight in enumerate(weights))
    return blurred
