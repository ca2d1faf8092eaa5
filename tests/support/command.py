"""The command line, run in the process of the tests: a process of its own takes a second to start."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from functools import cache
from pathlib import Path
from unittest import mock

import typer.main

from ksnet_deploy.cli import app as cli

built = cache(typer.main.get_command)
"""The commands with their options, which take a tenth of a second to build."""


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What `ksnet-deploy ARGUMENTS` would end with."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["ksnet-deploy", *map(str, arguments)]),
        mock.patch.object(cli.signal, "signal"),  # the tests keep their own
        mock.patch.object(typer.main, "get_command", built),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.chdir(cwd or "."),
    ):
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return subprocess.CompletedProcess(list(map(str, arguments)), code, out.getvalue(), err.getvalue())


def failure_of(result: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The one sentence of a failure."""
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]
