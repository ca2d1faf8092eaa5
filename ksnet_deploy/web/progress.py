"""Progress of one work: written by the thread that does it, read by whoever looks at the page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

__all__ = ["Progress", "Stopped"]


class Stopped(BaseException):
    """The work was stopped. No Exception, so that nothing on the way takes it for a fault that it could mend."""


@dataclass(frozen=True)
class Standing:
    """Progress at one moment."""

    phase: str
    done: int
    total: int | None
    fps: float | None
    """Steps a second since the phase began; None as long as there is none."""
    left_s: float | None
    """Seconds until the end at that speed; None where the number of steps is not known."""


class Progress:
    """Receiver of what the library tells. Every call raises :class:`Stopped` once :meth:`stop` was called."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stop = threading.Event()
        self._phase = "beginning"
        self._total: int | None = None
        self._done = self._first = 0
        self._began_s = clock()
        self.notes: list[str] = []
        self.picture: tuple[int, NDArray[Any]] | None = None
        """The last finished frame, with its number from 1: (H, W, 3), uint8 or uint16."""

    def begin(self, phase: str, total: int | None, done: int = 0) -> None:
        """A phase of ``total`` steps begins, ``done`` of which were done before; None where that is not known."""
        self._phase, self._total, self._done, self._first, self._began_s = phase, total, done, done, self._clock()
        self._check()

    def advance(self) -> None:
        """A step is done."""
        self._done += 1
        self._check()

    def reach(self, phase: str, done: int, total: int) -> None:
        """So many steps of a phase are done."""
        if (phase, total) != (self._phase, self._total):
            self.begin(phase, total)
        self._done = done
        self._check()

    def say(self, note: str) -> None:
        """A sentence for people."""
        if note not in self.notes:
            self.notes.append(note)
        self._check()

    def show(self, picture: NDArray[Any]) -> None:
        """A frame is finished."""
        self.picture = (self._done + 1, picture)

    def stop(self) -> None:
        """End the work with its next step."""
        self._stop.set()

    @property
    def is_stopping(self) -> bool:
        return self._stop.is_set()

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def standing(self) -> Standing:
        """Progress at this moment."""
        done, total, steps = self._done, self._total, self._done - self._first
        passed_s = self._clock() - self._began_s
        fps = steps / passed_s if steps and passed_s > 0 else None
        left_s = max(total - done, 0) / fps if fps and total is not None else None
        return Standing(self._phase, done, total, fps, left_s)
