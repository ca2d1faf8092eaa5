"""The command upscale on a Ray cluster, in processes of their own, with a network that costs a told time a frame."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

SUPPORT = Path(__file__).parent

__all__ = ["environment", "leftovers", "run_upscale", "start_upscale", "wait_for", "workers_of"]


def environment(step_s: float, **more: str) -> dict[str, str]:
    """Environment of processes whose networks take so long a frame."""
    paths = os.pathsep.join(map(str, (SUPPORT / "costless", SUPPORT)))
    return os.environ | {"PYTHONPATH": paths, "KSNET_TEST_STEP_S": str(step_s), "OMP_NUM_THREADS": "1"} | more


def start_upscale(*arguments: object, step_s: float = 0.0, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ksnet_deploy", "upscale", *map(str, arguments), "--device", "cpu"]
    command += ["--runtime", "onnxruntime", "--model", "lite"]
    env = environment(step_s, **more.pop("env", {}))
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def run_upscale(*arguments: object, step_s: float = 0.0, **more: Any) -> subprocess.CompletedProcess[str]:
    with start_upscale(*arguments, step_s=step_s, **more) as process:
        out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def workers_of(process: psutil.Process | subprocess.Popen[str]) -> list[psutil.Process]:
    """Processes of the workers of a local cluster that a process started."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [child for child in children if "ray::Worker" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def leftovers(folder: Path) -> list[str]:
    """Processes and folders of local clusters whose folder is in a folder."""
    names = [path.name for path in folder.glob("ksnet-ray-*")]
    for process in psutil.process_iter():
        try:
            if any(f"{folder}/ksnet-ray-" in part for part in process.cmdline()):
                names.append(" ".join(process.cmdline()[:2]))
        except psutil.Error:
            continue
    return names


def wait_for(condition: Any, limit_s: float = 240.0) -> Any:
    """Whatever a function gives, once that is true."""
    until = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < until, "took too long"
        time.sleep(0.05)
    return found


def short_folder() -> Path:
    """A folder whose name is short enough for the sockets that Ray makes in it."""
    return Path(tempfile.mkdtemp(prefix="kr"))
