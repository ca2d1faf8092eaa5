"""What tests of doctor share."""

from __future__ import annotations

import pytest

from ksnet_deploy.cli import checks as doctor
from ksnet_deploy.cli.checks import Check

Patch = pytest.MonkeyPatch


def look(name: str) -> list[Check]:
    """The lines of one of the looks, by its name."""
    return next(doctor._safely(name, see, needed=needed) for known, needed, see in doctor._LOOKS if known == name)


def only(name: str) -> Check:
    (check,) = look(name)
    assert check.name == name
    return check
