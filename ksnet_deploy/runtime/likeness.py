"""Whether a recorded step is the plain one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.metrics import psnr

__all__ = ["RECORDED_PSNR_DB", "likeness"]

RECORDED_PSNR_DB = 60.0
"""Least PSNR of a recorded step against the plain one: neither TensorRT nor cuDNN promises the same rounding twice, and
both steps have the same error of 55 to 63 dB against float32."""


def likeness(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """PSNR in dB of two frames of any one type; of values that are not finite, minus infinity."""
    levels = [frame if frame.dtype == np.uint8 else frame.astype(np.float32) * 255 for frame in (found, expected)]
    return psnr(*levels) if np.isfinite(levels).all() else -np.inf
