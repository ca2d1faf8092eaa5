"""A worker in a process of its own, so that its peak memory is its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from ksnet_deploy.base.closing import Closing
from ksnet_deploy.base.errors import BackendError, KSNetError
from ksnet_deploy.base.memory import is_out_of_memory
from ksnet_deploy.measure.speed.worker import Footage, Worker
from ksnet_deploy.runtime.base import Runner

__all__ = ["Child"]


class Child(Closing):
    """A :class:`Worker` in another process: the same methods, whose arguments and results go through a pipe."""

    def __init__(self, label: str, opener: Callable[[], Runner], footage: Footage) -> None:
        """Start the process and open the runner in it.

        Args:
            label: of the way, for messages.
            opener: importable by another process, as a ``functools.partial`` of a module's function is.

        Raises:
            KSNetError: the runner cannot be opened.
            BackendError: the process died.
        """
        self._label = label
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, label, opener, footage), daemon=True)
        self._process.start()
        other.close()
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def call(self, method: str, *arguments: Any) -> Any:
        """Result of a method of the worker. Raises KSNetError: its own, or because the process died."""
        with contextlib.suppress(OSError):  # of a dead process, which the answer tells
            self._pipe.send((method, arguments))
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise BackendError(
                f"measuring {self._label} died with exit code {self._process.exitcode}; if the memory ran out, choose "
                "a smaller --size"
            ) from None
        if isinstance(answer, KSNetError):
            raise answer
        return answer

    def close(self) -> None:
        self._process.terminate()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection, label: str, opener: Callable[[], Runner], footage: Footage) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends this process
    try:
        worker = Worker(opener, footage)
        pipe.send(None)
        while True:
            method, arguments = pipe.recv()
            pipe.send(getattr(worker, method)(*arguments))
    except (EOFError, ConnectionError):  # the parent has gone
        return
    except KSNetError as error:
        pipe.send(error)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        pipe.send(BackendError(f"measuring {label} ran out of memory; choose a smaller --size"))
