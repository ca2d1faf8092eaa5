"""The still picture of compressed video: the bundled clip through H.264, enlarged by bicubic, lite and lite-video.

python scripts/demo_compressed.py docs/compressed.png [CRF]
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
from demo_panels import side_by_side

from ksnet_deploy import Upscaler
from ksnet_deploy.base.metrics import luma, psnr
from ksnet_deploy.measure.degradation import degrade, enlarge_bicubic
from ksnet_deploy.video.compression import Compression, compress
from ksnet_deploy.video.picture import write_png
from ksnet_deploy.video.reading.reader import VideoReader

CLIP = Path(__file__).parents[1] / "ksnet_deploy" / "bundled" / "city_hr.mp4"
FRAMES = 30
SHOWN = 24
"""Frame that is shown: late enough that the encoder has left its first keyframe behind."""
REGION = (slice(100, 228), slice(60, 200))  # rows and columns of the HR frame that are shown
ZOOM = 2


def main(target: Path, crf: int) -> None:
    with VideoReader(CLIP) as reader:
        hr = np.stack([frame.rgb for frame in itertools.islice(reader.frames(eight_bits=True), FRAMES)])
    lr = compress(degrade(hr, "BI"), Compression.usual("h264", crf))
    shown = {f"bicubic, CRF {crf}": enlarge_bicubic(lr[SHOWN])}
    for model in ("lite", "lite-video"):
        with Upscaler(model) as upscaler:
            shown[f"KSNet-{model}"] = [*upscaler.upscale(lr)][SHOWN]
    for name, picture in shown.items():
        print(f"{name}: {psnr(luma(picture), luma(hr[SHOWN])):.2f} dB (Y)")
    panels = {name: picture[REGION] for name, picture in (shown | {"original": hr[SHOWN]}).items()}
    write_png(target, side_by_side(panels, ZOOM))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 23)
