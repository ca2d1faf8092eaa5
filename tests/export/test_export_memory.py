"""What an export and its verification take: announced, refused, or verified at a smaller size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from command import failure_of, run

from ksnet_deploy.base import memory as base_memory
from ksnet_deploy.base.errors import ConfigError, OutputError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.export import memory
from ksnet_deploy.export.memory import export_bytes, verification_bytes
from ksnet_deploy.export.onnx import exported_model
from ksnet_deploy.export.proof.float32 import SequenceReport
from ksnet_deploy.export.verified import VerificationPlan, export_verified, plan_verification
from ksnet_deploy.network.checkpoints import Checkpoint
from ksnet_deploy.network.config import KSNetConfig, Precision
from ksnet_deploy.runtime.step_file import exported_size, load_exported

UNI = KSNetConfig.named("uni")
HD = FrameSize(1080, 1920)


@pytest.mark.slow
def test_a_file_is_verified_at_a_small_size_where_its_own_does_not_fit(
    small: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, path = FrameSize(80, 136), tmp_path / "step.onnx"
    wanted = verification_bytes(small.config, size, "fp32")
    monkeypatch.setattr(memory, "available_memory", lambda: wanted)  # of which a part stays in reserve
    plans: list[VerificationPlan] = []
    report = export_verified(
        small, path, size, dynamic=False, io="uint8", precision="fp32", frames=2, on_plan=plans.append
    )
    assert report is not None
    assert report.size == plans[0].size == FrameSize(72, 128)
    assert "at 72x128" in report.summary()
    assert "exported for 72x128 too, and that file is verified" in plans[0].in_words
    assert exported_size(load_exported(path)) == size
    assert list(tmp_path.iterdir()) == [path]


def test_the_size_of_a_verification_and_its_memory() -> None:
    some = FrameSize(180, 320)
    free = plan_verification(UNI, some, dynamic=False, precision="fp32", frames=8)
    assert (free.size, free.wanted_bytes) == (some, None)
    assert free.memory_bytes == verification_bytes(UNI, some, "fp32")
    unverified = plan_verification(UNI, HD, dynamic=False, precision="fp32", frames=0)
    assert unverified.memory_bytes == export_bytes(UNI, HD)
    huge = FrameSize(8000, 8000)  # on any machine of today
    assert plan_verification(UNI, huge, dynamic=False, precision="fp32", frames=2).size == FrameSize(72, 128)
    flat = FrameSize(16, 4_000_000)
    assert plan_verification(UNI, flat, dynamic=False, precision="fp32", frames=2).size == FrameSize(16, 128)


def test_what_cannot_be_exported_at_all_is_refused_at_once(
    small: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 2_000_000_000)
    with pytest.raises(ConfigError, match=r"takes about \d+\.\d GB of memory, and 2.0 GB are free here; .*--dynamic"):
        exported_model(small, size=FrameSize(8000, 8000))
    sentence = failure_of(run("export", tmp_path / "a.onnx", "-m", small.path, "--size", "8000x8000"))
    assert "GB are free here" in sentence
    assert list(tmp_path.iterdir()) == []


def test_without_word_of_the_memory_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    assert plan_verification(UNI, HD, dynamic=False, precision="fp32", frames=2).size == HD


def test_psutil_tells_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_memory, "_field", lambda *_: int("no such file"))
    machine = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=123))
    monkeypatch.setitem(sys.modules, "psutil", machine)
    assert base_memory.available_memory() == 123
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert base_memory.available_memory() is None


PEAK = """
import json, sys
from pathlib import Path
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.machine import peak_memory
from ksnet_deploy.export.verified import export_verified
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import load_checkpoint

model, size, precision, frames, target = sys.argv[1:]
plans = []
export_verified(load_checkpoint(bundled_checkpoint(model)), Path(target), FrameSize.parse(size), dynamic=False,
                io="uint8", precision=precision, frames=int(frames), on_plan=plans.append)
print(json.dumps({"announced": plans[0].memory_bytes, "peak": peak_memory()}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "size", "precision", "frames"),
    [
        ("lite", "72x128", "fp32", 2),
        ("lite", "180x320", "fp32", 2),
        ("lite", "180x320", "fp16", 2),
        ("lite", "360x640", "fp32", 2),
        ("lite", "360x640", "fp16", 2),
        ("lite-video", "180x320", "fp16", 2),
        ("uni", "180x320", "fp32", 2),
        ("uni", "180x320", "fp16", 2),
        ("uni", "1080x1920", "fp32", 0),
    ],
)
def test_the_announced_memory_is_within_a_quarter_of_the_peak(
    model: str, size: str, precision: Precision, frames: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", PEAK, model, size, precision, str(frames), str(tmp_path / "step.onnx")]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    announced, peak = found["announced"], found["peak"]
    print(f"{model} {size} {precision}: {announced / 1e9:.2f} GB announced, {peak / 1e9:.2f} GB taken")
    assert 0.8 <= announced / peak <= 1.25


def test_a_folder_that_cannot_be_written_is_noticed_before_the_export(
    small: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ksnet_deploy.export.verified.exported_models", lambda *_, **__: pytest.fail("exported"))
    with pytest.raises(OutputError, match="cannot be written"):
        export_verified(
            small, Path("/proc/step.onnx"), FrameSize(20, 24), dynamic=False, io="uint8", precision="fp32", frames=2
        )


@pytest.mark.slow
def test_the_export_command_says_what_it_takes_and_where_it_verified(small: Checkpoint, tmp_path: Path) -> None:
    """An unfinished file of a killed export goes on the way."""
    path, leftover = tmp_path / "a.onnx", tmp_path / ".a.onnx.4194999.part"  # beyond the largest process id
    leftover.write_bytes(b"half of it")
    result = run("export", path, "-m", small.path, "--size", "20x24", "--inline", "--verify-frames", 2)
    assert result.returncode == 0, result.stderr
    assert "GB of memory" in result.stderr + result.stdout
    assert "Verified: 2 recurrent frames at 20x24, no reset" in result.stdout
    assert list(tmp_path.iterdir()) == [path]
    assert not onnx.load(path).functions
    assert "2 or more" in failure_of(run("export", path, "-m", small.path, "--overwrite", "--verify-frames", 1))
    for exported, kind in ((path, "is an exported file"), (tmp_path / "x.engine", "has the name of an exported file")):
        sentence = failure_of(run("export", tmp_path / "b.onnx", "-m", exported))
        assert f"{exported} {kind}, and only checkpoints can be exported" in sentence


@pytest.mark.parametrize(
    ("options", "size", "dynamic"),
    [((), "180x320", False), (("--dynamic",), "72x128", True), (("--dynamic", "--size", "90x160"), "90x160", True)],
)
def test_a_dynamic_file_is_verified_at_a_small_size_unless_another_is_given(
    small: Checkpoint,
    tmp_path: Path,
    options: tuple[str, ...],
    size: str,
    dynamic: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def export_verified(_checkpoint: Checkpoint, path: Path, found: FrameSize, **settings: Any) -> SequenceReport:
        assert (str(found), settings["dynamic"]) == (size, dynamic)
        settings["on_plan"](VerificationPlan(found, 10**9))
        path.write_bytes(b"x")
        return SequenceReport(found, 4, 1e-4, 1e-4)

    monkeypatch.setattr("ksnet_deploy.export.front.export_verified", export_verified)
    result = run("export", tmp_path / "a.onnx", "-m", small.path, *options)
    assert result.returncode == 0, result.stderr
    assert f"at {size}" in result.stdout
