"""Stand-ins for what is measured: a clock that only work moves, runners whose steps take what they are told, and
children that are no processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from runners import RepeatRunner

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.speed.worker import Footage, Worker

__all__ = ["ClockedRunner", "StandInChild", "Time", "noisy"]


class Time:
    """A clock in seconds that stands still unless something takes time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class ClockedRunner(RepeatRunner):
    """Takes the next of some times for each step."""

    def __init__(self, size: FrameSize, time: Time, step_s: Iterator[float]) -> None:
        super().__init__(size)
        self._time, self._step_s = time, step_s

    def timed_step(self, lr: NDArray[Any]) -> float:
        before = self._time.now
        self.step(lr)
        return (self._time.now - before) * 1e3

    def _step(self, lr: NDArray[Any]) -> NDArray[Any]:
        self._time.now += next(self._step_s)
        return super()._step(lr)


class StandInChild:
    """A worker in this process, whose runner is one of the given instead of what the opener would open."""

    def __init__(
        self, runner: ClockedRunner | None, footage: Footage, time: Time, on_call: Callable[[str], None]
    ) -> None:
        self._on_call = on_call
        if runner is None:
            raise BackendError("this way is broken")
        self._worker = Worker(lambda: runner, footage, clock=time)

    def call(self, method: str, *arguments: Any) -> Any:
        self._on_call(method)
        if method == "end_to_end":  # a real video, whose encoder knows no stand-in clock
            return 5.0
        return getattr(self._worker, method)(*arguments)

    def close(self) -> None:
        self._worker.close()


def noisy(step_s: float, rng: np.random.Generator, machine: Callable[[], float]) -> Iterator[float]:
    """Times of a step on a machine whose speed wanders: a few percent from step to step, now and then three times."""
    while True:
        outlier = 3.0 if rng.random() < 0.03 else 1.0
        yield step_s * machine() * outlier * float(np.exp(rng.normal(0, 0.04)))
