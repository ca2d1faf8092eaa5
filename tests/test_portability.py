"""That nothing is imported which is on POSIX systems only: most people with a GPU have Windows, some have macOS."""

from __future__ import annotations

import subprocess
import sys

import pytest
from test_layout import MODULES, imported

POSIX_ONLY = ("fcntl", "grp", "posix_ipc", "pty", "pwd", "resource", "syslog", "termios", "tty")
IMPORTING = """
import importlib, pathlib, sys
import filelock, psutil  # which work on all systems, each by its own means
for name in {blocked!r}:
    sys.modules[name] = None  # importing it raises ImportError
for name in {modules!r}:
    importlib.import_module(name)
"""
FOR_ONE_SYSTEM = {"ksnet_deploy.__main__", "ksnet_deploy.cli.__main__"}
"""They run the command line when they are imported."""
OF_GRADIO = "ksnet_deploy.web.page"
"""Takes seconds to import, and what its library needs of a system is that library's own affair."""


@pytest.mark.slow
def test_no_module_needs_a_posix_module() -> None:
    modules = sorted(set(MODULES) - FOR_ONE_SYSTEM - {OF_GRADIO})
    code = IMPORTING.format(blocked=list(POSIX_ONLY), modules=modules)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]


def test_the_page_s_module_imports_no_posix_module() -> None:
    assert not {module.partition(".")[0] for _, module in imported(MODULES[OF_GRADIO])} & set(POSIX_ONLY)


WITHOUT_PROC = """
import os, pathlib, sys
from unittest import mock
import filelock, psutil
sys.modules["resource"] = sys.modules["fcntl"] = None
is_file, read_text = pathlib.Path.is_file, pathlib.Path.read_text
def hidden(self): return str(self).startswith(("/proc", "/sys"))
def no_file(self): return not hidden(self) and is_file(self)
def no_text(self, *a, **k):
    if hidden(self): raise FileNotFoundError(2, "no such file", str(self))
    return read_text(self, *a, **k)
with mock.patch.object(pathlib.Path, "is_file", no_file), mock.patch.object(pathlib.Path, "read_text", no_text):
    if hasattr(os, "sched_getaffinity"):
        del os.sched_getaffinity
    memory = psutil.Process().memory_info()
    class Windows:
        peak_wset = memory.rss
    with mock.patch.object(psutil.Process, "memory_info", lambda self: Windows()):
        from ksnet_deploy.base.machine import cores, cpu_flags, cpu_name, peak_memory
        assert cores() >= 1 and cpu_flags() is None and cpu_name() and peak_memory() == memory.rss
    from ksnet_deploy.upscale.memory import available_memory
    available = available_memory()
    assert available is None or 0 < available <= psutil.virtual_memory().total
"""


def test_the_machine_is_described_without_proc() -> None:
    run = subprocess.run([sys.executable, "-c", WITHOUT_PROC], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]


@pytest.mark.parametrize("name", ["fcntl", "resource"])
def test_the_blocking_blocks(name: str) -> None:
    code = IMPORTING.format(blocked=[name], modules=[name])
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "ModuleNotFoundError" in run.stderr
