"""The command upscale on a network that costs nothing."""

from __future__ import annotations

from collections.abc import Callable

import command
import pytest
from runners import RepeatRunner

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `ksnet-deploy upscale ARGUMENTS`: exit code, standard output, standard error."""
    monkeypatch.setattr(
        "ksnet_deploy.upscale.networks.NetworkFile.open", lambda _network, size, io, *_, **__: RepeatRunner(size, io)
    )
    monkeypatch.setenv("COLUMNS", "500")

    def call(*arguments: object) -> tuple[int, str, str]:
        done = command.run("upscale", *arguments)
        return done.returncode, done.stdout, done.stderr

    return call
