"""A training's progress on the terminal and in a plot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ksnet_deploy.cli.training_run import carry_out
from ksnet_deploy.training.log import Progress


def test_a_training_does_not_end_over_a_picture_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ksnet_deploy.measure.plotting.plot_log", full)

    def run(_request: Any, _start: Any, report: Callable[[Progress], None], _note: Any) -> Path:
        report(Progress(1, 1.0, 1e-3, 1.0, 1.0, 0.0, {"psnr": 20.0}))
        return tmp_path / "net.safetensors"

    carry_out(run, None, tmp_path)
    out, err = capsys.readouterr()
    assert out.strip() == str(tmp_path / "net.safetensors")
    assert "log.png could not be drawn (No space left on device)" in err
