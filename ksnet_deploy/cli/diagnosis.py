"""The answer of ``doctor`` as values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Check", "Diagnosis", "State"]

State = Literal["ok", "untested", "missing", "not here"]
"""``ok``; ``untested``: works in a version not tested; ``missing``: can be mended; ``not here``: on other machines."""


@dataclass(frozen=True)
class Check:
    """One line of the diagnosis."""

    name: str
    """Name that stays the same between versions, for programs."""
    state: State
    found: str
    remedy: str | None = None
    needed: bool = False
    """Whether ``upscale`` cannot run without it."""


@dataclass(frozen=True)
class Diagnosis:
    """All checks, and the defaults of ``upscale``."""

    checks: list[Check]
    model: str
    video_model: str | None
    """Network that compressed video gets; None where no such network is bundled."""
    backend: str
    device: str

    @property
    def lacking(self) -> list[str]:
        """Names of the missing checks without which ``upscale`` cannot run."""
        return [check.name for check in self.checks if check.needed and check.state not in ("ok", "untested")]

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {"works": not self.lacking, "lacking": self.lacking, **asdict(self)}
