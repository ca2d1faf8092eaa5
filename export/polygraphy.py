"""NVIDIA's Polygraphy, which builds engines and compares runs: whether it is there, and keeping it quiet.

It picks full TensorRT or TensorRT-RTX by an environment variable that it reads when it is first imported, so a process
that builds is started with :func:`environment_of`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.runtime.tensorrt.target import Flavour

__all__ = ["check_polygraphy", "environment_of", "errors_of_polygraphy", "is_installed"]


def environment_of(flavour: Flavour) -> dict[str, str]:
    """Environment that Polygraphy must find, without what would make it install packages."""
    return {"POLYGRAPHY_USE_TENSORRT_RTX": "1" if flavour == "rtx" else "0", "POLYGRAPHY_AUTOINSTALL_DEPS": "0"}


def check_polygraphy() -> None:
    """Raise BackendError where Polygraphy is not installed."""
    if not is_installed():
        raise BackendError(
            "Polygraphy, which builds and compares engines, is not installed here; install ksnet-deploy with the extra "
            "'rtx', 'tensorrt' or 'nvidia', or polygraphy alone with pip"
        )


def is_installed() -> bool:
    try:
        import polygraphy  # noqa: F401
    except ImportError:
        return False
    return True


class _Errors(logging.Handler):
    """Keeps the messages for the sentence that a user gets."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(" ".join(record.getMessage().removeprefix("[E] ").removeprefix("[!] ").split()))


@contextlib.contextmanager
def errors_of_polygraphy() -> Iterator[list[str]]:
    """The errors that TensorRT and Polygraphy report meanwhile; both print nothing."""
    from polygraphy.logger import G_LOGGER

    errors, told = _Errors(), logging.getLogger("Polygraphy")
    before = (G_LOGGER.use_python_logging_system, G_LOGGER.colors, told.propagate)
    G_LOGGER.use_python_logging_system, G_LOGGER.colors, told.propagate = True, False, False
    told.addHandler(errors)
    try:
        with G_LOGGER.verbosity(G_LOGGER.ERROR):
            yield errors.messages
    finally:
        told.removeHandler(errors)
        G_LOGGER.use_python_logging_system, G_LOGGER.colors, told.propagate = before
