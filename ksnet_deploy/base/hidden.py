"""Names that the system takes: of results, and of hidden files and folders beside the one that they belong to."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

__all__ = ["LONGEST_NAME", "fitting_name", "hidden_name", "shortened", "temporary_beside"]

LONGEST_NAME = 255
"""Bytes of a file's name that Linux, macOS and Windows take."""


def temporary_beside(path: Path) -> Path:
    """Name of an unfinished file in the folder of ``path``: hidden, and unique to this process."""
    return path.with_name(hidden_name(path.name, f".{os.getpid()}.part"))


def fitting_name(stem: str, ending: str) -> str:
    """``STEMending``; where the system would not take so long a name, the stem's beginning and its hash."""
    if len(os.fsencode(f"{stem}{ending}")) <= LONGEST_NAME:
        return f"{stem}{ending}"
    digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
    return f"{shortened(stem, LONGEST_NAME - len(digest) - len(os.fsencode(ending)) - 1)}-{digest}{ending}"


def hidden_name(name: str, ending: str) -> str:
    """``.NAMEending``; where the system would not take so long a name, the name's beginning and its hash."""
    if len(os.fsencode(f".{name}{ending}")) <= LONGEST_NAME:
        return f".{name}{ending}"
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    return f".{shortened(name, LONGEST_NAME - len(digest) - len(ending) - 2)}-{digest}{ending}"


def shortened(text: str, most_bytes: int) -> str:
    """The beginning of a text, whole characters of at most so many bytes."""
    while len(os.fsencode(text)) > most_bytes:
        text = text[:-1]
    return text
