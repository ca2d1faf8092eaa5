"""Pace of a run that is given hours: the iterations that fill them, by its speed over a minute near the beginning.

A run that is cut off while its learning rate is still high loses what the last, low rates bring. So the rate must
reach its end when the time does, and the number of iterations is fixed once the speed is known. Iterations that leave
the flow network as it is are faster, so the minute is one after them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ksnet_deploy.base.words import counted

__all__ = ["OPEN_ENDED", "Fit", "Pace"]

OPEN_ENDED = 10**9
"""Iterations of a run that does not know its speed yet: the rate is as at the start, and the first stage lasts."""
SKIPPED = 3
"""Iterations that are not measured: the first ones fill caches."""
MEASURED_S = 60.0
MEASURED_SHARE = 0.1
"""Share of a short run that is measured at most, and after which iterations are measured whatever they train."""


@dataclass(frozen=True)
class Fit:
    """The length of a run that was given hours, and what it follows from."""

    hours: float
    iterations: int
    """Iterations of the whole run."""
    iterations_per_s: float
    """Iterations a second in the first stage, without validations."""
    validation_s: float

    def __str__(self) -> str:
        return (
            f"{self.iterations_per_s:.3g} iterations a second, {self.validation_s:.3g} s a validation: "
            f"{counted(self.iterations, 'iteration takes', 'iterations take')} {self.hours:g} hours"
        )


class Pace:
    """Measures the speed of a run from its first iteration on."""

    def __init__(self, hours: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._hours, self._clock = hours, clock
        self._began = self._started = clock()
        self._done = 0

    def is_known(self, *, trains_all: bool = True) -> bool:
        """Count an iteration that is finished, and tell whether that was enough to know the speed.

        Args:
            trains_all: whether it trained all weights.
        """
        share_s = MEASURED_SHARE * 3600 * self._hours
        now = self._clock()
        self._done += trains_all or now - self._began >= share_s
        if self._done <= SKIPPED:
            self._started = now
            return False
        return now - self._started >= min(MEASURED_S, share_s)

    def leave_out(self, seconds: float) -> None:
        """Take seconds that have just passed, of a validation, for none of the iterations'."""
        self._started += seconds

    def fit(self, iteration: int, cost_ratio: float, validation_s: float, validate_every: int) -> Fit:
        """The length of the run, now that its speed is known and a validation has been timed.

        Args:
            iteration: how many iterations of the run are done, in this process and before.
            cost_ratio: time of an iteration, in the mean over the run, by the time of one of the first stage.
            validation_s: seconds of the validation that has just been carried out, after the last iteration.
            validate_every: iterations between validations.
        """
        now = self._clock()
        each_s = (now - validation_s - self._started) / (self._done - SKIPPED)
        left_s = 3600 * self._hours - (now - self._began) - validation_s  # another one at the end
        # As if all of it were still to come, at that speed.
        whole_s = left_s + each_s * iteration + validation_s * (iteration // validate_every)
        iterations = int(whole_s / max(each_s * cost_ratio + validation_s / validate_every, 1e-9))
        return Fit(self._hours, max(iterations, iteration + 1), 1 / max(each_s, 1e-9), validation_s)
