"""Locks between processes, by files; a lock ends with its process, however that ends."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import lock_descriptor

from ksnet_deploy.base.errors import OutputError

__all__ = ["Lock"]


class Lock:
    """A lock that this process holds on a place. A context manager."""

    def __init__(self, path: Path, place: Path) -> None:
        """Take the lock at once, or not at all.

        Args:
            path: file of the lock, made where it does not exist.
            place: what is locked, for the message.

        Raises:
            OutputError: another process holds it.
            OSError: the file cannot be opened.
        """
        self._path = path
        self._file = path.open("a+b")
        try:
            held = lock_descriptor(self._file.fileno(), blocking=False)
            if held and os.name == "posix":  # whoever held it may have removed it since
                held = os.fstat(self._file.fileno()).st_ino == path.stat().st_ino
        except FileNotFoundError:
            held = False
        if not held:
            self._file.close()
            raise OutputError(f"another process is already writing {place}; wait for it, or stop it first")

    def release(self) -> None:
        """Let others have the lock; its file stays."""
        self._file.close()

    def remove(self) -> None:
        """Remove the lock's file, and let others have the lock."""
        if os.name != "posix":  # Windows removes no file that is open
            self.release()
        self._path.unlink(missing_ok=True)
        self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()
