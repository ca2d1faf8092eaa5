"""The diagnosis on this machine as it is, and on machines that lack something, which are played."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from checkups import Patch, look, only
from typer.testing import CliRunner

from ksnet_deploy.base.machine import cores
from ksnet_deploy.cli import checks as doctor
from ksnet_deploy.cli.checks import Check, Diagnosis, diagnose
from ksnet_deploy.cli.doctor import BACKENDS
from ksnet_deploy.cli.doctor import doctor as command
from ksnet_deploy.cli.requirements import requirements
from ksnet_deploy.network import bundled as checkpoints
from ksnet_deploy.upscale.networks import find_network
from ksnet_deploy.video.writing import presets as encoders

PACKAGES = (
    *("av", "filelock", "numpy", "onnx", "onnxscript", "pillow", "platformdirs", "psutil"),
    *("safetensors", "threadpoolctl", "torch", "typer"),
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
NAMES += ["fastest", "ray", "gradio", "matplotlib", "plugin library", "kernel library"]
NAMES += ["alignment kernel, onnxruntime", "alignment kernel, openvino", "nvcc", "cmake"]


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


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"avx2"}, "AVX2; no bfloat16, no int8 (VNNI)"),
        ({"avx2", "avx512f", "avx512_vnni"}, "AVX2 and AVX512; no bfloat16, int8 can run"),
        ({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}, "AVX2 and AVX512; with bfloat16, int8 can run"),
    ],
)
def test_the_processors_precisions_are_told(flags: set[str], words: str, monkeypatch: Patch) -> None:
    for module in ("base.machine", "cli.checks"):
        monkeypatch.setattr(f"ksnet_deploy.{module}.cpu_flags", lambda: flags)
    (check,) = doctor._cpu()
    assert check.found.endswith(words)


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


@pytest.mark.parametrize(
    ("model", "video", "taken"),
    [("uni", "lite-video", "'uni' ('lite-video' for compressed video)"), ("lite", None, "'lite' and")],
)
def test_the_last_line_names_networks_that_are_there(
    here: Diagnosis, monkeypatch: Patch, model: str, video: str | None, taken: str
) -> None:
    _, text = run(replace(here, model=model, video_model=video), monkeypatch)
    assert f"upscale takes the network {taken}" in text


def test_json_has_the_same_as_plain_values(here: Diagnosis, monkeypatch: Patch) -> None:
    code, text = run(here, monkeypatch, "--json")
    answer = json.loads(text)
    assert code == 0
    assert list(answer) == ["works", "lacking", "checks", "model", "video_model", "backend", "device"]
    assert (answer["works"], answer["lacking"]) == (True, [])
    assert (answer["model"], answer["backend"], answer["device"]) == ("lite", find_network("lite").backend, "cpu")
    assert answer["video_model"] == "lite-video"
    assert [Check(**check) for check in answer["checks"]] == here.checks


def test_only_what_upscale_needs_makes_it_fail(monkeypatch: Patch) -> None:
    fine = Check("python", "ok", "3.11", None, True)
    for check, code in (
        (Check("nvcc", "missing", "not found", "install it"), 0),
        (Check("torch", "untested", "3.0", "install 2.13", True), 0),
        (Check("onnxruntime", "missing", "not installed", "install it", True), 1),
    ):
        diagnosis = Diagnosis([fine, check], "lite", "lite-video", "onnxruntime", "cpu")
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
