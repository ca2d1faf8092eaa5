"""doctor on the GPU: the card, what runs on it, and the tools to build for it; then the processor and the memory."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from checkups import Patch, look, only

from ksnet_deploy.cli import checks as doctor
from ksnet_deploy.upscale import memory


@pytest.mark.parametrize(
    ("answer", "state", "words"),
    [
        ((0, "NVIDIA H100 80GB HBM3, 81559 MiB, 9.0, 580.95.05"), "ok", "9.0 (name, memory, compute capability)"),
        ((0, "NVIDIA GeForce RTX 3080, 10240 MiB, 8.6, 470.256.02"), "untested", "driver 470.256.02"),
        ((9, "NVIDIA-SMI has failed because it couldn't communicate\nwith"), "missing", "couldn't communicate)"),
        ((0, ""), "missing", "it ended with 0"),
    ],
)
def test_a_gpu_is_what_nvidia_smi_says(monkeypatch: Patch, answer: tuple[int, str], state: str, words: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/usr/bin/{name}")
    monkeypatch.setattr(doctor, "_run", lambda *_: answer)
    check = only("nvidia gpu")
    assert check.state == state
    assert words in check.found
    assert (check.remedy is None) == (state == "ok")


def test_two_cards_are_two_lines_and_none_is_one(monkeypatch: Patch) -> None:
    card = "NVIDIA H100 80GB HBM3, 81559 MiB, 9.0, 580.95.05"
    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/usr/bin/{name}")
    monkeypatch.setattr(doctor, "_run", lambda *_: (0, f"{card}\n{card}"))
    assert [check.state for check in look("nvidia gpu")] == ["ok", "ok"]
    monkeypatch.setattr(shutil, "which", lambda _name, **_: None)
    if torch.cuda.is_available():
        pytest.skip("the rest needs a machine without CUDA")
    check = only("nvidia gpu")
    assert (check.state, check.needed) == ("not here", False)
    assert "580 or later" in (check.remedy or "")


def test_a_hanging_nvidia_smi_is_a_line(monkeypatch: Patch) -> None:
    def hang(*command: str) -> tuple[int, str]:
        raise subprocess.TimeoutExpired(command, 30)

    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/usr/bin/{name}")
    monkeypatch.setattr(doctor, "_run", hang)
    assert "timed out after 30 seconds" in only("nvidia gpu").found


@pytest.mark.parametrize(
    ("version", "cuda", "available", "state", "words"),
    [
        ("2.13.0", None, False, "not here", "PyTorch 2.13.0 is built without CUDA"),
        ("2.13.0", "13.0", False, "not here", "built for CUDA 13.0, but finds no device"),
        ("2.13.0+cu130", "13.0", True, "ok", "CUDA 13.0 on NVIDIA H100"),
    ],
)
def test_pytorch_is_asked_for_cuda(
    monkeypatch: Patch, version: str, cuda: str | None, available: bool, state: str, words: str
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _package: version)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _index: "NVIDIA H100")
    check = only("torch cuda")
    assert (check.state, words in check.found) == (state, True)


def test_a_cpu_build_of_pytorch_is_known_by_its_version_alone(monkeypatch: Patch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _package: "2.13.0+cpu")
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it would raise
    assert only("torch cuda").found == "PyTorch 2.13.0+cpu is built without CUDA"


def test_tensorrt_is_missing_broken_untested_or_fine(monkeypatch: Patch) -> None:
    from ksnet_deploy.runtime.tensorrt import target

    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert only("tensorrt-rtx").remedy == "for engines: pip install 'ksnet-deploy[rtx]'"
    assert only("tensorrt").remedy == "for engines: pip install 'ksnet-deploy[tensorrt]'"
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # importing it raises
    assert only("tensorrt").found.startswith("tensorrt cannot be imported (")
    for version, state in (("10.16.1", "ok"), ("9.3", "untested")):
        played = type("TensorRT", (), {"__version__": version})
        monkeypatch.setattr(target, "import_tensorrt", lambda _flavour, played=played: played)
        assert (only("tensorrt").state, only("tensorrt").found) == (state, version)


def test_cuda_bindings_of_either_tensorrt_will_do(monkeypatch: Patch) -> None:
    for version, state in (("13.5.0", "ok"), ("12.9.1", "ok"), ("11.0", "untested"), (None, "missing")):
        monkeypatch.setattr(doctor, "package_version", lambda _package, version=version: version)
        assert only("cuda-bindings").state == state


def test_a_wrong_library_path_is_said_in_its_line(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setenv("KSNET_PLUGIN_LIBRARY", "/nowhere/libksnet_plugins.so")
    check = only("plugin library")
    assert check.state == "missing"
    assert check.found.startswith("KSNET_PLUGIN_LIBRARY names /nowhere/libksnet_plugins.so, which is not a file")
    library = tmp_path / "libksnet_plugins.so"
    library.touch()
    monkeypatch.setenv("KSNET_PLUGIN_LIBRARY", str(library))
    assert (only("plugin library").state, only("plugin library").found) == ("ok", str(library))


@pytest.mark.parametrize(
    ("name", "printed", "state", "found"),
    [
        ("nvcc", "Cuda compilation tools, release 13.0, V13.0.88", "ok", "13.0"),
        ("nvcc", "Cuda compilation tools, release 11.8, V11.8.89", "untested", "11.8"),
        ("cmake", "cmake version 3.25.1\n\nCMake suite", "ok", "3.25.1"),
        ("cmake", "cmake version 3.9.0", "untested", "3.9.0"),
        ("cmake", "Segmentation fault", "untested", "of an unknown version"),
        ("nvcc", None, "missing", "not found"),
    ],
)
def test_the_tools_of_build_plugins(monkeypatch: Patch, name: str, printed: str | None, state: str, found: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool, **_: f"/usr/bin/{tool}" if printed else None)
    monkeypatch.setattr(doctor, "_run", lambda *_: (0, printed))
    assert (only(name).state, only(name).found) == (state, found)


def test_the_processor_is_what_the_system_says(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for flags, state, words in (
        ("sse2 avx avx2 avx512f", "ok", "AVX2 and AVX512"),
        ("sse2 avx avx2", "ok", "AVX2"),
        ("sse2 avx", "not here", "neither AVX2 nor AVX512"),
    ):
        listed = tmp_path / "cpuinfo"
        listed.write_text(f"flags\t\t: fpu {flags} bmi1\n")
        monkeypatch.setattr("ksnet_deploy.base.machine.CPUINFO", listed)
        check = only("cpu")
        assert (check.state, check.found.split(", ")[1].partition(";")[0]) == (state, words)


CONTAINER = {"sys/fs/cgroup/job/memory.max": "6000000000\n", "sys/fs/cgroup/job/memory.current": "4500000000\n"}
OLDER_CONTAINER = {
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000000000\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "500000000\n",
}


@pytest.mark.parametrize(
    ("group", "files", "gigabytes"),
    [("0::/job/inner", {}, 8.2), ("0::/job/inner", CONTAINER, 1.5), ("4:memory:/job", OLDER_CONTAINER, 2.5)],
)
def test_free_memory_is_what_tiles_are_planned_with(
    monkeypatch: Patch, tmp_path: Path, group: str, files: dict[str, str], gigabytes: float
) -> None:
    system = {"proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n", "proc/self/cgroup": f"{group}\n"}
    for name, text in (system | {"sys/fs/cgroup/job/memory.stat": "inactive_file 0\n"} | files).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "sys/fs/cgroup/memory").mkdir(exist_ok=True)
    (tmp_path / "sys/fs/cgroup/memory/memory.stat").write_text("inactive_file 0\n")
    monkeypatch.setattr(memory, "available_memory", partial(memory.available_memory, tmp_path))
    assert (only("memory").state, only("memory").found) == ("ok", f"{gigabytes} GB free for this process")


def test_a_system_that_does_not_tell_its_memory_is_no_fault(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "available_memory", partial(memory.available_memory, tmp_path))
    check = only("memory")
    assert (check.state, check.needed) == ("not here", False)
    assert "--tiles" in (check.remedy or "")
