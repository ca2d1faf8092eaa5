"""The command line. A command parses, calls one library function, and prints.

Heavy imports (PyTorch, ONNX Runtime, PyAV) stand inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from typing import Annotated

import typer

from ksnet_deploy.base.errors import KSNetError
from ksnet_deploy.base.version import __version__
from ksnet_deploy.cli.compare import compare
from ksnet_deploy.cli.convert import convert
from ksnet_deploy.cli.doctor import doctor
from ksnet_deploy.cli.engines import build_engine, build_plugins, cache
from ksnet_deploy.cli.export import export
from ksnet_deploy.cli.measure import bench, info
from ksnet_deploy.cli.terminal import complain, make_streams_last
from ksnet_deploy.cli.training import evaluate, pack, train, train_flow
from ksnet_deploy.cli.upscale import upscale

EXIT_FAILED = 1

app = typer.Typer(
    help="Deploy KSNet, a real-time x4 video super-resolution network.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"ksnet-deploy {__version__}")
        raise typer.Exit


for _command in (
    *(upscale, export, convert, bench, info, build_engine, build_plugins, cache, compare, doctor),
    *(evaluate, train, train_flow, pack),
):
    app.command()(_command)


def _stop(signum: int, _frame: object) -> None:
    """Leave by an exception, so that unfinished files are removed on the way out."""
    if multiprocessing.parent_process() is None:  # a loading process leaves quietly with its parent
        complain("stopped before the end; nothing unfinished has its final name")
    raise SystemExit(128 + signum)


def main() -> None:
    """Entry point: run a command; turn what went wrong into one sentence and an exit code."""
    make_streams_last()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _stop)
    try:
        app()
    except KSNetError as error:
        complain(str(error))
        sys.exit(EXIT_FAILED)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # PyTorch's, which is not imported here
            raise
        complain("the GPU has too little memory; give smaller frames, or train with a smaller batch or patch (--stage)")
        sys.exit(EXIT_FAILED)
    except MemoryError:
        complain("the memory is used up; close other programs, give smaller frames, or upscale in smaller --tiles")
        sys.exit(EXIT_FAILED)
    except OSError as error:  # the rarer ones: names too long, folders that may not be entered
        complain(f"{error.filename or 'a file'} cannot be used ({error.strerror or error}); check its path and access")
        sys.exit(EXIT_FAILED)
