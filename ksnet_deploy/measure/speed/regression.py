"""Two results against each other: what has become slower beyond what noise explains."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import hypot
from pathlib import Path
from statistics import median
from typing import Any

from ksnet_deploy.base.errors import ConfigError, InputError
from ksnet_deploy.base.words import counted
from ksnet_deploy.measure.speed.timing import spread

__all__ = ["LEAST_CHANGE", "Change", "changes", "check_comparable", "read_result", "sealed"]

LEAST_CHANGE = 0.05
"""Share by which a step must have changed to be told, however quiet the machine was."""
NOISES = 3.0
"""Factor by which a change must exceed the spread of both runs together."""

SEAL = "sha256"
"""Key of a result's hash, which covers all others."""


@dataclass(frozen=True)
class Change:
    """One way to run one network at one size, then and now."""

    what: str
    before_ms: float
    now_ms: float
    ratio: float
    """Time now over time before; on a CPU with the yardsticks of both runs taken out."""
    limit: float
    """Share by which it may differ from 1 without meaning anything."""

    @property
    def verdict(self) -> str:
        if self.ratio > 1 + self.limit:
            return "slower"
        return "faster" if self.ratio < 1 / (1 + self.limit) else "the same"

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "verdict": self.verdict}

    def as_text(self) -> str:
        return (
            f"{self.what}: {self.verdict}, {self.before_ms:.1f} -> {self.now_ms:.1f} ms a step, "
            f"{self.ratio - 1:+.0%} at the same speed of the machine; noise up to {self.limit:.0%}"
        )


def sealed(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result with a hash of what it says, by which a damaged one is known."""
    # Numbers as floats: programs that lay JSON out anew may write 1.0 as 1.
    values = json.loads(json.dumps(dict(result)), parse_int=float)
    return {**result, SEAL: hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()}


def read_result(path: Path) -> dict[str, Any]:
    """An older result. Raises InputError where it cannot be read, is none of ``bench --json``, or was changed since.

    Results of older versions carry no hash, and are taken as they are.
    """
    try:
        result = json.loads(path.read_text())
        seal = result.pop(SEAL, None)
        if seal is not None and seal != sealed(result)[SEAL]:
            raise InputError(f"{path} is not what 'bench --json' printed: it is damaged, or was changed; measure anew")
        _rows(result)
        _machine(result)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give what 'bench --json' printed") from error
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise InputError(f"{path} is no result of 'ksnet-deploy bench --json'; measure anew, and keep that") from error
    return result  # type: ignore[no-any-return]


def check_comparable(old: dict[str, Any], machine: str, cores: int, card: str | None) -> None:
    """Raise ConfigError, before anything is measured, where a result is of another machine."""
    (then, there), now = _machine(old), f"{machine}, {counted(cores, 'core')}"
    if then != now or there != card:
        raise ConfigError(
            f"the older result is of {then} with {there or 'no GPU'}, and this is {now} with {card or 'no GPU'}; "
            "compare results of one machine"
        )


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Changes of everything that both results have. Raises ConfigError where they have nothing in common."""
    before, now = _rows(old), _rows(new)
    found = []
    for key in (key for key in now if key in before):
        then_ms, then = before[key]
        now_ms, values = now[key]
        limit = max(LEAST_CHANGE, NOISES * hypot(spread(then), spread(values)))
        found.append(Change(" ".join(key), then_ms, now_ms, median(values) / median(then), limit))
    if not found:
        raise ConfigError("the older result has none of what was measured now; give the same --model and --size")
    return found


def _machine(result: dict[str, Any]) -> tuple[str, str | None]:
    """The processor of a result, and its card's name."""
    card = result["card"]
    return f"{result['machine']}, {counted(result['cores'], 'core')}", None if card is None else card["name"]


def _rows(result: dict[str, Any]) -> dict[tuple[str, str, str], tuple[float, list[float]]]:
    """Rows by model, size and way: the median in ms, and every round's, on a CPU in units of its yardstick."""
    rows = {}
    for group in result["groups"]:
        for row in group["rows"]:
            times = row["engine"]["rounds_ms"]
            units = group["yardstick_ms"][: len(times)] if row["device"] == "cpu" else [1.0] * len(times)
            scaled = [time / unit for time, unit in zip(times, units, strict=True)]
            rows[group["model"], group["size"], row["way"]] = (median(times), scaled)
    return rows
