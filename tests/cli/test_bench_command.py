"""The command ``bench`` on stand-ins: what it refuses before it measures, and that no result is lost."""

from __future__ import annotations

import json
from dataclasses import replace
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


def test_what_was_measured_is_told_where_measuring_breaks_off(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Bench, *rest: Any) -> Any:
        if self.has_rows:
            raise KeyboardInterrupt
        return measured(self, *rest)

    measured = Bench._group
    monkeypatch.setattr(Bench, "_group", stop)
    step_s = {"torch-cpu": 0.1, "onnxruntime-cpu": 0.05}
    (lite,) = bed.bench(step_s)._subjects
    two = [lite, replace(lite, label="other")]
    monkeypatch.setattr(bench, "Bench", lambda *_, **__: bed.bench(step_s, subjects=two))
    result = run("bench")
    assert result.returncode != 0
    assert "ONNX Runtime, CPU, float32" in result.stdout
    assert "Note: this was broken off before all was measured." in result.stdout
    answer = json.loads(run("bench", "--json").stdout)
    assert (answer["complete"], len(answer["groups"])) == (False, 1)
    monkeypatch.setattr(Bench, "_group", measured)
    assert json.loads(run("bench", "--json").stdout)["complete"]


def test_nothing_to_overwrite_is_said() -> None:
    assert "--overwrite has nothing to replace" in failure_of(run("bench", "--overwrite"))


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
