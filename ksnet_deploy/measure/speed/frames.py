"""Frames to measure with: the bundled clip, or another, at a size."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.network.bundled import CLIP as BENCH_CLIP

__all__ = ["BENCH_CLIP", "moving_frames"]


def moving_frames(size: FrameSize, count: int = 8) -> list[NDArray[np.uint8]]:
    """Natural-looking uint8 frames in motion, (H, W, 3): the bundled clip, tiled to the size."""
    from ksnet_deploy.video.reading.reader import VideoReader

    frames: list[NDArray[np.uint8]] = []
    with VideoReader(BENCH_CLIP) as reader:
        repeat = (-(-size.height // reader.size.height), -(-size.width // reader.size.width), 1)
        for frame in itertools.islice(reader.frames(), count):
            frames.append(np.ascontiguousarray(np.tile(frame.rgb, repeat)[: size.height, : size.width]))
    return frames
