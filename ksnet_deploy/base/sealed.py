"""JSON files that carry a hash of what they say, so that a damaged one is never believed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ksnet_deploy.base.files import replacing

__all__ = ["read_sealed", "write_sealed"]

SEAL = "sha256"
"""Key of the hash, which covers all others."""


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Write values that JSON can hold, whole or not at all. Raises OSError when the file cannot be written."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({**values, SEAL: _seal(values)}, indent=1) + "\n")


def read_sealed(path: Path) -> dict[str, Any]:
    """The values of a file that :func:`write_sealed` wrote.

    Raises:
        ValueError: it is not such a file, or was changed since, with the reason in words.
        OSError: it cannot be read.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if not isinstance(values, dict) or SEAL not in values:
        raise ValueError("it carries no hash of itself")
    if values.pop(SEAL) != _seal(values):
        raise ValueError("it was changed after it was written")
    return values


def _seal(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
