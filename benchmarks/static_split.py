"""A static split against the selection for every frame: quality on the validation clips, and the step on a CPU.

    python benchmarks/static_split.py CLIPS [--calibration clip.mp4] [--models lite uni] [--frames 15]
                                      [--size 180x320] [--rounds 5] [--seconds 20] [--no-speed]

The channels are chosen on the calibration clip (default: the bundled one), which is none of CLIPS. Quality is the PSNR
gain over bicubic (luma) of PyTorch's float32, over the first ``--frames`` of every clip, each a scene of its own. Speed
is the step in ONNX Runtime of both exports, each in a process of its own, by turns: medians of the rounds, and the
median of each round's ratio. One result for each network goes to benchmarks/results/static-split-MODEL.json.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from arguments import duration, frame_size, positive
from writing import write_json

from ksnet_deploy.base.frames import FrameSize, pad
from ksnet_deploy.base.machine import cores, cpu_name
from ksnet_deploy.base.metrics import capped_psnr, luma
from ksnet_deploy.base.version import __version__
from ksnet_deploy.export.onnx import exported_models, save_models
from ksnet_deploy.export.static_split import StaticSplit, split_of_clip
from ksnet_deploy.measure.degradation import degrade, enlarge_bicubic
from ksnet_deploy.measure.speed.child import Child
from ksnet_deploy.measure.speed.timing import spread
from ksnet_deploy.measure.speed.worker import Footage
from ksnet_deploy.network.bundled import CLIP, bundled_checkpoint
from ksnet_deploy.network.checkpoints import Checkpoint, load_checkpoint
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.runtime.open import open_runner
from ksnet_deploy.runtime.torch import TorchRunner
from ksnet_deploy.upscale.scenes import SceneDetector
from ksnet_deploy.video.clips.clip import Clip
from ksnet_deploy.video.clips.find import find_clips

RESULTS = Path(__file__).parent / "results"


def mean_psnr(found: list[Any], reference: list[Any]) -> float:
    return float(np.mean([capped_psnr(a, b) for a, b in zip(found, reference, strict=True)]))


def quality(clip: Clip, networks: dict[str, KSNet], frames: int) -> dict[str, float]:
    """Gains over bicubic in dB, by network, and the PSNR of the two against each other (luma, mean of the frames)."""
    hr = clip.read(0, min(frames, clip.frames))
    lr = degrade(hr, "BI")
    height, width = hr[0].shape[:2]
    reference = [luma(frame) for frame in hr]
    bicubic = mean_psnr([luma(enlarge_bicubic(frame)) for frame in lr], reference)
    planes: dict[str, list[Any]] = {}
    for name, network in networks.items():
        padded = [pad(np.ascontiguousarray(frame)) for frame in lr]
        with TorchRunner(network, FrameSize(*padded[0].shape[:2])) as runner:
            planes[name] = [luma(runner.step(frame)[:height, :width]) for frame in padded]
    row = {"bicubic_psnr_y": bicubic}
    for name, found in planes.items():
        row[f"{name}_gain"] = mean_psnr(found, reference) - bicubic
    row["static_minus_dynamic"] = row["static_gain"] - row["dynamic_gain"]
    return row


def speed(checkpoint: Checkpoint, split: StaticSplit, size: FrameSize, rounds: int, seconds: float) -> dict[str, Any]:
    with TemporaryDirectory() as folder, ExitStack() as stack:
        children = {}
        for name, given in (("dynamic", None), ("static", split)):
            path = Path(folder) / f"{name}.onnx"
            save_models(exported_models(checkpoint, size=size, split=given), {"step": path})
            opener = partial(open_runner, path, size, backend="onnxruntime")
            children[name] = stack.enter_context(Child(name, opener, Footage(size)))
            children[name].call("warm_up", 1.0)
        times: dict[str, list[float]] = {name: [] for name in children}
        for index in range(rounds):
            for name in list(children)[:: -1 if index % 2 else 1]:
                times[name].append(median(children[name].call("engine", seconds / rounds)))
    ratio = median(static / dynamic for static, dynamic in zip(times["static"], times["dynamic"], strict=True))
    return {
        "machine": f"{cpu_name()}, {cores()} cores",
        "size": str(size),
        **{f"{name}_ms": median(values) for name, values in times.items()},
        **{f"{name}_noise": spread(values) for name, values in times.items()},
        "static_over_dynamic": ratio,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--calibration", type=Path, default=CLIP, help="LR clip (default: the bundled one)")
    parser.add_argument("--models", nargs="+", default=["lite", "uni"])
    parser.add_argument("--frames", type=positive, default=15, help="of each clip (default: 15)")
    parser.add_argument("--size", type=frame_size, default=FrameSize(180, 320))
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--seconds", type=duration, default=20.0, help="for each export (default: 20)")
    parser.add_argument("--no-speed", action="store_true", help="measure the quality only")
    options = parser.parse_args()
    for model in options.models:
        checkpoint = load_checkpoint(bundled_checkpoint(model))
        split = split_of_clip(checkpoint.model, options.calibration, SceneDetector().starts_scene)
        print(f"{model}: {split.summary()}", flush=True)
        networks = {"dynamic": checkpoint.model, "static": split.model}
        rows = {}
        for clip in find_clips(options.clips):
            rows[clip.name] = row = quality(clip, networks, options.frames)
            print(f"{clip.name:<44}" + "".join(f"{value:+8.3f}" for value in row.values()), flush=True)
        if not rows:
            raise SystemExit(f"Error: {options.clips} holds no clip; give a folder of clips.")
        summary: dict[str, Any] = {
            "version": __version__,
            "weights_sha256": checkpoint.sha256,
            "calibration": split.as_dict(),
            "frames": options.frames,
        }
        for name in ("dynamic_gain", "static_gain", "static_minus_dynamic"):
            summary[f"mean_{name}"] = float(np.mean([row[name] for row in rows.values()]))
        summary["least_static_minus_dynamic"] = min(row["static_minus_dynamic"] for row in rows.values())
        if not options.no_speed:
            summary["speed"] = speed(checkpoint, split, options.size, options.rounds, options.seconds)
        path = RESULTS / f"static-split-{model}.json"
        write_json(path, {**summary, "clips": rows})
        figures = {name: value for name, value in summary.items() if name.startswith(("mean", "least", "speed"))}
        print(f"{model}: {figures}; written to {path}")


if __name__ == "__main__":
    main()
