"""Pretraining of the flow network on synthetic motion with known flow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from ksnet_deploy.base.errors import ConfigError, InputError
from ksnet_deploy.network.flow import SpyNet
from ksnet_deploy.network.weights_file import save_state_dict
from ksnet_deploy.training.dataset import Draw, DrawSampler, clips_identity
from ksnet_deploy.training.loading import loaded
from ksnet_deploy.training.motion import flow_pair
from ksnet_deploy.training.recipe import Recipe, check_batches
from ksnet_deploy.training.task import Task
from ksnet_deploy.training.world import World
from ksnet_deploy.video.clips.clip import Clip

__all__ = ["FlowTask", "end_point_error", "measure_flow"]

MAX_FLOW_PX = 8.0
"""Longest motion of the pairs, at LR size."""
LEVEL_WEIGHT = 0.5
"""Weight of a level's loss relative to the next finer one, both in pixels of the full size."""
TEST_PAIRS, TEST_PX, TEST_SEED = 128, 128, 20231029


class FlowPairs(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Pairs of LR frames with known flow, reproducible from (seed, draw)."""

    def __init__(self, clips: Sequence[Clip], seed: int) -> None:
        self.clips, self.seed = list(clips), seed

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, draw.iteration, draw.index))
        clip = self.clips[rng.integers(len(self.clips))]
        picture = _lr_picture(clip, draw.patch_px, rng)
        return flow_pair(picture, draw.patch_px, draw.patch_px, MAX_FLOW_PX, rng)


def _check_room(clips: Sequence[Clip], patch_px: int) -> None:
    needed = patch_px + 2 * int(MAX_FLOW_PX)
    for clip in clips:
        if min(clip.height, clip.width) < needed:
            raise InputError(
                f"{clip} is {clip.height}x{clip.width} (height x width); flow patches of {patch_px} "
                f"pixels and their motion need {needed}, so leave it out"
            )


def _lr_picture(clip: Clip, patch_px: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random part of a random frame, large enough for a patch and its motion, averaged over blocks of up to 4x4."""
    side = patch_px + 2 * int(MAX_FLOW_PX)
    factor = min(min(clip.height, clip.width) // side, 4)
    extent = side * factor
    top, left = (int(rng.integers(length - extent + 1)) for length in (clip.height, clip.width))
    picture = clip.read(int(rng.integers(clip.frames)), 1, (top, left, extent, extent))[0]
    planes = torch.from_numpy(picture).permute(2, 0, 1).float()
    return F.avg_pool2d(planes, factor).round_().byte().permute(1, 2, 0).numpy()


def end_point_error(found: Tensor, expected: Tensor) -> Tensor:
    """Mean length of the difference of two flows (N, 2, H, W), in pixels."""
    return (found - expected).float().square().sum(dim=1).add(1e-8).sqrt().mean()


@torch.no_grad()
def measure_flow(model: SpyNet, clips: Sequence[Clip], *, pairs: int = TEST_PAIRS, side_px: int = TEST_PX) -> float:
    """Mean end-point error in pixels, over all pixels of fixed pairs cut from the clips, motion up to 8 px.

    Where the motion leads out of the second frame, the flow can only be guessed; those pixels count too.
    """
    drawn = FlowPairs(clips, TEST_SEED)
    errors = []
    device = next(model.parameters()).device
    for index in range(pairs):
        parts = drawn[Draw(0, index, 1, side_px)]
        first, second, flow = (part[None].to(device) for part in parts)
        errors.append(float(end_point_error(model(first, second), flow)))
    return float(np.mean(errors))


class FlowTask(Task):
    """SpyNet, all its levels at once, each supervised with the flow at its size."""

    origins = "--init or --precision"
    steadier = "larger batches by --stage, or --precision fp32"  # the rates are fixed

    def __init__(
        self,
        model: SpyNet,
        clips: Sequence[Clip],
        validation: Sequence[Clip],
        recipe: Recipe,
        target: Path,
        *,
        seed: int,
        workers: int = 0,
    ) -> None:
        self.model: SpyNet = model
        self.iterations, self.ema_decay, self.gradient_norm = recipe.iterations, recipe.ema_decay, recipe.gradient_norm
        self.recipe, self.target, self.workers = recipe, target, workers
        for stage in recipe.stages:
            if stage.patch_px % 32:  # else the pyramid pads the frames, and its levels are not the flow's fractions
                raise ConfigError(
                    f"flow patches of {stage.patch_px} pixels are no multiple of 32; choose 32, 64 or 128"
                )
        _check_room(clips, max(stage.patch_px for stage in recipe.stages))
        _check_room(validation, TEST_PX)
        self.validation = list(validation)
        self.left_out = SpyNet.LEVELS - len(model.levels)
        self.pairs = FlowPairs(clips, seed)
        self.identity = {
            "network": f"SpyNet {model.channels}" + (f", {len(model.levels)} levels" if self.left_out else ""),
            **clips_identity(clips),
            "seed": str(seed),
            "recipe": recipe.to_json(),
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.model.parameters()), "role": "main"}]

    def rate(self, role: str, iteration: int) -> float:  # noqa: ARG002 (there is one role)
        return self.recipe.rate(iteration)

    def batches(self, start: int, world: World) -> Iterable[tuple[Tensor, ...]]:
        check_batches(self.recipe, world.size)
        sampler = DrawSampler(self.recipe.stages, start, world.rank, world.size)
        return loaded(self.pairs, sampler, workers=self.workers)

    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        first, second, flow = batch
        total = flow.new_zeros(())
        for level, found in enumerate(reversed(self.model.pyramid(first, second)), start=self.left_out):
            shrunk = F.interpolate(flow, size=found.shape[-2:], mode="area") / 2**level
            total = total + LEVEL_WEIGHT**level * end_point_error(found, shrunk) * 2**level
        return total

    def validate(self, model: nn.Module) -> Mapping[str, float]:
        assert isinstance(model, SpyNet)
        return {"epe_px": measure_flow(model, self.validation)} if self.validation else {}

    def save(self, model: nn.Module, iteration: int, figures: Mapping[str, float]) -> None:
        note = " ".join(f"{name}={value:.4f}" for name, value in figures.items())
        metadata = {"format": "spynet", "iterations": str(iteration), "figures": note}
        save_state_dict(model.state_dict(), self.target, metadata)
