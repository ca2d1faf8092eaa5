"""The memory that is left to this process."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

__all__ = ["available_memory"]


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes left to this process by its machine and its container; None where neither ``proc`` under the root nor
    psutil tells."""
    try:
        bounds = [1024 * _field(root / "proc/meminfo", "MemAvailable:")]
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):  # not Linux
        return _available_elsewhere() if root == Path("/") else None
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if "memory" in controllers.split(","):
            mount, limit, usage = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        elif not controllers:
            mount, limit, usage = "sys/fs/cgroup", "memory.max", "memory.current"
        else:
            continue
        inner = Path(path.lstrip("/"))
        for folder in (root / mount / part for part in (inner, *inner.parents)):  # a group is bound by those around it
            with contextlib.suppress(OSError, ValueError):  # ValueError: the limit is "max"
                bound = int((folder / limit).read_text()) - int((folder / usage).read_text())
                # Files that were read count as used, but make way when memory is needed.
                bounds.append(bound + _field(folder / "memory.stat", "inactive_file"))
    return max(0, min(bounds))


def _available_elsewhere() -> int | None:
    """Figure of psutil, for systems without ``/proc``; that of a container is not in it."""
    try:
        import psutil
    except ImportError:
        return None
    available: int = psutil.virtual_memory().available
    return available


def _field(path: Path, name: str) -> int:
    """The number after a name in a file of such lines. Raises OSError or ValueError when it is not there."""
    match = re.search(rf"^{name}\s+(\d+)", path.read_text(), re.MULTILINE)
    if match is None:
        raise ValueError(f"{path} has no {name}")
    return int(match[1])
