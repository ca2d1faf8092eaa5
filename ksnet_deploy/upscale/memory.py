"""Memory that the network takes, memory that there is, and the tiles that fit into it.

Whether a frame needs tiles is known beforehand from :func:`plan_for_memory` and :func:`available_memory`, or too late
from :func:`is_out_of_memory`: Linux grants memory that it does not have, and then ends the process.
"""

from __future__ import annotations

import contextlib
import sys

from ksnet_deploy.base.errors import BackendError, ConfigError
from ksnet_deploy.base.frames import SCALE, FrameSize
from ksnet_deploy.base.memory import available_memory, is_out_of_memory
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.elements import countable_pixels
from ksnet_deploy.runtime.gpu import free_memory
from ksnet_deploy.runtime.tiles import TilePlan
from ksnet_deploy.upscale.networks import Network
from ksnet_deploy.upscale.values import TileChoice
from ksnet_deploy.upscale.windows import Windows

__all__ = [
    "OVERLAP",
    "PIPELINE_BYTES",
    "RESERVE",
    "available_memory",
    "choose_tiles",
    "is_out_of_memory",
    "memory_needed",
    "plan_for_gpu",
    "plan_for_memory",
    "smaller_tiles",
]

OVERLAP = 32
"""LR pixels that tiles share."""
PIPELINE_BYTES = 16 * 220
"""Bytes for every LR pixel that decoded frames, those waiting between the stages, and the encoder take: 1.8 GB were
measured for 540x960, with H.264 and its usual lookahead."""
RESERVE = 0.9
"""Share of the available memory that may be planned with."""
BASE_BYTES = 120_000_000
BYTES_PER_CHANNEL = {
    ("direct", "deformable"): 285,
    ("direct", "flow"): 205,
    ("progressive", "deformable"): 405,
    ("progressive", "flow"): 320,
}
"""Bytes for the first pixel, and for every LR pixel and channel, of a network by its upsampler and the alignment of its
second branch, without the native kernel, with which they are fewer. ONNX Runtime's arena grows by powers of two, so
that a size may take a quarter less than the next: the figures are of those that take the most."""

GPU_BASE_BYTES = 700_000_000
GPU_BYTES_PER_CHANNEL = {"direct": 50, "progressive": 100}
"""Bytes on a GPU in half precision, likewise, from the sizes of the tensors: three feature maps of the HR frame at once
with two stages, offsets and masks with one. Not yet measured on a GPU; where they are too few, tiles become smaller."""


def choose_tiles(
    size: FrameSize,
    network: Network,
    tiles: TileChoice,
    windows: Windows = Windows(),  # noqa: B008  # a frozen value
    beside_bytes: int | None = None,
) -> TilePlan | None:
    """The tiles to run a network in, on frames of a size; None for whole frames.

    Args:
        windows: that the network takes frames in, and holds.
        beside_bytes: what the process takes beside the network (default: the stages of ``upscale``).

    Raises:
        ConfigError: the network is not run in tiles, or not in such; or none fit into the memory.
    """
    if isinstance(tiles, FrameSize):
        if not network.can_be_tiled:
            raise ConfigError(
                f"{network.label} runs whole frames only here; leave --tiles out, or give a checkpoint for ONNX Runtime"
            )
        return TilePlan.make(size, tiles, OVERLAP) if size.height > tiles.height or size.width > tiles.width else None
    if tiles == "off" or not network.can_be_tiled:
        return None
    config = network.config()
    if network.device == "cuda":
        return None if config is None else plan_for_gpu(size, config, free_memory())
    available = available_memory()
    if available is None or config is None:
        return None
    beside = PIPELINE_BYTES * size.height * size.width if beside_bytes is None else beside_bytes
    left = int(RESERVE * available) - beside
    return plan_for_memory(size, config, left, OVERLAP, windows)


def smaller_tiles(
    error: Exception, size: FrameSize, tiling: TilePlan | None, network: Network, *, may_change: bool, scenes: int = 1
) -> TilePlan:
    """Tiles of at most half the pixels, for frames that did not fit.

    Args:
        error: with which they did not.
        tiling: the tiles that they were run in.
        may_change: whether other tiles may be taken.
        scenes: that go side by side.

    Raises:
        Exception: ``error``, where the memory was not why.
        BackendError: there are no smaller ones.
    """
    if not is_out_of_memory(error):
        raise error
    tile = tiling.tile if tiling else size.padded
    remedy = "smaller tiles with --tiles"
    if scenes > 1:
        remedy = "a smaller --scenes-in-flight"
    elif not network.can_be_tiled:
        remedy = "smaller frames, or a checkpoint for ONNX Runtime, which takes frames in tiles"
    elif may_change:
        with contextlib.suppress(ConfigError):
            return TilePlan.make(size.padded, tile.height * tile.width // 2, OVERLAP)
        remedy = "smaller frames"  # as no smaller tiles are left
    raise BackendError(
        f"the memory does not hold the network on frames of {size}; close other programs, or give {remedy}"
    ) from error


def memory_needed(
    size: FrameSize,
    config: KSNetConfig,
    plan: TilePlan | None = None,
    windows: Windows = Windows(),  # noqa: B008  # a frozen value
) -> int:
    """Bytes that a process takes to upscale frames, whole or in tiles, in ONNX Runtime on the CPU: in proportion to
    pixels and channels, from above the peaks in ``benchmarks/results/tiling.json``."""
    runner = plan.tile if plan else size
    per_channel = BYTES_PER_CHANNEL[config.upsampler, config.refine_alignment]
    needed = BASE_BYTES + per_channel * config.channels * runner.height * runner.width
    if plan:
        picture = 3 * SCALE**2 * (4 + 1)  # the blend in float32, and the frame it becomes
        state = 4 * (5 * config.channels + 5)
        # Tiles in lockstep hold as much as half of their state again while they wait for one another.
        needed += picture * size.height * size.width + 3 * state // 2 * plan.pixels
    return needed + windows.bytes(size, config, plan.pixels if plan else None)


def memory_needed_on_gpu(size: FrameSize, config: KSNetConfig, plan: TilePlan | None = None) -> int:
    """Bytes that a GPU needs for frames, whole or in tiles, in half precision."""
    tile = plan.tile if plan else size
    needed = GPU_BASE_BYTES + GPU_BYTES_PER_CHANNEL[config.upsampler] * config.channels * tile.height * tile.width
    return needed + (_held_on_gpu(config) * plan.pixels if plan else 0)


def _held_on_gpu(config: KSNetConfig) -> int:
    """Bytes for every pixel of all tiles in lockstep, which hold as much as half of their state again while they wait
    for one another."""
    return 3 * 2 * (5 * config.channels + 5) // 2


def plan_for_gpu(size: FrameSize, config: KSNetConfig, free_bytes: int | None) -> TilePlan | None:
    """The largest tiles that a GPU holds and counts, of whose memory so much is free; None when it does whole frames.

    Raises ConfigError where there are none.
    """
    left = sys.maxsize if free_bytes is None else int(RESERVE * free_bytes)
    largest, countable = size.height * size.width, countable_pixels(config)
    if memory_needed_on_gpu(size, config) <= left and largest <= countable:
        return None
    largest = min(largest, countable + 1)
    with contextlib.suppress(ConfigError):
        # What waits alone may be too much, which is known without a search.
        while GPU_BASE_BYTES + _held_on_gpu(config) * size.height * size.width <= left:
            plan = TilePlan.make(size, largest - 1, OVERLAP)
            if memory_needed_on_gpu(size, config, plan) <= left:
                return plan
            largest = plan.tile.height * plan.tile.width
    raise ConfigError(
        f"no tiles of frames of {size} that overlap by {OVERLAP} pixels fit into the {left / 1e9:.1f} GB that are left "
        "on the GPU; close other programs that use it, give smaller frames, or use --device cpu"
    )


def plan_for_memory(
    size: FrameSize,
    config: KSNetConfig,
    available_bytes: int,
    overlap: int,
    windows: Windows = Windows(),  # noqa: B008  # a frozen value
) -> TilePlan | None:
    """The largest tiles that can be upscaled in so much memory; None when whole frames can. ConfigError if none can."""
    if (whole := memory_needed(size, config, windows=windows)) <= available_bytes:
        return None
    largest = size.height * size.width
    try:
        while True:
            plan = TilePlan.make(size, largest - 1, overlap)
            if memory_needed(size, config, plan, windows) <= available_bytes:
                return plan
            largest = plan.tile.height * plan.tile.width
    except ConfigError as error:
        raise ConfigError(
            f"the network needs {whole / 1e9:.1f} GB of memory for frames of {size}, and no tiles that overlap by "
            f"{overlap} pixels fit into the {max(available_bytes, 0) / 1e9:.1f} GB that are left for it; free memory, "
            f"give smaller frames, {'' if windows == Windows() else 'a smaller --window, '}or try with --tiles off"
        ) from error
