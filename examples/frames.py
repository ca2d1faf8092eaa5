"""Frames in, frames four times larger out: python examples/frames.py [VIDEO].

Without a video, the frames are generated. The last of them is written to frames_x4.png.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from ksnet_deploy import Upscaler

FRAMES = 5


def generated() -> Iterator[NDArray[np.uint8]]:
    """A pattern that moves to the right, (72, 128, 3)."""
    y, x = np.mgrid[:72, :128]
    for index in range(FRAMES):
        rings = 127.5 + 127.5 * np.sin(np.hypot(y - 36, x - 40 - 2 * index) / 2)
        yield np.stack([rings, 255 - rings, x * 255 / 127], axis=-1).astype(np.uint8)


def decoded(video: Path) -> Iterator[NDArray[np.uint8]]:
    """The first frames of a video, (H, W, 3) RGB."""
    with av.open(str(video)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index == FRAMES:
                return
            yield frame.to_ndarray(format="rgb24")


def main(frames: Iterable[NDArray[np.uint8]], upscaler: Upscaler, picture: Path) -> None:
    larger = None
    with upscaler:
        for index, frame in enumerate(frames):
            # upscaler.reset() would begin a new scene here.
            larger = upscaler.push(frame)
            print(f"frame {index}: {frame.shape} -> {larger.shape}, {larger.dtype}")
    if larger is not None:
        av.VideoFrame.from_ndarray(larger, format="rgb24").save(str(picture))
        print(f"{picture}: the last frame; {upscaler.step_s / upscaler.steps * 1000:.0f} ms a step")


if __name__ == "__main__":
    source = decoded(Path(sys.argv[1])) if len(sys.argv) > 1 else generated()
    main(source, Upscaler("lite"), Path("frames_x4.png"))
