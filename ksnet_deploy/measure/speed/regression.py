"""Two results against each other: what has become slower beyond what noise explains."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import hypot
from pathlib import Path
from statistics import median
from typing import Any

from ksnet_deploy.base.errors import ConfigError, InputError
from ksnet_deploy.base.words import counted
from ksnet_deploy.measure.speed.surroundings import differences, instruction_sets_of
from ksnet_deploy.measure.speed.timing import spread

__all__ = [
    "LEAST_CHANGE",
    "Change",
    "Gone",
    "changes",
    "check_common",
    "check_comparable",
    "gone",
    "read_result",
    "sealed",
]

LEAST_CHANGE = 0.05
"""Share by which a step must have changed to be told, however quiet the machine was."""
NOISES = 3.0
"""Factor by which a change must exceed the spread of both runs together."""
LEAST_MS, MOST_MS = 1e-6, 1e9
"""Times that a step, or the yardstick beside it, can take."""

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
    device: str
    """``cpu`` or ``cuda``; only for the first is there a yardstick."""

    @property
    def verdict(self) -> str:
        if self.ratio > 1 + self.limit:
            return "slower"
        return "faster" if self.ratio < 1 / (1 + self.limit) else "the same"

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "verdict": self.verdict}

    def as_text(self) -> str:
        at = "at the same speed of the machine" if self.device == "cpu" else "as it was, without a yardstick"
        return (
            f"{self.what}: {self.verdict}, {self.before_ms:.1f} -> {self.now_ms:.1f} ms a step, "
            f"{self.ratio - 1:+.0%} {at}; noise up to {self.limit:.0%}"
        )


@dataclass(frozen=True)
class Gone:
    """One way to run one network at one size, that the older result has and the newer one lacks."""

    what: str
    why: str
    verdict: str = "gone"

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self)}

    def as_text(self) -> str:
        return f"{self.what}: gone, the older result has it; {self.why}"


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
        differences(result, result)
        instruction_sets_of(result)
    except _ImpossibleError as error:
        raise InputError(f"{path} has {error}; measure anew, and keep what 'bench --json' prints") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give what 'bench --json' printed") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} is no result of 'ksnet-deploy bench --json'; measure anew, and keep that") from error
    return result  # type: ignore[no-any-return]


def check_comparable(
    old: dict[str, Any], machine: str, cores: int, card: str | None, instruction_sets: list[str] | None
) -> None:
    """Raise ConfigError, before anything is measured, where a result is of another machine, as far as it tells."""
    (then, there), now = _machine(old), f"{machine}, {counted(cores, 'core')}"
    if then != now or there != card:
        raise ConfigError(
            f"the older result is of {then} with {there or 'no GPU'}, and this is {now} with {card or 'no GPU'}; "
            "compare results of one machine"
        )
    had = instruction_sets_of(old)
    if None not in (had, instruction_sets) and set(had or ()) != set(instruction_sets or ()):
        raise ConfigError(
            f"the older result is of a {machine} with {', '.join(had or ()) or 'no AVX'}, and this one has "
            f"{', '.join(instruction_sets or ()) or 'no AVX'}; compare results of one machine"
        )


def check_common(old: dict[str, Any], planned: Collection[tuple[str, str, str]]) -> None:
    """Raise ConfigError, before anything is measured, where a result has nothing of it.

    Args:
        planned: model, size and way of each row to come.
    """
    if _rows(old).keys().isdisjoint(planned):
        had = ", ".join(dict.fromkeys(f"{model} at {size}" for model, size, _ in _rows(old))) or "nothing"
        raise ConfigError(
            f"the older result has none of what would be measured now, but {had}; give the same --model and --size"
        )


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Changes of everything that both results have."""
    before, now = _rows(old), _rows(new)
    found = []
    for key in (key for key in now if key in before):
        then_ms, then, _ = before[key]
        now_ms, values, device = now[key]
        limit = max(LEAST_CHANGE, NOISES * hypot(spread(then), spread(values)))
        found.append(Change(" ".join(key), then_ms, now_ms, median(values) / median(then), limit, device))
    return found


def gone(old: dict[str, Any], new: dict[str, Any]) -> list[Gone]:
    """Rows of an older result that a newer one of the same networks and sizes lacks."""
    missing = {(group["model"], group["size"]): group["missing"] for group in new["groups"]}
    now, found = _rows(new), []
    for group in old["groups"]:
        for row in group["rows"]:
            model, size, way = key = group["model"], group["size"], row["way"]
            if (model, size) in missing and key not in now:
                why = missing[model, size].get(str(row.get("label")), "it was not asked for now; see --precision")
                found.append(Gone(f"{model} {size} {way}", why))
    return found


def _machine(result: dict[str, Any]) -> tuple[str, str | None]:
    """The processor of a result, and its card's name."""
    card = result["card"]
    return f"{result['machine']}, {counted(result['cores'], 'core')}", None if card is None else card["name"]


def _rows(result: dict[str, Any]) -> dict[tuple[str, str, str], tuple[float, list[float], str]]:
    """Rows by model, size and way: the median in ms, every round's, on a CPU in units of its yardstick, and the device.

    Raises:
        _ImpossibleError: a time is no step's, or there is none beside it.
        ValueError, KeyError, TypeError, OverflowError: it is no result.
    """
    rows = {}
    for group in result["groups"]:
        for row in group["rows"]:
            times, units = row["engine"]["rounds_ms"], None
            if row["device"] == "cpu":
                # results of older versions have those of the last way for all
                units = row["yardstick_ms"] if "yardstick_ms" in row else group["yardstick_ms"][: len(times)]
            key = group["model"], group["size"], row["way"]
            if not all(isinstance(part, str) for part in key):
                raise TypeError("a name is no text")
            for value in (*times, *(units or ())):
                if not LEAST_MS <= value <= MOST_MS:  # nor NaN
                    raise _ImpossibleError(f"a time of {value:g} ms for {' '.join(key)}, which no step takes")
            if units is not None and len(units) != len(times):
                raise _ImpossibleError(f"{len(units)} yardsticks beside the {len(times)} rounds of {' '.join(key)}")
            scaled = times if units is None else [time / unit for time, unit in zip(times, units, strict=True)]
            rows[key] = (median(times), scaled, row["device"])
    return rows


class _ImpossibleError(ValueError):
    """A result has something that none can have; the words say what."""
