"""How near a video upscaled in tiles comes to the one upscaled whole, and what memory either takes.

    python benchmarks/tiling.py [VIDEO...] [--models lite uni] [--size 144x176] [--frames 15] [--overlaps 8 16 32 48]
    python benchmarks/tiling.py --memory lite:180x320 uni:180x320 lite:540x960:288x498

A VIDEO is of HR: its frames are shrunk four times (BI) and cut to the size from their middle. Without one it is the
bundled clip, repeated to the size; all tiles of that see nearly the same picture, which is kind to them.

``ranking`` says by whose scores a tile selects its channels: the ``frame's``, as ``upscale`` does it, or its ``own``,
which shows what the lockstep is good for.

Rows are added to ``--output``; the machine does not matter for them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from arguments import frame_size, positive, result_path
from numpy.typing import NDArray
from writing import write_json

from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import SCALE, FrameSize
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.base.version import __version__
from ksnet_deploy.export.cache import cached_onnx
from ksnet_deploy.measure.degradation import degrade
from ksnet_deploy.measure.speed.frames import moving_frames
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.runtime.tiles import TiledRunner, TilePlan
from ksnet_deploy.upscale.memory import OVERLAP
from ksnet_deploy.upscale.networks import find_network
from ksnet_deploy.video.clips.find import find_clips

KEYS = {"quality": ("video", "model", "size", "frames", "plan", "ranking"), "memory": ("model", "size", "tile")}
"""What a row is of; another measurement of the same takes its place."""
PEAK = """
import sys
import numpy as np
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.machine import peak_memory
from ksnet_deploy.upscale.networks import find_network
from ksnet_deploy.runtime.tiles import TilePlan
size, tile = FrameSize.parse(sys.argv[2]), sys.argv[3]
plan = TilePlan.make(size, FrameSize.parse(tile), int(sys.argv[4])) if tile else None
with find_network(sys.argv[1]).open(size, "uint8", plan) as runner:
    for level in (0, 128, 255):
        runner.step(np.full((size.height, size.width, 3), level, np.uint8))
print(peak_memory() / 1e6)
"""


def read_frames(video: Path | None, size: FrameSize, count: int) -> NDArray[np.uint8]:
    if video is None:
        return np.stack(moving_frames(size, count))
    clip = next(iter(find_clips(video)))
    lr = degrade(clip.read(0, count), "BI")
    top, left = (lr.shape[1] - size.height) // 2, (lr.shape[2] - size.width) // 2
    if min(top, left) < 0 or len(lr) < count:
        raise SystemExit(f"Error: {video} gives {lr.shape[:3]} frames, lines and columns, too few for --size {size}.")
    return np.ascontiguousarray(lr[:, top : top + size.height, left : left + size.width])


def run(runner: Runner, lrs: NDArray[np.uint8]) -> NDArray[np.uint8]:
    with runner:
        return np.stack([runner.step(lr) for lr in lrs])


def compare(found: NDArray[np.uint8], whole: NDArray[np.uint8], plan: TilePlan) -> dict[str, Any]:
    """Figures of (T, 4 H, 4 W, 3) against that of the whole frames.

    ``seam_ratio`` is the root mean square error where tiles overlap over that elsewhere. ``seam_step`` is the largest
    step of the error, averaged along a line of the picture, from one line to the next there: a visible seam is such a
    step. ``step_elsewhere`` is the largest one elsewhere. Both in levels of 255.
    """
    error = found.astype(np.float32) - whole
    axes = ((plan.rows, plan.tile.height, plan.frame.height), (plan.columns, plan.tile.width, plan.frame.width))
    shared = []
    for starts, side, length in axes:
        at = np.arange(SCALE * length) // SCALE
        shared.append(np.sum([(start <= at) & (at < start + side) for start in starts], axis=0) > 1)
    seam = shared[0][:, None] | shared[1]
    seam_step, step_elsewhere = 0.0, 0.0
    for lines, along in zip(shared, (2, 1), strict=True):
        steps = np.abs(np.diff(error.mean(axis=(along, 3)), axis=1)).max(axis=0)
        seam_step = max(seam_step, float(steps[lines[1:]].max(initial=0)))
        step_elsewhere = max(step_elsewhere, float(steps[~lines[1:]].max(initial=0)))
    squared = error**2
    return {
        "psnr_db": psnr(found, whole),
        "worst_frame_psnr_db": min(psnr(a, b) for a, b in zip(found, whole, strict=True)),
        "largest_error": int(np.abs(error).max()),
        "seam_ratio": float(np.sqrt(squared[:, seam].mean() / squared[:, ~seam].mean())),
        "seam_step": seam_step,
        "step_elsewhere": step_elsewhere,
    }


def peak_of(network: str) -> dict[str, Any]:
    """Memory of a fresh process that runs a bundled network, "lite:180x320", or "lite:540x960:288x498" in tiles."""
    model, size, tile = [*network.split(":"), ""][:3]
    # Exported beforehand, because exporting takes memory too.
    cached_onnx(bundled_checkpoint(model), FrameSize.parse(tile or size))
    if tile and str(TilePlan.make(FrameSize.parse(size), FrameSize.parse(tile), OVERLAP).tile) != tile:
        raise SystemExit(f"Error: frames of {size} are not cut into tiles of just {tile}.")
    command = [sys.executable, "-c", PEAK, model, size, tile, str(OVERLAP)]
    plain = os.environ | {"KSNET_ALIGN_LIBRARY": "off"}  # the native kernel takes less
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=plain).stdout
    return {"model": model, "size": size, "tile": tile, "peak_mb": float(answer)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="*")
    parser.add_argument("--models", nargs="+", default=["lite", "uni"])
    parser.add_argument("--size", type=frame_size, default=FrameSize(144, 176))
    parser.add_argument("--frames", type=positive, default=15)
    parser.add_argument("--overlaps", type=int, nargs="+", default=[8, 16, 32, 48])
    parser.add_argument("--memory", nargs="+", help="measure memory instead, of networks such as lite:180x320")
    parser.add_argument("--output", type=result_path, default=Path(__file__).parent / "results" / "tiling.json")
    options = parser.parse_args()

    results: dict[str, Any] = {"quality": [], "memory": []}
    if options.output.exists():
        results = json.loads(options.output.read_text())

    def add(kind: str, row: dict[str, Any]) -> None:
        print(json.dumps(row), flush=True)
        results[kind] = [known for known in results[kind] if any(known[name] != row[name] for name in KEYS[kind])]
        results[kind].append({"version": __version__, **row})
        write_json(options.output, results)

    for network in options.memory or ():
        add("memory", peak_of(network))
    if options.memory:
        return
    size = options.size
    half = FrameSize(-(-size.height // 2), -(-size.width // 2))
    for video, model in product(options.videos or [None], options.models):
        key = {"video": video.name if video else "bundled clip", "model": model, "size": str(size)}
        key |= {"frames": options.frames, "weights_sha256": sha256_of(bundled_checkpoint(model))}
        lrs = read_frames(video, size, options.frames)
        whole = run(find_network(model).open(size, "uint8"), lrs)
        for overlap in options.overlaps:
            # Tiles start at multiples of six, which may add up to eleven lines to a side.
            largest = FrameSize(half.height + -(-overlap // 2) + 11, half.width + -(-overlap // 2) + 11)
            plan = TilePlan.make(size, largest, overlap)
            shared = run(find_network(model).open(size, "uint8", plan), lrs)
            add("quality", {**key, "plan": str(plan), "ranking": "frame's", **compare(shared, whole, plan)})
            tile = cached_onnx(bundled_checkpoint(model), plan.tile)
            own = run(TiledRunner(OnnxRunner(tile, plan.tile), plan), lrs)
            add("quality", {**key, "plan": str(plan), "ranking": "own", **compare(own, whole, plan)})


if __name__ == "__main__":
    main()
