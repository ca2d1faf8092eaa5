"""Memory that a training takes at the least, so that a batch which cannot fit is refused instead of killed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ksnet_deploy.base.frames import SCALE
from ksnet_deploy.base.words import counted
from ksnet_deploy.export.memory import check_memory
from ksnet_deploy.training.recipe import Stage
from ksnet_deploy.training.world import World

__all__ = ["check_batch_memory", "pair_bytes", "window_bytes"]

VALUES = 3 * (1 + SCALE**2)
"""Values of LR and HR for every LR pixel."""
MAPS = 10
"""Feature maps in float32 that the backward pass keeps of each frame; every network keeps more."""


def window_bytes(stage: Stage, channels: int, *, trained: bool) -> int:
    """Bytes that a window takes at the least: its frames in uint8 and, ``trained`` in the same memory, as on a CPU,
    those in float32 and what the backward pass keeps."""
    per_pixel = VALUES + (4 * (VALUES + MAPS * channels) if trained else 0)
    return stage.frames * stage.patch_px**2 * per_pixel


def pair_bytes(stage: Stage) -> int:
    """Bytes that two frames and their flow take when a flow network is trained; what it makes of them left out."""
    return stage.patch_px**2 * (2 * 3 + 2 * 4)


def check_batch_memory(stages: Sequence[Stage], world: World, sample_bytes: Callable[[Stage], int]) -> None:
    """Raise ConfigError for a stage whose batches cannot be held here."""
    for stage in stages:
        check_memory(
            f"to hold a batch of {counted(stage.batch, 'window')} of {counted(stage.frames, 'frame')} and "
            f"{stage.patch_px}-pixel patches",
            -(-stage.batch // world.size) * sample_bytes(stage),
            "choose a smaller one with --stage",
        )
