"""Upscaling by repetition, and what it leaves."""

from __future__ import annotations

from pathlib import Path

from runners import RepeatRunner

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.result import UpscaleResult
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler

SIZE = FrameSize(32, 48)


def upscale(source: Path, target: Path | None = None, **settings: object) -> UpscaleResult:
    return upscale_video(source, target, Upscaler(open_runner=RepeatRunner), **settings)  # type: ignore[arg-type]


def visible_files(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}
