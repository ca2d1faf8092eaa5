"""Facts about this machine: its processor, its cores, and the memory that a process has taken; on any system."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = [
    "BFLOAT16_FLAGS",
    "cores",
    "cpu_flags",
    "cpu_name",
    "ending_signals",
    "give_free_memory_back",
    "has_bfloat16",
    "has_vnni",
    "is_x86",
    "peak_memory",
    "reset_peak_memory",
    "same_priority",
    "threads_told",
]

CPUINFO = Path("/proc/cpuinfo")
TASKS = Path("/proc/self/task")
VNNI_FLAGS = {"avx512_vnni", "avx_vnni", "asimddp"}
"""Extensions by Linux's names that sum products of bytes without overflow; the last is ARM's."""
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""Extensions by Linux's names that multiply in bfloat16."""


def cores() -> int:
    """Number of logical processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    import psutil  # which a machine with PyTorch alone lacks

    return psutil.cpu_count() or 1


def threads_told() -> int | None:
    """Threads that a runtime is to take, as ``OMP_NUM_THREADS`` says; None where it says nothing."""
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(told) if told.isdecimal() and int(told) > 0 else None


def ending_signals() -> list[signal.Signals]:
    """Signals that ask a process to end: Ctrl-C, a polite ``kill``, and a terminal or connection that is closed; the
    last is not among them where it is to be ignored, as ``nohup`` has it."""
    found = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)  # which Windows has not
    return found if hang_up is None or signal.getsignal(hang_up) == signal.SIG_IGN else [*found, hang_up]


def cpu_name() -> str:
    """Name of the processor's model, as far as the system tells it."""
    if CPUINFO.is_file():
        for line in CPUINFO.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cpu_flags() -> set[str] | None:
    """Extensions of the processor by Linux's names, such as ``avx2``; None where the system does not list them."""
    return set(CPUINFO.read_text(errors="replace").split()) if CPUINFO.is_file() else None


def is_x86() -> bool:
    """Whether this processor is one of 64 bits by Intel's or AMD's design."""
    return platform.machine().lower() in {"x86_64", "amd64"}


def has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16; False where the system does not list its extensions."""
    return not BFLOAT16_FLAGS.isdisjoint(cpu_flags() or ())


def has_vnni() -> bool:
    """Whether this processor sums products of bytes in one instruction; True where the system does not list any."""
    flags = cpu_flags()
    return flags is None or not VNNI_FLAGS.isdisjoint(flags)


def peak_memory() -> int:
    """Most bytes of main memory that this process has held at once, since it was started or the peak was reset.

    On Linux it is this program's alone. ``getrusage``, which is asked on macOS, begins with what the process had that
    started it, where that was more.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    import psutil

    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return int(memory.peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def reset_peak_memory() -> bool:
    """Let :func:`peak_memory` begin anew with what this process holds now. Returns whether it does: where the system is
    not Linux, or does not permit it, the peak stays that since the process was started."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


@contextlib.contextmanager
def same_priority() -> Iterator[None]:
    """Leave the priorities of this process as they are, and give its own to threads that are made inside.

    SVT-AV1, where root runs it, as in most containers, makes all its threads real-time ones and the thread that opens
    it too, for good; other programs, and our network, would wait for them.
    """
    if not hasattr(os, "sched_setscheduler") or not TASKS.is_dir():
        yield
        return
    before, own = _priorities(), (os.sched_getscheduler(0), os.sched_getparam(0))
    try:
        yield
    finally:
        for thread, priority in _priorities().items():
            if priority[0] != before.get(thread, own)[0]:
                with contextlib.suppress(OSError):  # it has ended
                    os.sched_setscheduler(thread, *before.get(thread, own))


def _priorities() -> dict[int, tuple[int, Any]]:
    """Scheduling policy of every thread of this process, with its parameters."""
    priorities = {}
    for thread in map(int, (entry.name for entry in TASKS.iterdir())):
        with contextlib.suppress(OSError):
            priorities[thread] = os.sched_getscheduler(thread), os.sched_getparam(thread)
    return priorities


def give_free_memory_back() -> None:
    """Give the memory that lies free in this process back to the system, where the C library is glibc.

    It keeps a pool of memory for nearly every thread; a process whose threads come and go grows for hours (from 200 MB
    to 480 MB over 30 scenes with an encoder each) though nothing is lost.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
