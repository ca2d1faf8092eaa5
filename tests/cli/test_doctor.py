"""The diagnosis on this machine as it is, and on machines that lack something, which are played."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from ksnet_deploy.base.machine import cores
from ksnet_deploy.cli import checks as doctor
from ksnet_deploy.cli.checks import Check, Diagnosis, diagnose
from ksnet_deploy.cli.doctor import BACKENDS
from ksnet_deploy.cli.doctor import doctor as command
from ksnet_deploy.cli.requirements import requirements
from ksnet_deploy.network import bundled as checkpoints
from ksnet_deploy.upscale import memory
from ksnet_deploy.upscale.networks import find_network
from ksnet_deploy.video.writing import presets as encoders

Patch = pytest.MonkeyPatch

PACKAGES = (
    *("av", "filelock", "numpy", "onnx", "onnxscript", "pillow", "platformdirs", "psutil"),
    *("safetensors", "torch", "typer"),
)
ENCODERS = tuple(f"encoder {name}" for name in encoders.PRESETS)
NAMES = [
    "python",
    *PACKAGES,
    "onnxruntime",
    "openvino",
    "checkpoint lite",
    "checkpoint lite-video",
    "checkpoint uni",
    "checkpoint bi",
    *ENCODERS,
    "cache",
    "cpu",
    "memory",
]
NAMES += ["disk", "nvidia gpu", "torch cuda", "tensorrt-rtx", "tensorrt", "cuda-bindings"]
NAMES += ["fastest", "ray", "gradio", "matplotlib", "plugin library", "kernel library", "nvcc", "cmake"]


def look(name: str) -> list[Check]:
    """The lines of one of the looks, by its name."""
    return next(doctor._safely(name, see, needed=needed) for known, needed, see in doctor._LOOKS if known == name)


def only(name: str) -> Check:
    (check,) = look(name)
    assert check.name == name
    return check


def run(diagnosis: Diagnosis, monkeypatch: Patch, *arguments: str) -> tuple[int, str]:
    """Exit code and output of the command for a given diagnosis."""
    monkeypatch.setattr(doctor, "diagnose", lambda: diagnosis)
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout


@pytest.fixture(scope="module")
def here() -> Diagnosis:
    return diagnose()


def test_this_machine_can_upscale_and_every_check_has_one_line(here: Diagnosis) -> None:
    assert here.lacking == []
    assert [name for name, _ in itertools.groupby(check.name for check in here.checks)] == NAMES  # a line for each card
    for check in here.checks:
        assert check.state in ("ok", "untested", "missing", "not here")
        assert check.found
        assert (check.remedy is None) == (check.state == "ok")


def test_what_is_found_is_true(here: Diagnosis) -> None:
    found = {check.name: check.found for check in here.checks}
    assert {name: found[name] for name in PACKAGES} == {name: importlib.metadata.version(name) for name in PACKAGES}
    for name in ("lite", "uni"):
        path = checkpoints.bundled_checkpoint(name)
        digest = subprocess.run(["sha256sum", str(path)], capture_output=True, text=True, check=True).stdout.split()[0]
        assert digest in found[f"checkpoint {name}"]
        assert "research / non-commercial" in found[f"checkpoint {name}"]
    assert found["cpu"].startswith(f"{cores()} cores")
    capability = torch.backends.cpu.get_cpu_capability()
    assert ("AVX512" in found["cpu"].partition(", ")[2]) >= (capability == "AVX512")


def test_the_text_is_aligned_and_ends_with_what_upscale_takes(here: Diagnosis, monkeypatch: Patch) -> None:
    code, text = run(here, monkeypatch)
    *lines, blank, last = text.splitlines()
    assert (code, blank) == (0, "")
    assert len(lines) == len(here.checks)
    column = max(len(check.name) for check in here.checks) + 2
    for line, check in zip(lines, here.checks, strict=True):
        assert line[:column].rstrip() == check.name
        assert line[column : column + 10].rstrip() == check.state
        assert line[column + 10 :].startswith(check.found)
    taken = "'lite' ('lite-video' for compressed video)"
    assert last == f"upscale takes the network {taken} and runs it with {BACKENDS[here.backend]} on the CPU by default"


def test_json_has_the_same_as_plain_values(here: Diagnosis, monkeypatch: Patch) -> None:
    code, text = run(here, monkeypatch, "--json")
    answer = json.loads(text)
    assert code == 0
    assert list(answer) == ["works", "lacking", "checks", "model", "backend", "device"]
    assert (answer["works"], answer["lacking"]) == (True, [])
    assert (answer["model"], answer["backend"], answer["device"]) == ("lite", find_network("lite").backend, "cpu")
    assert [Check(**check) for check in answer["checks"]] == here.checks


def test_only_what_upscale_needs_makes_it_fail(monkeypatch: Patch) -> None:
    fine = Check("python", "ok", "3.11", None, True)
    for check, code in (
        (Check("nvcc", "missing", "not found", "install it"), 0),
        (Check("torch", "untested", "3.0", "install 2.13", True), 0),
        (Check("onnxruntime", "missing", "not installed", "install it", True), 1),
    ):
        diagnosis = Diagnosis([fine, check], "lite", "onnxruntime", "cpu")
        found, text = run(diagnosis, monkeypatch)
        assert found == code
        assert text.splitlines()[1].endswith(f"{check.found} -> {check.remedy}")
        assert text.splitlines()[-1].startswith("upscale cannot run here; missing: onnxruntime") == bool(code)
        assert json.loads(run(diagnosis, monkeypatch, "--json")[1])["works"] == (not code)


def test_a_check_that_raises_becomes_a_line_with_the_reason(monkeypatch: Patch) -> None:
    def broken() -> None:
        raise RuntimeError("libfoo.so:\n cannot be opened")

    monkeypatch.setattr(doctor, "_LOOKS", tuple((name, needed, broken) for name, needed, _ in doctor._LOOKS))
    diagnosis = diagnose()
    assert [check.name for check in diagnosis.checks] == [name for name, _, _ in doctor._LOOKS]
    assert {check.found for check in diagnosis.checks} == {
        "cannot be looked at (RuntimeError: libfoo.so: cannot be opened)"
    }
    assert diagnosis.lacking == [
        "python",
        "packages",
        "onnxruntime",
        "checkpoint lite",
        "checkpoint lite-video",
        "encoders",
        "cache",
    ]


def test_nothing_heavy_is_loaded_before_it_is_asked_for() -> None:
    code = "import sys, ksnet_deploy.cli.doctor, ksnet_deploy.cli.checks\n"
    code += "print({'torch', 'onnx', 'onnxruntime', 'av', 'numpy'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_a_requirement_with_extras_of_its_own_is_a_package_with_bounds(monkeypatch: Patch) -> None:
    line = 'onnxruntime-gpu[cuda,cudnn]<1.33,>=1.31; extra == "gpu"'
    monkeypatch.setattr(importlib.metadata, "requires", lambda _name: [line])
    (wanted,) = requirements()
    assert wanted == ("onnxruntime-gpu", ">=1.31,<1.33", "gpu")


def test_missing_and_untested_packages_are_told_apart(monkeypatch: Patch) -> None:
    versions = {"av": None, "numpy": "3.0.1"}
    real = doctor.package_version
    monkeypatch.setattr(doctor, "package_version", lambda package: versions.get(package, real(package)))
    found = {check.name: check for check in look("packages")}
    assert found["av"] == Check("av", "missing", "not installed", "pip install 'av>=18,<19'", True)
    assert found["numpy"] == Check("numpy", "untested", "3.0.1", "tested with >=2,<3 only, install that", True)
    assert found["onnx"].state == "ok"


def test_onnxruntime_is_missing_or_there_twice(monkeypatch: Patch) -> None:
    monkeypatch.setattr(doctor, "package_version", lambda _package: None)
    assert (only("onnxruntime").state, only("onnxruntime").needed) == ("missing", True)
    assert "pip install 'ksnet-deploy[cpu]'" in (only("onnxruntime").remedy or "")
    monkeypatch.setattr(doctor, "package_version", lambda _package: "1.32.0")
    assert only("onnxruntime").state == "untested"
    assert "overwrite each other" in (only("onnxruntime").remedy or "")


def test_a_broken_checkpoint_is_a_line(monkeypatch: Patch, tmp_path: Path) -> None:
    path = tmp_path / "lite.safetensors"
    path.write_bytes(b"nonsense")
    monkeypatch.setattr(checkpoints, "bundled_checkpoint", lambda _name: path)
    check = only("checkpoint lite")
    assert (check.state, check.needed) == ("missing", True)
    assert str(path) in check.found


def test_encoders_that_do_not_work_say_what_they_need(monkeypatch: Patch) -> None:
    problems = {"h264": "built without libx264", "hevc": None, "av1-nvenc": "no libcuda", "h264-qsv": "no session"}
    monkeypatch.setattr(encoders, "available_encoders", lambda: problems)
    h264, hevc, nvenc, qsv = look("encoders")
    assert (h264.state, h264.needed, h264.found) == ("missing", True, "built without libx264")
    assert (hevc.state, hevc.needed, hevc.remedy) == ("ok", False, None)
    assert (nvenc.state, nvenc.found) == ("not here", "no libcuda")
    assert "NVIDIA card" in (nvenc.remedy or "")
    assert "Intel GPU" in (qsv.remedy or "")


def test_a_cache_that_cannot_be_written_stops_upscale(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setenv("KSNET_CACHE_DIR", str(tmp_path / "new" / "deeper"))
    assert only("cache").state == "ok"
    (tmp_path / "file").touch(mode=0o755)
    monkeypatch.setenv("KSNET_CACHE_DIR", str(tmp_path / "file" / "cache"))
    check = only("cache")
    assert (check.state, check.needed) == ("missing", True)
    assert check.found == f"{tmp_path / 'file' / 'cache'} cannot be written to"


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
        assert (check.state, check.found.split(", ")[1]) == (state, words)


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
