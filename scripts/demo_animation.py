"""The moving picture of the README: the bundled clip, wiped from bicubic to the bundled lite, as animated WebP.

python scripts/demo_animation.py docs/before_after.webp
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from demo_panels import with_name
from numpy.typing import NDArray
from PIL import Image

from ksnet_deploy import Upscaler
from ksnet_deploy.measure.degradation import enlarge_bicubic
from ksnet_deploy.measure.layout import Layout
from ksnet_deploy.video.reading.reader import VideoReader

CLIP = Path(__file__).parents[1] / "ksnet_deploy" / "bundled" / "city_lr.mp4"
REGION = (slice(40, 272), slice(44, 456))  # rows and columns of the HR frame that are shown
ZOOM = 2
EVERY = 2
"""Every other frame is shown, for its duration and the next one's: so the file stays small."""
QUALITY = 50  # of 100, of WebP


def pictures(clip: Path) -> tuple[list[NDArray[np.uint8]], int]:
    """The frames that are shown, (H, W, 3), and the milliseconds that each is."""
    frames, times = [], []
    with VideoReader(clip) as reader, Upscaler("lite") as upscaler:
        for frame in reader.frames():
            frames.append((enlarge_bicubic(frame.rgb), upscaler.push(frame.rgb)))
            times.append(float(frame.pts * reader.time_base))
    layout, shown = Layout("wipe"), []
    for number, versions in enumerate(frames[::EVERY]):
        # From the right edge to the left and back, once in the clip, so that the end meets the beginning.
        turned = abs(1 - 2 * number * EVERY / len(frames))
        bicubic, lite = (picture[REGION].repeat(ZOOM, axis=0).repeat(ZOOM, axis=1) for picture in versions)
        wiped = layout.compose(bicubic, lite, 0.1 + 0.8 * turned)
        shown.append(with_name(with_name(wiped, "bicubic"), "KSNet-lite", right=True))
    return shown, round(1000 * EVERY * (times[-1] - times[0]) / (len(times) - 1))


def main(target: Path) -> None:
    shown, duration_ms = pictures(CLIP)
    first, *others = [Image.fromarray(picture) for picture in shown]
    first.save(target, save_all=True, append_images=others, duration=duration_ms, loop=0, quality=QUALITY, method=6)
    print(f"{target}: {len(shown)} frames of {first.height}x{first.width}, {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
