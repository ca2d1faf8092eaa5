"""Requirements of the installed package, and whether a version fits."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import operator
import re
from typing import NamedTuple

__all__ = ["fits"]

_NAME = "ksnet-deploy"


class Requirement(NamedTuple):
    """A line of the package's metadata."""

    package: str
    bounds: str
    extra: str | None


def requirements() -> list[Requirement]:
    """Requirements in the metadata of the installed package."""
    found = []
    for line in importlib.metadata.requires(_NAME) or []:
        wanted, _, marker = line.partition(";")
        extra = re.search(r"extra\s*==\s*[\"']([\w-]+)", marker)
        if match := re.match(r"([\w.-]+)\s*(?:\[[^]]*\])?\s*(.*)", wanted.strip()):
            bounds = ",".join(sorted(match[2].split(","), reverse=True))  # the least version first
            found.append(Requirement(match[1], bounds, extra[1] if extra else None))
    return found


_COMPARISONS = {">=": operator.ge, "<=": operator.le, "==": operator.eq, "<": operator.lt, ">": operator.gt}


def fits(version: str, bounds: str) -> bool:
    """Whether a version such as ``2.13.0+cpu`` is within bounds such as ``>=2.13,<2.14``; only its numbers count."""
    for bound in filter(None, bounds.replace(" ", "").split(",")):
        match = re.fullmatch(r"([<>=]+)([\d.]+)", bound)
        if match is None or match[1] not in _COMPARISONS:
            raise ValueError(f"'{bound}' is no bound of a version that is understood here")
        have, limit = zip(*itertools.zip_longest(_numbers(version), _numbers(match[2]), fillvalue=0), strict=True)
        if not _COMPARISONS[match[1]](have, limit):
            return False
    return True


def _numbers(version: str) -> list[int]:
    match = re.match(r"\d+(\.\d+)*", version)
    return [int(part) for part in match[0].split(".")] if match else []
