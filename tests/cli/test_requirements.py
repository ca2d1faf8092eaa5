"""Requirements of packages, as doctor reads them."""

from __future__ import annotations

import importlib.metadata

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ksnet_deploy.cli.requirements import fits, requirements


@pytest.mark.parametrize("bounds", [">=2.13,<2.14", "<19,>=18", "==23.1.5", ">=12", ">1.9", "<=3.0.0", ">=18.0", ""])
def test_bounds_are_understood_as_pip_does(bounds: str) -> None:
    for version in (
        "2.13",
        "2.13.0+cpu",
        "2.14",
        "2.14.1",
        "18",
        "18.1.0",
        "19.0",
        "23.1.5",
        "12.0",
        "1.9",
        "3",
        "3.1",
    ):
        assert fits(version, bounds) == (Version(version) in SpecifierSet(bounds)), version


def test_a_bound_of_another_kind_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match=r"'~=1\.4' is no bound"):
        fits("1.5", "~=1.4")


def test_the_requirements_are_read_as_pip_does() -> None:
    expected = [Requirement(line) for line in importlib.metadata.requires("ksnet-deploy") or []]
    for mine, other in zip(requirements(), expected, strict=True):
        assert mine.package == other.name
        assert SpecifierSet(mine.bounds) == other.specifier
        extras = {"cpu", "gpu", "rtx", "tensorrt", "plots", "dev"}
        needs = {e for e in extras if other.marker is not None and other.marker.evaluate({"extra": e})}
        assert needs <= ({mine.extra} if mine.extra else set())
