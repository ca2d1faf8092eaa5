"""Kernels that reduce frames four times, as players, scalers and cameras do it; all of the phase of BI.

An LR pixel lies in the middle of the 4x4 HR pixels that it stands for, whatever the kernel: only so are LR versions of
one clip aligned with its HR frames and with each other. Each kernel is widened to LR pixels (antialiased), and its
weights add up to one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.frames import SCALE
from ksnet_deploy.measure.degradation import apply_matrices, bicubic_matrix, mirrored_matrix

__all__ = ["KERNELS", "KernelName", "reduce_frames", "reduction_matrix"]

KernelName: TypeAlias = Literal["bicubic", "bilinear", "area", "lanczos3", "gaussian"]
Profile: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _lanczos3(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(distance < 3, np.sinc(distance) * np.sinc(distance / 3), 0.0)


def _gaussian(sigma: float) -> tuple[float, Profile]:
    return 4 * sigma, lambda distance: np.exp(-(distance**2) / (2 * sigma**2))


_PROFILES: Mapping[str, tuple[float, Profile]] = {
    "bilinear": (1.0, lambda distance: np.maximum(1 - distance, 0.0)),
    "area": (0.5, lambda distance: np.where(distance < 0.5, 1.0, 0.0)),
    "lanczos3": (3.0, _lanczos3),
}
"""Radius in LR pixels, and weight by the distance in LR pixels."""
KERNELS: tuple[KernelName, ...] = ("bicubic", "bilinear", "area", "lanczos3", "gaussian")


def reduce_frames(hr: NDArray[np.uint8], kernel: KernelName, sigma_px: float = 0.0) -> NDArray[np.uint8]:
    """LR (..., H / 4, W / 4, 3) of HR frames (..., H, W, 3), rounded to 8 bits; H and W are multiples of 4.

    Args:
        sigma_px: of the Gaussian, in HR pixels; the other kernels do not look at it.
    """
    height, width = hr.shape[-3:-1]
    return apply_matrices(reduction_matrix(height, kernel, sigma_px), reduction_matrix(width, kernel, sigma_px), hr)


@lru_cache(maxsize=64)
def reduction_matrix(size: int, kernel: KernelName, sigma_px: float = 0.0) -> NDArray[np.float32]:
    """(size / 4, size) weights of one axis; edges mirrored."""
    if kernel == "bicubic":
        return bicubic_matrix(size, size // SCALE)
    radius, profile = _gaussian(sigma_px / SCALE) if kernel == "gaussian" else _PROFILES[kernel]
    centre = SCALE * np.arange(size // SCALE) + (SCALE - 1) / 2
    reach = int(np.ceil(SCALE * radius))
    index = np.floor(centre).astype(int)[:, None] + np.arange(-reach, reach + 2)
    weight = profile(np.abs(centre[:, None] - index) / SCALE)
    return mirrored_matrix(index, weight / weight.sum(axis=1, keepdims=True), size)
