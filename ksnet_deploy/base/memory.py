"""The memory that is left to this process, and errors that say that none is."""

from __future__ import annotations

import contextlib
import errno
import re
from pathlib import Path

from ksnet_deploy.base.errors import ArtifactError, BackendError

__all__ = ["available_memory", "is_out_of_memory"]

_OUT_OF_MEMORY = re.compile(
    r"out of ?memory|out_of_memory|bad[_ ]alloc|failed to allocate memory|can't allocate memory|not enough memory"
    r"|smaller than requested bytes|cudaErrorMemoryAllocation|can't start new thread|failed to map segment",
    re.IGNORECASE,
)


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes left to this process by its machine, its container and its own limits (``ulimit -v`` and ``-d``); None
    where neither ``proc`` under the root nor psutil tells."""
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
    for limit, taken in (("Max address space", "VmSize:"), ("Max data size", "VmData:")):
        with contextlib.suppress(OSError, ValueError):  # ValueError: the limit is "unlimited"
            bound = _field(root / "proc/self/limits", limit)
            bounds.append(bound - 1024 * _field(root / "proc/self/status", taken))
    return max(0, min(bounds))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a runtime failed because the memory, of the machine or of the GPU, was used up."""
    if isinstance(error, MemoryError) or "OutOfMemoryError" in {kind.__name__ for kind in type(error).__mro__}:
        return True
    from_onnx_runtime = type(error).__module__.startswith("onnxruntime")
    if from_onnx_runtime or isinstance(error, (RuntimeError, ImportError, BackendError, ArtifactError)):
        return _OUT_OF_MEMORY.search(str(error)) is not None
    return isinstance(error, OSError) and error.errno == errno.ENOMEM


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
