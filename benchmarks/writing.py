"""Results of benchmarks as files."""

from __future__ import annotations

import json
from pathlib import Path

from ksnet_deploy.base.files import replacing

__all__ = ["write_json"]


def write_json(path: Path, report: object) -> None:
    """Write a result whole: an older one stays until the new one is there."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")
