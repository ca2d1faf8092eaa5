"""Speeds that were measured on this machine, kept in the cache folder, so that they can be told later."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.sealed import read_sealed, write_sealed
from ksnet_deploy.export.cache import SPEEDS_NAME, cache_folder, made_cache_folder
from ksnet_deploy.measure.speed.report import BenchReport
from ksnet_deploy.measure.speed.subjects import Subject

__all__ = ["MeasuredSpeed", "keep_speed", "keep_speeds", "measured_speeds"]


@dataclass(frozen=True)
class MeasuredSpeed:
    """Frames per second of a network here, the latest that was measured."""

    weights_sha256: str
    size: str
    """Size of the LR frames, ``72x128``."""
    runtime: str
    """Name of the way, as ``bench`` has it: ``onnxruntime-cpu``, for example."""
    what: str
    """``step`` for the network alone, ``file`` for the way from file to file."""
    fps: float


def keep_speed(weights: Path, size: FrameSize, runtime: str, what: str, fps: float) -> None:
    """Keep a speed in the place of an older one of the same. Where the cache cannot be written, nothing is kept."""
    new = MeasuredSpeed(sha256_of(weights), str(size), runtime, what, round(fps, 3))
    same = (new.weights_sha256, new.size, runtime, what)
    others = [each for each in measured_speeds() if (each.weights_sha256, each.size, each.runtime, each.what) != same]
    with contextlib.suppress(OSError, OutputError):  # a by-product, for which no command is to fail
        write_sealed(made_cache_folder() / SPEEDS_NAME, {"speeds": [asdict(each) for each in [*others, new]]})


def keep_speeds(subjects: Sequence[Subject], report: BenchReport) -> None:
    """Keep what a benchmark measured of checkpoints."""
    weights = {(subject.label, subject.size): subject.path for subject in subjects if subject.kind == "checkpoint"}
    for group in report.groups:
        path = weights.get((group.model, group.size))
        if path is None:
            continue
        for row in group.rows:
            keep_speed(path, group.size, row.way.name, "step", row.engine.fps)
            keep_speed(path, group.size, row.way.name, "file", row.end_to_end_fps)


def measured_speeds() -> list[MeasuredSpeed]:
    """All that are kept; none where the file is missing or damaged.

    Those of older versions are left out, as ``onnxruntime on cpu`` may have been in int8.
    """
    try:
        found = [MeasuredSpeed(**each) for each in read_sealed(cache_folder() / SPEEDS_NAME)["speeds"]]
        return [each for each in found if " on " not in each.runtime]
    except (OSError, ValueError, TypeError, KeyError):
        return []
