"""What killed processes left behind: unfinished files and folders, known by the process id in their names."""

from __future__ import annotations

import contextlib
import glob
import re
import shutil
from pathlib import Path

__all__ = ["remove_leftover_files", "remove_leftover_folders"]


def remove_leftover_files(path: Path) -> None:
    """Remove unfinished files of a name (see :func:`ksnet_deploy.base.files.temporary_beside`) whose process is gone;
    what cannot be removed stays."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        match = re.search(r"\.(\d+)\.part$", leftover.name)
        if match and not _is_running(int(match[1])):
            with contextlib.suppress(OSError):
                leftover.unlink()


def remove_leftover_folders(parent: Path, prefix: str) -> None:
    """Remove folders in a folder whose names are the prefix and an id of a process that is gone, or no such id; what
    cannot be removed stays."""
    for leftover in parent.glob(f"{glob.escape(prefix)}*"):
        match = re.match(rf"{re.escape(prefix)}(\d+)-", leftover.name)
        if leftover.is_dir() and not (match and _is_running(int(match[1]))):
            shutil.rmtree(leftover, ignore_errors=True)


def _is_running(process: int) -> bool:
    import psutil  # which a machine with PyTorch alone lacks

    running: bool = psutil.pid_exists(process)
    return running
