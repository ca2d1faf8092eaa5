"""The moving picture of the README: a part of the bundled clip by bicubic and by the bundled lite, as animated WebP.

python scripts/demo_animation.py docs/before_after.webp
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from demo_panels import side_by_side
from numpy.typing import NDArray
from PIL import Image

from ksnet_deploy import Upscaler
from ksnet_deploy.measure.degradation import enlarge_bicubic
from ksnet_deploy.video.reading.reader import VideoReader

CLIP = Path(__file__).parents[1] / "ksnet_deploy" / "bundled" / "city_lr.mp4"
REGION = (slice(100, 228), slice(56, 256))  # rows and columns of the HR frame that are shown
ZOOM = 2
QUALITY = 50  # of 100, of WebP: 75 frames stay below 1 MB


def pictures(clip: Path) -> tuple[list[NDArray[np.uint8]], int]:
    """Every frame's two panels in one, (H, W, 3), and the milliseconds that each is shown."""
    shown, times = [], []
    with VideoReader(clip) as reader, Upscaler("lite") as upscaler:
        for frame in reader.frames():
            panels = {"bicubic": enlarge_bicubic(frame.rgb), "KSNet-lite": upscaler.push(frame.rgb)}
            shown.append(side_by_side({name: panel[REGION] for name, panel in panels.items()}, ZOOM))
            times.append(float(frame.pts * reader.time_base))
    return shown, round(1000 * (times[-1] - times[0]) / (len(times) - 1))


def main(target: Path) -> None:
    shown, duration_ms = pictures(CLIP)
    first, *others = [Image.fromarray(picture) for picture in shown]
    first.save(target, save_all=True, append_images=others, duration=duration_ms, loop=0, quality=QUALITY, method=6)
    print(f"{target}: {len(shown)} frames, {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
