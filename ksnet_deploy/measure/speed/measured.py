"""One way while it is measured, and the others that go on where it fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ksnet_deploy.base.errors import KSNetError
from ksnet_deploy.measure.speed.ways import Way

__all__ = ["Measured", "noting"]


@dataclass
class Measured:
    """Measurements of a way so far."""

    way: Way
    artifact: Path
    child: Any
    step_ms: float = 0.0
    rounds: list[tuple[float, ...]] = field(default_factory=list)
    yardsticks: list[float] = field(default_factory=list)
    pipeline: list[float] = field(default_factory=list)
    fps: float = 0.0
    peak_mb: float = 0.0
    device_peak_mb: float | None = None
    psnr_db: float | None = None
    kernel: str | None = None
    layers: dict[str, float] = field(default_factory=dict)


class noting:  # noqa: N801  # used like a function of contextlib
    """Lets the other ways go on where one fails; why it did stands in the report."""

    def __init__(
        self, way: Way, missing: dict[str, str], found: list[Measured] | None = None, measured: Measured | None = None
    ) -> None:
        self._way, self._missing, self._found, self._measured = way, missing, found, measured

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, KSNetError):
            return False
        self._missing[self._way.label] = str(error)
        if self._found is not None and self._measured in self._found:
            self._found.remove(self._measured)
        return True
