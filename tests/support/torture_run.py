"""Upscaling of the torture set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runners import RepeatRunner
from torture import NoCuts

from ksnet_deploy.upscale.result import UpscaleResult
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler


def upscale(source: Path, target: Path | None = None, **settings: Any) -> UpscaleResult:
    return upscale_video(source, target, Upscaler(open_runner=RepeatRunner), detector=NoCuts(), **settings)
