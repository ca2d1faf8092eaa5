"""Clips to train and measure on, made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ksnet_deploy.video.clips.clip import Clip, Region


class ArrayClip(Clip):
    """A clip in memory."""

    def __init__(self, frames: np.ndarray, name: str = "array") -> None:
        self.array, self.name = frames, name
        self.frames, self.height, self.width = frames.shape[:3]

    def read(self, start: int, count: int, region: Region | None = None) -> np.ndarray:
        top, left, height, width = region or (0, 0, self.height, self.width)
        return self.array[start : start + count, top : top + height, left : left + width]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth_picture(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [127 + 60 * np.sin(0.11 * x + 0.05 * c * y) + 60 * np.cos(0.09 * y - 0.03 * c * x) for c in range(3)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def moving_grain(frames: int, height: int, width: int) -> np.ndarray:
    """A smooth picture that moves, with some grain in it that does not change."""
    picture = smooth_picture(height, width + 2 * frames).astype(int) + noise(height, width + 2 * frames, 3) // 16
    picture = np.clip(picture, 0, 255).astype(np.uint8)
    return np.stack([picture[:, 2 * t : 2 * t + width] for t in range(frames)])


def folder_of_frames(folder: Path, frames: np.ndarray, first: int = 0) -> Path:
    from ksnet_deploy.video.picture import write_png  # which needs PyAV

    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        write_png(folder / f"{first + index:08d}.png", frame)
    return folder
