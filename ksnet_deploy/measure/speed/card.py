"""The GPU as its driver describes it: name, driver, clocks, temperature. Not yet run on a GPU."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict, dataclass
from typing import Any

from ksnet_deploy.base.errors import BackendError
from ksnet_deploy.runtime.gpu import find_gpu

__all__ = ["Card", "find_card"]

FIELDS = ("name", "driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "temperature.gpu", "power.draw")
HOT_C = 83
"""Degrees Celsius at which consumer cards begin to lower their clocks."""
LOW_CLOCK = 0.9
"""Share of the highest clock below which a busy card is held back by something."""


@dataclass(frozen=True)
class Card:
    """A GPU as nvidia-smi describes it; None for what it does not tell, or where there is no nvidia-smi."""

    name: str
    driver: str | None
    clock_mhz: float | None
    most_mhz: float | None
    memory_mhz: float | None
    temperature_c: float | None
    power_w: float | None

    @classmethod
    def parse(cls, line: str) -> Card:
        """Read a line of ``nvidia-smi --query-gpu=... --format=csv,noheader,nounits``."""
        name, driver, *figures = (part.strip() for part in line.split(","))
        return cls(name, driver, *(_number(figure) for figure in figures))

    @property
    def thermal_note(self) -> str | None:
        """A sentence where the card is, or seems, too hot for its full speed."""
        if self.temperature_c is not None and self.temperature_c >= HOT_C:
            return f"the GPU is at {self.temperature_c:.0f} degrees, where cards lower their clocks"
        if self.clock_mhz and self.most_mhz and self.clock_mhz < LOW_CLOCK * self.most_mhz:
            return f"the GPU runs at {self.clock_mhz:.0f} of {self.most_mhz:.0f} MHz"
        return None

    def idle(self) -> Card:
        """The card without what says nothing of a work that it does not do: clocks, temperature and power."""
        return Card(self.name, self.driver, None, self.most_mhz, None, None, None)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "thermal_note": self.thermal_note}

    def as_text(self) -> str:
        parts = [self.name, *([f"driver {self.driver}"] if self.driver else [])]
        parts += [f"{self.clock_mhz:.0f} MHz"] if self.clock_mhz is not None else []
        parts += [f"{self.temperature_c:.0f} degrees"] if self.temperature_c is not None else []
        return ", ".join(parts)


def find_card() -> Card | None:
    """The first GPU, as it is now: of nvidia-smi, else of the driver, which tells its name alone; None without one."""
    return _of_nvidia_smi() or _of_driver()


def _of_nvidia_smi() -> Card | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines or lines[0].count(",") != len(FIELDS) - 1:
        return None
    return Card.parse(lines[0])


def _of_driver() -> Card | None:
    try:
        return Card(find_gpu().name, *[None] * 6)
    except BackendError:
        return None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # "[N/A]"
        return None
