"""Leftovers of killed processes: unfinished files and folders, known by the process id in their names."""

from __future__ import annotations

import contextlib
import glob
import re
import shutil
from pathlib import Path

from ksnet_deploy.base.hidden import hidden_name

__all__ = ["remove_leftover_folders", "remove_leftovers"]


def remove_leftovers(path: Path) -> None:
    """Remove the unfinished files and folders of a name (see :func:`ksnet_deploy.base.hidden.temporary_beside`) whose
    process is gone, and what that kept beside them; what cannot be removed stays."""
    for leftover in path.parent.glob(".*.part*"):
        process = _process_of(leftover.name, path.name)
        if process is not None and not _is_running(process):
            _remove(leftover)


def _process_of(leftover: str, name: str) -> int | None:
    """Whose unfinished file of a name this is, or one made for it: ``.NAME.ID.part``, ``..NAME.ID.part.ID.part``."""
    for match in re.finditer(r"\.(\d+)\.part", leftover):
        before = leftover[: match.end()].removesuffix(hidden_name(name, match[0]))
        if before != leftover[: match.end()] and not before.strip("."):
            return int(match[1])
    return None


def remove_leftover_folders(parent: Path, prefix: str) -> None:
    """Remove folders in a folder whose names are the prefix and an id of a process that is gone, or no such id; what
    cannot be removed stays."""
    for leftover in parent.glob(f"{glob.escape(prefix)}*"):
        match = re.match(rf"{re.escape(prefix)}(\d+)-", leftover.name)
        if leftover.is_dir() and not (match and _is_running(int(match[1]))):
            _remove(leftover)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _is_running(process: int) -> bool:
    import psutil  # which a machine with PyTorch alone lacks

    running: bool = psutil.pid_exists(process)
    return running
