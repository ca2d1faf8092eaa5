"""A benchmark whose machine, clock and networks are stand-ins."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from standins import ClockedRunner, StandInChild, Time, noisy

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.limits.floor import Floor
from ksnet_deploy.measure.limits.peaks import Peaks
from ksnet_deploy.measure.speed import bench as bench_module
from ksnet_deploy.measure.speed.bench import Bench
from ksnet_deploy.measure.speed.report import BenchReport
from ksnet_deploy.measure.speed.subjects import Subject
from ksnet_deploy.measure.speed.ways import all_ways

__all__ = ["ONNX", "SIZE", "TORCH", "Bed"]

SIZE = FrameSize(32, 48)
TORCH, ONNX = (next(way for way in all_ways() if way.name == name) for name in ("torch-cpu", "onnxruntime-cpu"))


class Bed:
    """A benchmark of two ways on a machine that is made of stand-ins."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = Time()
        self.machine = 1.0
        self.kernel: str | None = None
        """Kernel of ONNX Runtime's alignment."""
        self.said: list[str] = []
        self.calls: list[tuple[str, str]] = []
        """Initial of the way and what was measured of it, in order."""
        monkeypatch.setattr(Subject, "is_ready", lambda _self, _way: True)
        monkeypatch.setattr(bench_module, "artifact_of", lambda _way, path, *_: path)
        monkeypatch.setattr(bench_module, "layer_shares", lambda *_: {"convolutions": 0.5, "elementwise": 0.5})
        monkeypatch.setattr(bench_module, "find_card", lambda: None)
        floor = Floor(10.0, 9.0, 1.0, 1.0, 1.0, Peaks(1e11, 1e10, "stand-ins"))
        monkeypatch.setattr(bench_module.Limits, "of", lambda _self, _way: floor)

    def bench(
        self, step_s: dict[str, Any], seconds: float = 4.0, subjects: list[Subject] | None = None, **more: Any
    ) -> Bench:
        """``step_s`` has for each way seconds of a step, an iterator of them, or None for one that cannot be opened;
        ``subjects`` are others than lite, and ``more`` is another of lite's fields."""
        ways = [way for way in all_ways() if way.name in step_s]

        def make(label: str, _opener: object, footage: Any) -> StandInChild:
            told = step_s[next(way.name for way in ways if way.label == label)]
            times = itertools.repeat(told) if isinstance(told, float) else told
            runner = None if told is None else ClockedRunner(SIZE, self.time, times)
            if runner is not None and label == ONNX.label:
                runner.kernel = self.kernel
            return StandInChild(
                runner, footage, self.time, lambda method: self.calls.append(({"P": "t", "O": "o"}[label[0]], method))
            )

        subject = Subject("lite", Path("lite.safetensors"), "checkpoint", SIZE, ways, macs=10**8)
        return Bench(
            subjects or [replace(subject, **more)],
            seconds=seconds,
            clock=self.time,
            make_child=make,
            yardstick=lambda: 10.0 * self.machine,
            speed=(100.0, 1.0),
        )

    def result(self, seed: int, slow: float = 1.0, drift: float = 1.0) -> dict[str, Any]:
        """JSON of a run on a machine whose speed is ``drift`` and wanders; ``slow`` is what has become of ONNX
        Runtime's step."""
        rng = np.random.default_rng(seed)
        level = [drift]

        def machine() -> float:
            level[0] = drift * float(np.exp(0.98 * np.log(level[0] / drift) + rng.normal(0, 0.01)))
            self.machine = level[0]
            return level[0]

        steps = {"torch-cpu": noisy(0.1, rng, machine), "onnxruntime-cpu": noisy(0.05 * slow, rng, machine)}
        self.machine = drift
        found: dict[str, Any] = json.loads(json.dumps(self.run(steps, seconds=3.0).as_dict()))
        return found

    def run(self, step_s: dict[str, Any], **more: Any) -> BenchReport:
        return self.bench(step_s, **more).run(on_phase=self.said.append)
