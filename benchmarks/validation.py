"""Gain over bicubic on every validation clip, and drift over a hundred frames.

    python benchmarks/validation.py CLIPS [--model lite] [--frames 100]

Each clip is played forward and back until there are so many frames, so that the same picture comes again and again with
an ever longer past. ``drift`` is the mean PSNR of the last pass minus that of the first full one: a network whose state
decays over time shows a negative figure; with fewer frames than two passes there is none. The result goes to
benchmarks/results/validation-MODEL.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from arguments import positive
from writing import write_json

from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.metrics import capped_psnr, luma
from ksnet_deploy.base.version import __version__
from ksnet_deploy.measure.degradation import degrade, enlarge_bicubic
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.clips.clip import Clip
from ksnet_deploy.video.clips.find import find_clips

RESULTS = Path(__file__).parent / "results"
FIGURES = ("gain", "drift")


def measure(clip: Clip, model: str, frames: int) -> dict[str, Any]:
    hr = clip.read(0, clip.frames)
    lr = degrade(hr, "BI")
    period = 2 * len(hr) - 2
    index = [min(i % period, period - i % period) for i in range(frames)]
    reference = [luma(frame) for frame in hr]
    bicubic = [capped_psnr(luma(enlarge_bicubic(frame)), y) for frame, y in zip(lr, reference, strict=True)]
    with Upscaler(model) as upscaler:
        upscaled = upscaler.upscale(lr[i] for i in index)
        found = [capped_psnr(luma(hr), reference[i]) for i, hr in zip(index, upscaled, strict=True)]
    row = {
        "frames": len(hr),
        "bicubic_psnr_y": float(np.mean(bicubic)),
        "gain": float(np.mean(found[: len(hr)]) - np.mean(bicubic[:frames])),
    }
    if frames >= 2 * period:
        row["drift"] = float(np.mean(found[-period:]) - np.mean(found[:period]))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--frames", type=positive, default=100)
    arguments = parser.parse_args()
    rows = {}
    for clip in find_clips(arguments.clips):
        if clip.frames > 1:
            rows[clip.name] = row = measure(clip, arguments.model, arguments.frames)
            figures = "".join(f"{row[name]:+8.3f}" for name in FIGURES if name in row)
            print(f"{clip.name:<44}{row['bicubic_psnr_y']:8.2f}{figures}", flush=True)
    if not rows:
        raise SystemExit(f"Error: {arguments.clips} holds no clip of two or more frames; give a folder of clips.")
    measured = [name for name in FIGURES if all(name in row for row in rows.values())]
    summary = {
        "version": __version__,
        "weights_sha256": sha256_of(bundled_checkpoint(arguments.model)),
        "frames": arguments.frames,
        **{f"mean_{name}": float(np.mean([r[name] for r in rows.values()])) for name in measured},
        **{f"least_{name}": min(r[name] for r in rows.values()) for name in measured},
        "clips": rows,
    }
    path = RESULTS / f"validation-{arguments.model}.json"
    write_json(path, summary)
    told = (
        f"{name}: mean {summary[f'mean_{name}']:+.3f} dB, least {summary[f'least_{name}']:+.3f}" for name in measured
    )
    print(f"{'; '.join(told)}; written to {path}")


if __name__ == "__main__":
    main()
