"""Compare the demo's output with bicubic and the original: PSNR, timestamps, sound, and a before/after picture."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from demo_panels import side_by_side
from numpy.typing import NDArray

from ksnet_deploy.base.frames import SCALE
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.measure.degradation import enlarge_bicubic
from ksnet_deploy.video.picture import write_png
from ksnet_deploy.video.reading.reader import VideoReader

SHOWN_FRAME = 30
REGION = (slice(100, 228), slice(60, 252))  # rows and columns of the HR frame that the picture shows
ZOOM = 2


def read(path: Path) -> tuple[list[NDArray[np.uint8]], list[float], int]:
    """Frames, their times in seconds, and the number of packets in the other tracks."""
    frames, times = [], []
    with VideoReader(path) as reader:
        for frame in reader.frames():
            frames.append(frame.rgb)
            times.append(float(frame.pts * reader.time_base))
        with reader.reopened() as tracks:
            packets = sum(1 for _ in tracks.copied_packets())
    return frames, times, packets


def main(source: Path, result: Path, original: Path, picture: Path) -> None:
    lr, lr_times, lr_sound = read(source)
    sr, sr_times, sr_sound = read(result)
    hr, _, _ = read(original)
    if sr_times != lr_times or sr_sound != lr_sound:
        sys.exit("Error: the timestamps or the sound of the result differ from the source's.")
    if any(a.shape[0] != SCALE * b.shape[0] or a.shape[1] != SCALE * b.shape[1] for a, b in zip(sr, lr, strict=True)):
        sys.exit("Error: the result is not four times the source's size.")
    bicubic = [enlarge_bicubic(frame) for frame in lr]
    quality, yardstick = (np.mean([psnr(a, b) for a, b in zip(found, hr, strict=True)]) for found in (sr, bicubic))
    panels = {"bicubic": bicubic, "KSNet-uni": sr, "original": hr}
    write_png(picture, side_by_side({name: frames[SHOWN_FRAME][REGION] for name, frames in panels.items()}, ZOOM))
    print(f"Four times the size, the same {len(sr)} timestamps and {sr_sound} sound packets as the source.")
    print(f"PSNR against the original: {quality:.2f} dB, bicubic {yardstick:.2f} dB (RGB, mean of {len(sr)} frames)")
    print(f"Result:  {result}")
    print(f"Picture: {picture} (bicubic, result, original)")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
