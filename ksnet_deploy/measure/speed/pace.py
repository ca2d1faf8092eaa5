"""Duration of a benchmark, said before it begins, and keeping to it.

What a step will take is predicted from the network's multiply-adds and the machine's speed at the moment. What was
promised is kept by measuring for less time where the machine turns out slower.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from ksnet_deploy.measure.speed.timing import Clock

__all__ = ["LEAST_ROUNDS", "ROUNDS", "Costs", "Pace", "Phase", "predicted_step_s"]

ROUNDS, LEAST_ROUNDS = 5, 3
"""Rounds of every way, by turns; fewer where time runs out, never fewer than three, which a median needs."""
LEAST_SHARE = 0.2
"""Share of its time that a phase gets however late it is."""
MARGIN = 1.15
"""Ratio of what is promised to what is predicted."""

EFFICIENCY = {"torch": 0.22, "onnxruntime": 0.4, "openvino": 0.45}
"""Share of a matrix product's speed that a step reaches on a CPU, on the low side; OpenVINO's in bfloat16."""
GPU_STEP_S = 0.05


@dataclass(frozen=True)
class Costs:
    """Seconds on an idle core of what is not measured, by what was seen here, on the high side."""

    export_s: float = 11.0
    engine_s: float = 60.0
    open_s: float = 3.0
    end_to_end_s: float = 1.0
    peaks_s: float = 3.0


@dataclass(frozen=True)
class Phase:
    """A part of the work."""

    seconds: float
    elastic: bool = False
    """Whether it can be given less time."""


class Pace:
    """The phases to come, in order, and the moment when they were to end."""

    def __init__(self, phases: Iterable[Phase], *, clock: Clock = time.perf_counter) -> None:
        self._phases = deque(phases)
        self._clock = clock
        self.promised_s = MARGIN * sum(phase.seconds for phase in self._phases)
        self._end = clock() + self.promised_s

    def start(self) -> None:
        """The time counts from now."""
        self._end = self._clock() + self.promised_s

    @property
    def is_late(self) -> bool:
        """Whether what is left would not end in time, even given the least."""
        least = sum(phase.seconds * (LEAST_SHARE if phase.elastic else 1) for phase in self._phases)
        return self._clock() + least > self._end

    def next(self) -> float:
        """Begin the next phase; the seconds that it has."""
        fixed = sum(phase.seconds for phase in self._phases if not phase.elastic)
        elastic = sum(phase.seconds for phase in self._phases if phase.elastic)
        phase = self._phases.popleft()
        if not phase.elastic:
            return phase.seconds
        share = (self._end - self._clock() - fixed) / elastic
        return phase.seconds * min(max(share, LEAST_SHARE), 1.0)

    def skip(self, count: int) -> None:
        """Leave out the next phases."""
        for _ in range(count):
            self._phases.popleft()


def predicted_step_s(macs: int | None, backend: str, device: str, gflops: float) -> float:
    """Seconds of a step: of a network of so many multiply-adds on a CPU that multiplies matrices at such a rate."""
    if device == "cuda" or backend not in EFFICIENCY:
        return GPU_STEP_S
    return 2 * (macs or 0) / (gflops * 1e9) / EFFICIENCY[backend]
