"""Locks between processes, by files; a lock ends with its process, however that ends."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import lock_descriptor

from ksnet_deploy.base.errors import OutputError

__all__ = ["Lock", "being_written"]


class Lock:
    """A lock that this process holds on a place. A context manager."""

    def __init__(self, path: Path, taken: str) -> None:
        """Take the lock at once, or not at all. On a file system without locks, keeping apart is left to the user.

        Args:
            path: file of the lock, made where it does not exist.
            taken: the sentence for when another process holds it: what is at work where, and the remedy.

        Raises:
            OutputError: another process holds it, or its name is that of a link, which would make a file elsewhere.
            OSError: the file cannot be opened.
        """
        if path.is_symlink():
            raise OutputError(f"{path} is a link, where a lock is to be; remove it")
        self._path = path
        self._file = path.open("a+b")
        try:
            held = _locked(self._file.fileno())
            if held and os.name == "posix":  # whoever held it may have removed it since
                held = os.fstat(self._file.fileno()).st_ino == path.stat().st_ino
        except FileNotFoundError:
            held = False
        except OSError:
            self._file.close()
            raise
        if not held:
            self._file.close()
            raise OutputError(taken)

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


def being_written(place: Path) -> str:
    """Sentence for when another process holds the lock on a place that this one would write."""
    return f"another process is already writing {place}; wait for it, or stop it first"


def _locked(descriptor: int) -> bool:
    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP):
            return True
        raise
