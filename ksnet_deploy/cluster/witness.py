"""A small process that says why the command has ended where Ray ended it: at once, and without a word.

Ray ends the process whose raylet does not answer in the middle of a call, before anything here could notice. The
witness outlives it, sees that it went without a farewell and that the raylet is gone, and says so in its place.
"""

from __future__ import annotations

import atexit
import contextlib
import subprocess
import sys

__all__ = ["Witness"]

FAREWELL = "farewell"
PROGRAM = f"""
import socket, sys
raylet, sentence = sys.argv[1:]
if sys.stdin.read() != {FAREWELL!r}:
    try:
        socket.socket(socket.AF_UNIX).connect(raylet)
    except (ConnectionRefusedError, FileNotFoundError):
        print(sentence, file=sys.stderr)
"""


class Witness:
    """Prints a sentence on the standard error after this process was ended because its raylet is gone."""

    def __init__(self, raylet: str, sentence: str) -> None:
        """Begin to watch.

        Args:
            raylet: path of the raylet's socket.
            sentence: what is printed.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", PROGRAM, raylet, sentence],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is not for it
        )
        atexit.register(self.dismiss)  # after Ray's own, so that it runs before it

    def dismiss(self) -> None:
        """End it in silence: what there is to say is said here. Doing so again does nothing."""
        with contextlib.suppress(OSError, ValueError):
            self._process.communicate(FAREWELL)
        atexit.unregister(self.dismiss)
