"""Interruptions of a training: signals, a lost loading process."""

from __future__ import annotations

import re
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

from ksnet_deploy.base.machine import ending_signals

__all__ = ["BROKEN", "Signals", "lost_worker"]

SIGNAL_S = 1.0
"""Seconds in which the system tells that a process has ended."""


class Signals:
    """Notes the signals that ask a process to end, for the loop to save first; a second one is delivered at once. A
    context manager."""

    def __init__(self) -> None:
        self._noted: int | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    @property
    def came(self) -> bool:
        return self._noted is not None

    def deliver(self) -> None:
        """Let the handlers that were there before have the signal, if one came."""
        self._restore()
        if self._noted is not None:
            signal.raise_signal(self._noted)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only there handlers can be set
            self._handlers = {kind: signal.signal(kind, self._note) for kind in ending_signals()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        if self._noted is not None:
            self.deliver()
        self._noted = signum

    def _restore(self) -> None:
        for kind, handler in self._handlers.items():
            signal.signal(kind, handler)
        self._handlers = {}


BROKEN = (OSError, EOFError)
"""Errors of reading from a process that has just been killed, met before the signal: the connection was reset, refused
or has ended, or its socket is gone."""


def lost_worker(error: RuntimeError | OSError | EOFError) -> str | None:
    """Sentence on what became of a process that loads data, where PyTorch's error tells of one.

    The only connections of a training are those to such processes.
    """
    broken = isinstance(error, BROKEN) or "ancdata" in str(error)  # a message came without the memory that it is about
    lost = isinstance(error, ConnectionError)
    if broken:  # met before the signal that PyTorch tells of it, with its number
        try:
            time.sleep(SIGNAL_S)
        except RuntimeError as told:
            error = told
    if not lost and "DataLoader worker" not in str(error):
        return None
    pids = re.search(r"\(pids?(?:\(s\))? ([\d, ]+)\)", str(error))
    which = f" (process {pids[1]})" if pids else ""
    return (
        f"a process that loads data was killed{which}, which happens when the memory or /dev/shm is used up; give "
        "fewer --workers"
    )
