"""Sequence that proofs are made over: a pattern that moves, its types, its length and its reset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.errors import ConfigError
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.runtime.base import Runner

__all__ = [
    "PROOF_SIZE",
    "check_frames",
    "moving_pattern",
    "proof_frames",
    "proof_size",
    "reset_before",
    "sequence_in_words",
]

PROOF_SIZE = FrameSize(72, 128)
"""Size of frames that are compared where any size would do: one of 180x320 takes uni seven seconds. What is compared,
the rounding of weights and results, does not depend on the size."""
LEAST_FRAMES = 2
LEAST_FRAMES_WITH_RESET = 4
"""Least number of frames with a reset, so that on each side of it a frame follows another."""

FloatFrame = NDArray[np.float32]


def proof_size(size: FrameSize) -> FrameSize:
    """The size to compare at what is for a size: that size, or :data:`PROOF_SIZE` where a side is longer."""
    return FrameSize(min(size.height, PROOF_SIZE.height), min(size.width, PROOF_SIZE.width))


def moving_pattern(size: FrameSize, frames: int, seed: int = 0) -> Iterator[FloatFrame]:
    """Textured test frames that drift by a few pixels each, (H, W, 3) in [0, 1] on 8-bit levels."""
    rng = np.random.default_rng(seed)
    waves = 24
    frequency = rng.normal(0, 0.6, (waves, 2))  # radians per pixel
    velocity = rng.uniform(-2, 2, 2)  # pixels per frame, (y, x)
    phase = rng.uniform(0, 2 * np.pi, (waves, 3))
    amplitude = rng.uniform(0.2, 1, (waves, 3)) / np.sqrt(waves)
    y, x = np.mgrid[: size.height, : size.width]
    for index in range(frames):
        dy, dx = velocity * index
        angle = np.multiply.outer(frequency[:, 0], y + dy) + np.multiply.outer(frequency[:, 1], x + dx)
        image = 0.5 + 0.35 * sum(amplitude[i] * np.sin(angle[i][..., None] + phase[i]) for i in range(waves))
        yield (np.rint(np.clip(image, 0, 1) * 255) / 255).astype(np.float32)


def proof_frames(runner: Runner, count: int) -> list[NDArray[Any]]:
    """A synthetic sequence of the size and frame type of a runner."""
    images = moving_pattern(runner.size, count)
    if runner.io == "uint8":
        return [np.rint(image * 255).astype(np.uint8) for image in images]
    return [image.astype(runner.io) for image in images]


def check_frames(count: int) -> None:
    """Raise ConfigError for a sequence that is too short to compare anything recurrent."""
    if count < LEAST_FRAMES:
        raise ConfigError(
            f"a recurrent network cannot be verified over {count} frame, which follows no other; give "
            f"--verify-frames {LEAST_FRAMES} or more, or 0 to leave the verification out"
        )


def reset_before(count: int) -> int | None:
    """The frame of a sequence before which both sides forget the past: the middle one; None in one of 2 or 3."""
    return count // 2 if count >= LEAST_FRAMES_WITH_RESET else None


def sequence_in_words(count: int, size: FrameSize, reset_at: int | None) -> str:
    """``8 recurrent frames at 72x128, reset at 4``."""
    return f"{count} recurrent frames at {size}, {'no reset' if reset_at is None else f'reset at {reset_at}'}"
