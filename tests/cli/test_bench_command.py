"""The command ``bench`` on stand-ins: what it refuses before it measures, and that no result is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benches import Bed
from command import failure_of, run

from ksnet_deploy.measure.speed import bench, subjects
from ksnet_deploy.measure.speed.bench import Bench


@pytest.fixture(autouse=True)
def bed(monkeypatch: pytest.MonkeyPatch) -> Bed:
    """The machine that the command finds."""
    bed = Bed(monkeypatch)
    monkeypatch.setattr(bench, "Bench", lambda *_, **__: bed.bench({"torch-cpu": 0.1, "onnxruntime-cpu": 0.05}))
    monkeypatch.setattr(subjects, "find_subjects", lambda *_, **__: [])
    return bed


def test_an_older_result_of_something_else_is_refused_before_measuring(bed: Bed, tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    assert run("bench").returncode == 0
    old.write_text(run("bench", "--json").stdout.replace("32x48", "64x64"))
    changed = json.loads(old.read_text())
    changed.pop("sha256")
    old.write_text(json.dumps(changed))
    bed.calls.clear()
    assert "none of what would be measured now" in failure_of(run("bench", "--compare", old))
    assert bed.calls == []


def test_what_was_measured_is_told_whatever_fails_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "the disk is full")

    monkeypatch.setattr("ksnet_deploy.measure.speeds.keep_speeds", fail)
    monkeypatch.setattr("ksnet_deploy.measure.speed.plot.plot_bench", fail)
    monkeypatch.setattr(bench.BenchReport, "as_csv", fail)
    result = run("bench", "--csv", tmp_path / "a.csv", "--plot", tmp_path / "a.png")
    assert result.returncode != 0
    assert "ONNX Runtime, CPU, float32" in result.stdout


def test_what_was_measured_is_told_where_measuring_breaks_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Bench, **more: Any) -> None:
        run_whole(self, **more)
        raise KeyboardInterrupt

    run_whole = Bench.run
    monkeypatch.setattr(Bench, "run", stop)
    result = run("bench")
    assert result.returncode != 0
    assert "ONNX Runtime, CPU, float32" in result.stdout


def test_a_way_that_is_gone_ends_in_the_exit_code_of_a_slower_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old.json").write_text(run("bench", "--json").stdout)
    assert run("bench", "--compare", tmp_path / "old.json").returncode == 0
    before = Bench._open
    monkeypatch.setattr(Bench, "_open", lambda self, *rest: before(self, *rest)[:1])
    result = run("bench", "--compare", tmp_path / "old.json")
    assert result.returncode == 1
    assert "lite 32x48 onnxruntime-cpu: gone" in result.stdout
