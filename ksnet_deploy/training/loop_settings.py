"""Settings of the training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ksnet_deploy.base.errors import ConfigError

__all__ = ["LoopSettings", "TrainingPrecision"]

TrainingPrecision = Literal["fp32", "bf16", "fp16"]
"""Precision of the convolutions in training; the weights are float32."""


@dataclass(frozen=True)
class LoopSettings:
    """Settings of a run; none changes the result but ``precision``, ``hours`` and, with hours, ``validate_every``."""

    folder: Path
    precision: TrainingPrecision = "fp32"
    save_every_s: float = 120.0
    validate_every: int = 500
    log_every: int = 20
    max_seconds: float | None = None
    """Stop (resumably) after so long; for leased machines."""
    hours: float | None = None
    """Make the run so long that its learning rate ends then; the task's own iterations are proportions only."""
    recorded: bool = False
    """Whether a CUDA device computes loss and gradients as one recorded graph."""
    clock: Callable[[], float] = time.monotonic
    """Clock in seconds."""

    def __post_init__(self) -> None:
        if self.hours is not None and not 0 < self.hours < math.inf:
            raise ConfigError(f"a run of {self.hours:g} hours cannot be planned; give --hours a finite number above 0")
