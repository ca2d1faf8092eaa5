"""A training that costs little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from clips import ArrayClip, smooth_picture
from networks import randomise

from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.training.ksnet_task import KSNetTask
from ksnet_deploy.training.loop_settings import LoopSettings
from ksnet_deploy.training.recipe import OptimizerName, Recipe, Stage
from ksnet_deploy.training.run import TrainingRequest
from ksnet_deploy.training.world import World

TINY = KSNetConfig(channels=8, extract_blocks=1, deform_groups=2, flow_channels=4, flow_levels=2, offset_channels=4)
CPU = World(0, 1, torch.device("cpu"))


def moving_clip(frames: int = 6, name: str = "array") -> ArrayClip:
    picture = smooth_picture(128, 160)
    return ArrayClip(np.stack([np.roll(picture, 3 * t, axis=1)[:96, :96] for t in range(frames)]), name)


def tiny_task(
    folder: Path, recipe: Recipe | None = None, optimizer: OptimizerName = "adam", **options: Any
) -> KSNetTask:
    stages = (Stage(6, 2, 2, 16), Stage(2, 2, 3, 16))
    recipe = recipe or Recipe(stages, learning_rate=1e-3, flow_frozen=3, warm_up=2, optimizer=optimizer)
    torch.manual_seed(0)
    model = randomise(KSNet(TINY))
    options = {"seed": 7, "licence": "test"} | options
    return KSNetTask(model, [moving_clip()], [], recipe, folder / "net.safetensors", **options)


def settings(folder: Path, **options: Any) -> LoopSettings:
    """Settings that log each iteration and save the last one only, which takes as long as an iteration."""
    return LoopSettings(folder, **{"log_every": 1, "save_every_s": 1e9} | options)  # type: ignore[arg-type]


def request(tmp_path: Path, data: Path, **options: Any) -> TrainingRequest:
    options = {"size": "lite", "stages": ("2:1x2x16",)} | options
    return TrainingRequest(data=(data,), folder=tmp_path / "run", **options)
