"""Scenes side by side: what they do not go together with, and the memory that they take."""

from __future__ import annotations

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.upscale.memory import PIPELINE_BYTES, RESERVE, available_memory, memory_needed
from ksnet_deploy.upscale.networks import Network
from ksnet_deploy.upscale.values import TileChoice

__all__ = ["check_memory", "check_scenes", "most_waiting", "several_at_once"]

WAITING_BYTES = 64 << 20
"""Bytes of frames that may wait for each scene in flight: 16 seconds of 180x320, so that the longest of several scenes
need not be the next."""
MEMORY_SHARE = 8
"""Part of the free memory, as a divisor, that waiting frames take at most."""


def check_scenes(scenes: int, network: Network, tiles: TileChoice) -> None:
    """Raise ConfigError where so many scenes do not go side by side through a network."""
    if scenes < 1:
        raise ConfigError(f"{scenes} scenes in flight upscale nothing; give 1 or more")
    if scenes > 1 and network.is_bidirectional:
        raise ConfigError(
            f"{network.label} takes windows of one scene at a time; leave --scenes-in-flight out, or give a network "
            "such as 'uni'"
        )
    if scenes > 1 and isinstance(tiles, FrameSize):
        raise ConfigError(f"tiles of {tiles} are taken of one scene at a time; leave --tiles or --scenes-in-flight out")


def check_memory(size: FrameSize, network: Network, scenes: int) -> None:
    """Raise ConfigError where the memory does not hold several scenes, in whole frames, with an encoder for each."""
    available, config = available_memory(), network.config()
    if scenes == 1 or network.device == "cuda" or available is None or config is None:
        return
    needed = memory_needed(FrameSize(scenes * size.height, size.width), config)
    needed += scenes * PIPELINE_BYTES * size.height * size.width
    if needed > RESERVE * available:
        raise ConfigError(
            f"{scenes} scenes of {size} side by side take {needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} "
            "GB are free; give a smaller --scenes-in-flight"
        )


def several_at_once(scenes: int) -> ConfigError:
    """The refusal of frames of one scene, where several were to go side by side."""
    return ConfigError(
        f"{scenes} scenes in flight are of a video file, from which frames of several scenes come at once; leave them "
        "out for frames of one scene after the other"
    )


def most_waiting(scenes: int) -> int:
    """Bytes of frames that may wait for so many scenes in flight."""
    free, most = available_memory(), WAITING_BYTES * scenes
    return most if free is None else min(most, free // MEMORY_SHARE)
