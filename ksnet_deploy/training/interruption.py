"""Interruptions of a training: signals, a second training in its folder, a lost loading process."""

from __future__ import annotations

import re
import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from ksnet_deploy.base.errors import OutputError

__all__ = ["HeldFolder", "Signals", "lost_worker"]

LOCK_FILE = ".lock"


class HeldFolder:
    """Holds a run's folder for one process, until the process ends, however it ends. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder / LOCK_FILE, timeout=0)

    def __enter__(self) -> Self:
        """Raises OutputError where another process holds the folder."""
        try:
            self._lock.acquire()
        except Timeout:
            raise OutputError(
                f"another training is at work in {self._folder}; wait for it, stop it first, or choose another folder"
            ) from None
        except OSError as error:
            raise OutputError(
                f"{self._folder} cannot be written to ({error.strerror or error}); make room or give another --output"
            ) from error
        except NotImplementedError:
            pass  # a file system without locks: two trainings in one folder are the user's to avoid
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


class Signals:
    """Notes SIGINT and SIGTERM, for the loop to save first; a second one is delivered at once. A context manager."""

    KINDS = (signal.SIGINT, signal.SIGTERM)

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
            self._handlers = {kind: signal.signal(kind, self._note) for kind in self.KINDS}
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


def lost_worker(error: RuntimeError) -> str | None:
    """Sentence on what became of a process that loads data, where PyTorch's error tells of one."""
    if "DataLoader worker" not in str(error):
        return None
    pids = re.search(r"\(pids?(?:\(s\))? ([\d, ]+)\)", str(error))
    which = f" (process {pids[1]})" if pids else ""
    return (
        f"a process that loads data was killed{which}, which happens when the memory or /dev/shm is used up; give "
        "fewer --workers"
    )
