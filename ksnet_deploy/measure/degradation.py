"""Degradation of HR frames to LR by the field's two conventions, and bicubic enlargement as their yardstick.

- BI: bicubic with antialiasing, as MATLAB's ``imresize(hr, 1/4)``.
- BD: Gaussian blur of sigma 1.6, then every fourth pixel, from the first on (as DUF and TecoGAN; BasicVSR's script
  samples 1.5 HR pixels further down and right).

Both are linear and separable, so each is a pair of matrices, one per axis. Frames are uint8 (..., H, W, 3).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.frames import SCALE

__all__ = [
    "MARGIN",
    "ClipDegradation",
    "Degradation",
    "apply_matrices",
    "bicubic_matrix",
    "degrade",
    "enlarge_bicubic",
    "gaussian_matrix",
    "mirrored_matrix",
]

Degradation = Literal["BI", "BD"]
ClipDegradation = Literal["BI", "BD", "video"]
"""Degradation of whole clips; ``video`` is not made of single frames: :mod:`ksnet_deploy.measure.variants` does it."""
MARGIN = 2
"""LR pixels around a crop that its degradation depends on."""
GAUSSIAN_SIGMA = 1.6
GAUSSIAN_RADIUS = 6
"""A 13 x 13 kernel, the size that the field's BD scripts use."""


def degrade(hr: NDArray[np.uint8], kind: Degradation) -> NDArray[np.uint8]:
    """LR of HR frames, rounded to 8 bits as the benchmarks' LR files are.

    Args:
        hr: (..., H, W, 3), H and W divisible by 4.

    Returns:
        (..., H / 4, W / 4, 3).

    Raises:
        ValueError: H or W is not divisible by 4.
    """
    height, width = hr.shape[-3:-1]
    if height % SCALE or width % SCALE:
        raise ValueError(f"frames of {height}x{width} (height x width) cannot be divided by {SCALE}")
    matrix: Callable[[int], NDArray[np.float32]] = _bicubic_down if kind == "BI" else gaussian_matrix
    return apply_matrices(matrix(height), matrix(width), hr)


def enlarge_bicubic(lr: NDArray[np.uint8], factor: int = SCALE) -> NDArray[np.uint8]:
    """Frames (..., H, W, 3) at ``factor`` times the size, as MATLAB's ``imresize(lr, factor)``."""
    height, width = lr.shape[-3:-1]
    return apply_matrices(bicubic_matrix(height, factor * height), bicubic_matrix(width, factor * width), lr)


def apply_matrices(
    rows: NDArray[np.float32], columns: NDArray[np.float32], frames: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Each channel X of each frame -> rows X columns^T, rounded and clipped to 8 bits."""
    result = np.empty((*frames.shape[:-3], rows.shape[0], columns.shape[0], frames.shape[-1]), np.uint8)
    # Plane by plane: a product with three columns only, those of the channels, is many times slower.
    for *frame, channel in np.ndindex(*frames.shape[:-3], frames.shape[-1]):
        plane: NDArray[np.float32] = rows @ frames[(*frame, ..., channel)].astype(np.float32) @ columns.T
        result[(*frame, ..., channel)] = np.clip(np.rint(plane), 0, 255)
    return result


@lru_cache(maxsize=64)
def bicubic_matrix(size: int, new_size: int) -> NDArray[np.float32]:
    """(new_size, size) weights of one axis: Keys' kernel with a = -0.5, widened where it shrinks, edges mirrored."""
    scale = new_size / size
    stretch = max(1 / scale, 1.0)
    centre = (np.arange(new_size) + 0.5) / scale - 0.5
    taps = int(np.ceil(4 * stretch)) + 2
    first = np.floor(centre - 2 * stretch).astype(int)
    index = first[:, None] + np.arange(taps)
    distance = np.abs(centre[:, None] - index) / stretch
    weight = np.where(
        distance <= 1,
        1.5 * distance**3 - 2.5 * distance**2 + 1,
        np.where(distance < 2, -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2, 0.0),
    )
    return mirrored_matrix(index, weight / weight.sum(axis=1, keepdims=True), size)


def _bicubic_down(size: int) -> NDArray[np.float32]:
    return bicubic_matrix(size, size // SCALE)


@lru_cache(maxsize=64)
def gaussian_matrix(size: int) -> NDArray[np.float32]:
    """(size / 4, size) weights of one axis of BD; edges mirrored."""
    offset = np.arange(-GAUSSIAN_RADIUS, GAUSSIAN_RADIUS + 1)
    weight = np.exp(-(offset**2) / (2 * GAUSSIAN_SIGMA**2))
    index = np.arange(0, size, SCALE)[:, None] + offset
    return mirrored_matrix(index, np.broadcast_to(weight / weight.sum(), index.shape), size)


def mirrored_matrix(index: NDArray[np.int_], weight: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """Dense matrix of taps; what lies outside is mirrored at the edge, the edge pixel included."""
    index = index % (2 * size)
    index = np.where(index < size, index, 2 * size - 1 - index)
    matrix = np.zeros((len(index), size))
    np.add.at(matrix, (np.arange(len(index))[:, None], index), weight)
    return matrix.astype(np.float32)
