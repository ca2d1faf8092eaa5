"""Memory that the network takes, memory that there is, and the tiles that fit into it.

Whether a frame needs tiles is known beforehand from :func:`plan_for_memory` and :func:`available_memory`, or too late
from :func:`is_out_of_memory`: Linux grants memory that it does not have, and then ends the process.
"""

from __future__ import annotations

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.frames import SCALE, FrameSize
from ksnet_deploy.base.memory import available_memory, is_out_of_memory
from ksnet_deploy.network.config import KSNetConfig
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
BASE_BYTES = 140_000_000
BYTES_PER_CHANNEL = {"direct": 350, "progressive": 430}
"""Bytes for the first pixel, and for every LR pixel and channel, of a network by its upsampler."""


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
    if tiles == "off" or network.device == "cuda" or not network.can_be_tiled:
        return None
    available, config = available_memory(), network.config()
    if available is None or config is None:
        return None
    beside = PIPELINE_BYTES * size.height * size.width if beside_bytes is None else beside_bytes
    left = int(RESERVE * available) - beside
    return plan_for_memory(size, config, left, OVERLAP, windows)


def smaller_tiles(size: FrameSize, tiling: TilePlan | None, network: Network) -> TilePlan | None:
    """Tiles of at most half the pixels, for a frame that did not fit; None where there are none."""
    if not network.can_be_tiled:
        return None
    tile = tiling.tile if tiling else size
    try:
        return TilePlan.make(size, tile.height * tile.width // 2, OVERLAP)
    except ConfigError:
        return None


def memory_needed(
    size: FrameSize,
    config: KSNetConfig,
    plan: TilePlan | None = None,
    windows: Windows = Windows(),  # noqa: B008  # a frozen value
) -> int:
    """Bytes that a process takes to upscale frames, whole or in tiles, in ONNX Runtime on the CPU: in proportion to
    pixels and channels, from above the peaks in ``benchmarks/results/tiling.json``."""
    runner = plan.tile if plan else size
    needed = BASE_BYTES + BYTES_PER_CHANNEL[config.upsampler] * config.channels * runner.height * runner.width
    if plan:
        picture = 3 * SCALE**2 * (4 + 1)  # the blend in float32, and the frame it becomes
        state = 4 * (5 * config.channels + 5)
        # Tiles in lockstep hold as much as half of their state again while they wait for one another.
        needed += picture * size.height * size.width + 3 * state // 2 * plan.pixels
    return needed + windows.bytes(size, config, plan.pixels if plan else None)


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
