"""Results of benchmarks as files."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ksnet_deploy.base.files import replacing
from ksnet_deploy.base.machine import cores, cpu_name
from ksnet_deploy.measure.speed.surroundings import find_surroundings

__all__ = ["machine_in_words", "write_json"]


def machine_in_words() -> str:
    """``AMD EPYC, 2 cores, avx2``: this machine's processor; those of one name differ in their instruction sets."""
    return ", ".join([cpu_name(), f"{cores()} cores", *(find_surroundings().instruction_sets or ())])


def write_json(path: Path, report: Mapping[str, object] | list[Any]) -> None:
    """Write a result whole, an object with the command and the machine that made it: an older one stays until the new
    one is there."""
    if isinstance(report, Mapping):
        command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
        made = {"command": command, "machine": machine_in_words()}
        report = made | {name: value for name, value in report.items() if name not in made}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")
