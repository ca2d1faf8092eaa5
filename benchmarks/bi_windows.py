"""A bidirectional network in windows against the same network over the whole clip, for several look-aheads; memory.

    python benchmarks/bi_windows.py [CLIPS] [--model CHECKPOINT] [--size 64x96] [--window 32] [--ahead 0 1 2 4 8 16]
    python benchmarks/bi_windows.py --memory 32:8:120 32:8:600 [--model CHECKPOINT] [--size 72x128]
    python benchmarks/bi_windows.py --draw

HR clips (default: the bundled one) are reduced by bicubic, and their middle is upscaled: once over the whole clip, and
in windows with each look-ahead. A row has the PSNR between the two for every frame; equal frames count as 100 dB.
``--memory WINDOW:AHEAD:FRAMES`` measures the peak of a process that upscales so many frames of a video. The network is
the bundled ``bi``, without ``--model``. The result and its plot go to benchmarks/results/bi-windows.json and .png.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from arguments import frame_size, positive
from numpy.typing import NDArray
from writing import write_json

from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.machine import peak_memory
from ksnet_deploy.base.metrics import capped_psnr
from ksnet_deploy.base.version import __version__
from ksnet_deploy.measure.degradation import degrade
from ksnet_deploy.network.bundled import FOLDER, bundled_checkpoint
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.upscale.networks import find_network
from ksnet_deploy.upscale.windows import Windows
from ksnet_deploy.video.clips.clip import Clip
from ksnet_deploy.video.clips.find import find_clips

RESULT = Path(__file__).parent / "results" / "bi-windows.json"
KEYS = {"likeness": ("clip", "size", "window", "ahead"), "memory": ("network", "size", "window", "ahead", "frames")}


def checkpoint_of(model: str | None) -> tuple[Path, str]:
    """A bidirectional checkpoint, and what it is in words."""
    if model is not None:
        return Path(model), load_checkpoint(Path(model)).metadata.get("training", "not said")
    return bundled_checkpoint("bi"), "the bundled bi"


def middle_of(clip: Clip, size: FrameSize, most: int) -> NDArray[np.uint8]:
    """The first LR frames of a clip, their middle, (T, H, W, 3)."""
    lr = degrade(clip.read(0, min(clip.frames, most)), "BI")
    top, left = ((have - want) // 2 for have, want in zip(lr.shape[1:3], (size.height, size.width), strict=True))
    return np.ascontiguousarray(lr[:, top : top + size.height, left : left + size.width])


def likeness(
    checkpoint: Path, clip: Clip, size: FrameSize, frames: int, window: int, aheads: Sequence[int]
) -> list[dict[str, Any]]:
    lrs = [*middle_of(clip, size, frames)]
    rows = []
    with find_network(checkpoint, "onnxruntime", "cpu").open(size, "uint8") as runner:
        whole = [*runner.window(lrs)]
        for ahead in aheads:
            runner.reset()
            starts = range(0, len(lrs), window)
            parts = ((lrs[i : i + window], lrs[i + window : i + window + ahead]) for i in starts)
            found = [hr for seen, later in parts for hr in runner.window(seen, later)]
            decibels = [round(capped_psnr(a, b), 2) for a, b in zip(found, whole, strict=True)]
            row = {"clip": clip.name, "size": str(size), "window": window, "ahead": ahead, "frames": len(lrs)}
            rows.append(row | {"least_psnr_db": min(decibels), "psnr_db": decibels})
    return rows


def peak(checkpoint: Path, size: FrameSize, asked: str) -> dict[str, Any]:
    """Memory of a fresh process; what it exports is exported before."""
    window, ahead, frames = map(int, asked.split(":"))
    network = find_network(checkpoint, "onnxruntime", "cpu")
    network.open(size, "uint8").close()
    command = [sys.executable, __file__, "--peak", asked, "--model", str(checkpoint), "--size", str(size)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
    config = network.config()
    assert config is not None
    told = Windows(window, ahead).bytes(size, config)
    row = {"network": f"{config.channels} channels", "size": str(size), "window": window, "ahead": ahead}
    return row | {"frames": frames, "peak_mb": round(int(answer) / 1e6, 1), "window_told_mb": round(told / 1e6, 1)}


def upscale_and_print_peak(checkpoint: Path, size: FrameSize, asked: str) -> None:
    from ksnet_deploy.measure.speed.frames import moving_frames
    from ksnet_deploy.upscale.run import upscale_video
    from ksnet_deploy.upscale.scenes import NoCuts
    from ksnet_deploy.upscale.upscaler import Upscaler
    from ksnet_deploy.video.picture import write_png

    window, ahead, frames = map(int, asked.split(":"))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "frames"
        source.mkdir()
        pictures = moving_frames(size, 48)
        for index in range(frames):
            write_png(source / f"{index:05d}.png", pictures[index % len(pictures)])
        upscaler = Upscaler(checkpoint, runtime="onnxruntime", device="cpu", window=window, look_ahead=ahead)
        upscale_video(source, Path(folder) / "larger.mkv", upscaler, rate=Fraction(25), detector=NoCuts())
    print(peak_memory())


def draw(results: dict[str, Any]) -> None:
    """The least PSNR of any frame over the look-ahead, a line per clip."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    rows = results["likeness"]
    aheads = sorted({row["ahead"] for row in rows})
    for clip in dict.fromkeys(row["clip"] for row in rows):
        least = {row["ahead"]: row["least_psnr_db"] for row in rows if row["clip"] == clip}
        axes.plot(range(len(aheads)), [least.get(ahead, np.nan) for ahead in aheads], marker="o", label=clip)
    axes.axhline(45, color="0.6", linestyle="--")
    axes.set_xticks(range(len(aheads)), [str(ahead) for ahead in aheads])
    axes.set_xlabel("frames of look-ahead")
    axes.set_ylabel("least PSNR of any frame (dB)")
    axes.set_title(f"windows of {rows[0]['window']} frames against the whole clip")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(RESULT.with_suffix(".png"), dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="*", default=[FOLDER / "city_hr.mp4"])
    parser.add_argument("--model")
    parser.add_argument("--size", type=frame_size, default=FrameSize(64, 96))
    parser.add_argument("--frames", type=positive, default=75)
    parser.add_argument("--window", type=positive, default=32)
    parser.add_argument("--ahead", type=int, nargs="+", default=[0, 1, 2, 4, 8, 16])
    parser.add_argument("--memory", nargs="+", metavar="WINDOW:AHEAD:FRAMES")
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        upscale_and_print_peak(Path(options.model), options.size, options.peak)
        return
    results: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {"likeness": [], "memory": []}

    def add(kind: str, row: dict[str, Any]) -> None:
        print(json.dumps({name: value for name, value in row.items() if name != "psnr_db"}), flush=True)
        results[kind] = [known for known in results[kind] if any(known[name] != row[name] for name in KEYS[kind])]
        results[kind].append(row)
        write_json(RESULT, results)

    checkpoint, training = checkpoint_of(options.model)
    facts = {"version": __version__, "weights_sha256": sha256_of(checkpoint), "weights": training}
    for asked in options.memory or ():
        add("memory", peak(checkpoint, options.size, asked) | facts)
    if not options.memory and not options.draw:
        for clip in (clip for path in options.clips for clip in find_clips(path)):
            for row in likeness(checkpoint, clip, options.size, options.frames, options.window, options.ahead):
                add("likeness", row | facts)
    if results["likeness"]:
        draw(results)


if __name__ == "__main__":
    main()
