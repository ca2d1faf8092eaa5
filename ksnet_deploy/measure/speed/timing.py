"""Times of a repeated work, in rounds that alternate with those of other works, and how far the rounds spread.

A disturbance of the machine lasts longer than a step, so the steps of one round share it, and only the spread between
rounds tells how much of a difference it could explain.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

__all__ = ["Latency", "repeat", "spread", "warm_up"]

Clock = Callable[[], float]
"""Seconds, never falling."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of the repetitions of a work, by rounds."""

    rounds_ms: tuple[tuple[float, ...], ...]

    @property
    def medians_ms(self) -> list[float]:
        """The median of each round."""
        return [median(times) for times in self.rounds_ms]

    @property
    def samples(self) -> int:
        return sum(map(len, self.rounds_ms))

    @property
    def p50_ms(self) -> float:
        """The median of the rounds' medians."""
        return median(self.medians_ms)

    @property
    def fps(self) -> float:
        return 1e3 / self.p50_ms

    @property
    def noise(self) -> float | None:
        """Spread of the rounds, as a share of the median; None of a single round, which has none."""
        return spread(self.medians_ms) if len(self.rounds_ms) > 1 else None

    def percentile_ms(self, percent: float) -> float:
        """Percentile of all samples together."""
        return float(np.percentile(list(itertools.chain(*self.rounds_ms)), percent))

    def as_dict(self) -> dict[str, object]:
        return {
            "samples": self.samples,
            "p50_ms": self.p50_ms,
            "p90_ms": self.percentile_ms(90),
            "p99_ms": self.percentile_ms(99),
            "fps": self.fps,
            "noise": self.noise,
            "rounds_ms": self.medians_ms,
        }


def spread(values: Sequence[float]) -> float:
    """Standard deviation of a few values as a share of their median, without belief in their distribution.

    The larger of two estimates that a single outlier does not touch: 1.4826 times the median absolute deviation, which
    may be near zero by chance; and the range without the least and the largest, which of five values is as large as the
    deviation. Of fewer than five values it is the range.
    """
    middle, ordered = median(values), sorted(values)
    deviation = 1.4826 * median(abs(value - middle) for value in values)
    inner = ordered[1:-1] if len(ordered) >= 5 else ordered
    return max(deviation, inner[-1] - inner[0]) / middle


def warm_up(work: Callable[[], object], seconds: float, *, clock: Clock = time.perf_counter) -> float:
    """Do a work for so long, and at least once: caches fill, clocks rise, libraries choose their algorithms.

    Returns the milliseconds of the last one.
    """
    until = clock() + seconds
    while True:
        before = clock()
        work()
        if (now := clock()) >= until:
            return (now - before) * 1e3


def repeat(
    timed: Callable[[], float], seconds: float, *, least: int = 1, clock: Clock = time.perf_counter
) -> list[float]:
    """Milliseconds that a work says that it took, again and again for so long, and at least so many times."""
    until = clock() + seconds
    times: list[float] = []
    while len(times) < least or clock() < until:
        times.append(timed())
    return times
