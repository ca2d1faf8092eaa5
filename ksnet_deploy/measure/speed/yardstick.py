"""Speed of this machine at the moment: a fixed piece of work, done beside every round.

Other programs and the processor's clock change a machine's speed from one run to the next. A step that takes longer
while the yardstick does too has not become slower.
"""

from __future__ import annotations

import time
from functools import cache
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["busyness", "gflops_now", "yardstick_ms"]

SIDE = 768
COPIED = 1 << 24
REPETITIONS = 7


@cache
def _arrays() -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(0)
    matrix = rng.random((SIDE, SIDE), np.float32)
    block = np.zeros(COPIED, np.uint8)
    return matrix, block, np.empty_like(block)


def _times() -> list[tuple[float, float]]:
    """Seconds of a matrix product and of a copy, repeatedly."""
    matrix, source, target = _arrays()
    times = []
    for _ in range(REPETITIONS):
        first = time.perf_counter()
        matrix @ matrix
        second = time.perf_counter()
        np.copyto(target, source)
        times.append((second - first, time.perf_counter() - second))
    return times


def yardstick_ms() -> float:
    """Milliseconds of a float32 matrix product and a copy of 16 MB, the median of seven."""
    return median(sum(pair) for pair in _times()) * 1e3


def gflops_now() -> float:
    """1e9 float32 operations per second of a matrix product on all cores, as they are at the moment."""
    return 2 * SIDE**3 / median(product for product, _ in _times()) / 1e9


def busyness() -> float:
    """Factor by which work takes longer now than it would on an idle core: 1 where nothing else runs."""
    wall, own = time.perf_counter(), time.process_time()
    while time.process_time() - own < 0.1:
        pass
    return max((time.perf_counter() - wall) / (time.process_time() - own), 1.0)
