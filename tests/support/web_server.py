"""A server of the page in a process of its own, with networks that take as long as they are told.

``python web_server.py STEP_S ARGUMENTS``: ``ksnet-deploy web ARGUMENTS`` so. Whatever it asks of another machine fails,
and is told on standard error.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["WebServer", "serving"]

SEGMENT = 24
"""Frames of a segment: short, so that some are finished soon."""


class WebServer:
    """A server that was started, and its address."""

    def __init__(self, folder: Path, step_s: float, *arguments: str) -> None:
        self.folder = folder
        command = [sys.executable, __file__, str(step_s), "--folder", str(folder), "--port", "0", *arguments]
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        self.said: list[str] = []
        self.address = self.process.stdout.readline().strip()
        # Read on, or a server that says much would wait for a reader.
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        if not self.address:
            self._end()
            raise AssertionError("".join(self.said))

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)

    def kill(self) -> None:
        """End it as a loss of power does."""
        self.process.kill()
        self._end()

    def stop(self) -> int:
        """End it as Ctrl-C does; its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self._end()

    def _end(self) -> int:
        code = self.process.wait(30)
        self._listener.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code


@contextlib.contextmanager
def serving(folder: Path, step_s: float = 0.0, *arguments: str) -> Iterator[WebServer]:
    """A server for as long as it is needed."""
    server = WebServer(folder, step_s, *arguments)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()


def _stay_here() -> None:
    """Let no connection leave this machine, nor a name be looked up elsewhere."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def is_here(host: object) -> bool:
        return str(host) in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "None", "", socket.gethostname())

    def connecting(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and not is_here(address[0]):
            print(f"asked for {address}", file=sys.stderr, flush=True)
            raise OSError("not from here")
        connect(self, address)

    def looking_up(host: Any, *others: Any, **settings: Any) -> Any:
        if not is_here(host):
            print(f"asked for {host}", file=sys.stderr, flush=True)
            raise OSError("not from here")
        return look_up(host, *others, **settings)

    socket.socket.connect = connecting  # type: ignore[method-assign]
    socket.getaddrinfo = looking_up


def main(step_s: float, arguments: list[str]) -> None:
    from runners import FadingRunner

    import ksnet_deploy.upscale.networks
    import ksnet_deploy.upscale.plan
    from ksnet_deploy.cli.app import main as command

    def opened(_network: object, size: Any, io: Any, *_: object, **__: object) -> FadingRunner:
        return FadingRunner(size, io)

    _stay_here()
    FadingRunner.delay_s = step_s
    ksnet_deploy.upscale.networks.NetworkFile.open = opened  # type: ignore[method-assign]
    ksnet_deploy.upscale.plan.LONGEST_SEGMENT = SEGMENT
    sys.argv = ["ksnet-deploy", "web", *arguments]
    command()


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
