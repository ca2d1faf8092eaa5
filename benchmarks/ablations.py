"""Short-budget ablations on the validation split: what each design choice is worth, at equal budgets.

    python benchmarks/ablations.py DATA --validation CLIPS --flow SPYNET --output benchmarks/results/ablations-NAME.json
    python benchmarks/ablations.py DATA --set lighter --validation CLIPS --flow SPYNET --output ...

The set ``choices`` (default) is of the paper's own, ``lighter`` of what makes lite cheaper, with the time of a step in
ONNX Runtime at 180x320 beside each, by turns. Every variant starts from the same seed, sees the same batches, and is
scored by the mean Y-PSNR of its averaged weights on the validation clips. The output is written after every variant,
and a variant that is in it already is not trained again, so a run can be cut off and go on. Differences at such budgets
are hints: ``base, seed 1`` shows what chance does.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from arguments import positive, result_path
from peers import times
from writing import write_json

from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.export.onnx import export_onnx
from ksnet_deploy.network.checkpoints import load_checkpoint, save_checkpoint
from ksnet_deploy.network.complexity import complexity
from ksnet_deploy.network.config import KSNetConfig
from ksnet_deploy.network.model import new_network
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.onnx import OnnxRunner
from ksnet_deploy.training.dataset import clips_identity
from ksnet_deploy.training.run import TrainingRequest, train_ksnet
from ksnet_deploy.video.clips.find import find_clips

DEAR = ("flow_levels=6", "offset_stride=1", "refine_alignment=deformable")
"""What the paper's network has and lite has cheaper."""
CHEAP = ("flow_levels=5", "offset_stride=2", "refine_alignment=flow")
CHOICES: dict[str, tuple[str, ...]] = {
    "base": (),
    "base, seed 1": (),
    "slots by rank": ("slots=rank",),
    "slots masked (activated kernels)": ("slots=masked",),
    "Eq. (12) consistent": ("alignment=consistent",),
    "plain 3x3 instead of RCB": ("reparameterize=false",),
    "flow none": ("flow_guidance=none",),
    "flow prev2": ("flow_guidance=prev2",),
    "flow prev1": ("flow_guidance=prev1",),
    "keep ratio 25 %, 2 levels": ("keep_ratio=0.25", "split_levels=2"),
    "keep ratio 50 %": ("keep_ratio=0.5",),
    "keep ratio 100 %": ("keep_ratio=1",),
}
LIGHTER: dict[str, tuple[str, ...]] = {
    "base": (),
    "base, seed 1": (),
    "flow at half size": CHEAP[:1],
    "offsets at half size": CHEAP[1:2],
    "second alignment by the flow alone": CHEAP[2:],
    "all three": CHEAP,
    "all three, 24 channels": (*CHEAP, "channels=24"),
    "all three, 40 channels": (*CHEAP, "channels=40"),
}
SETS = {
    # The paper's network: slots in channel order, Eq. (12) literal, RCB, multiple flows, 75 %.
    "choices": (("flow_guidance=multi", *DEAR), CHOICES),
    "lighter": (("flow_guidance=prev1", *DEAR), LIGHTER),
}
"""Base of each set, and the settings that differ from it."""
SIZE = FrameSize(180, 320)


def measure(settings: tuple[str, ...], options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Figures of a variant with all its settings."""
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        request = TrainingRequest(
            data=tuple(options.data),
            folder=Path(folder),
            size=options.size,
            recipe="short",
            settings=settings,
            flow=None if "flow_guidance=none" in settings else options.flow,
            validation=options.validation,
            stages=(options.stage,),
            learning_rate=options.learning_rate,
            precision=options.precision,
            device=options.device,
            seed=seed,
            threads=options.threads,
            validate_every=10**9,
        )
        started = time.monotonic()
        train_ksnet(request, lambda *_: None, lambda progress: figures.update(progress.figures, loss=progress.loss))
    count = complexity(KSNetConfig.named(options.size).replace(settings), SIZE)
    return {
        **figures,
        "seconds": round(time.monotonic() - started),
        "params_deploy": count.params_deploy,
        "gmacs_deploy": count.gmacs_deploy,
    }


def open_step(exported: Path, size: FrameSize, _io: FrameType) -> Runner:
    return OnnxRunner(exported, size)


def step_times(
    variants: dict[str, tuple[str, ...]], size: str, rounds: int = 5, seconds: float = 4.0
) -> dict[str, float]:
    """Median milliseconds of a step of each variant, by turns; a step's time is not a matter of the weights."""
    with tempfile.TemporaryDirectory() as folder:
        openers = {}
        for index, (name, settings) in enumerate(variants.items()):
            weights, exported = Path(folder) / f"{index}.safetensors", Path(folder) / f"{index}.onnx"
            model = new_network(KSNetConfig.named(size).replace(settings))
            save_checkpoint(model, weights, training="none", licence="none")
            export_onnx(load_checkpoint(weights), exported, size=SIZE)
            openers[name] = partial(open_step, exported)
        return {name: 1e3 * row["step_s"] for name, row in times(openers, SIZE, rounds, seconds).items()}


def table(results: dict[str, Any]) -> str:
    base = results["variants"].get("base", {}).get("psnr_y", float("nan"))
    lines = [f"{'variant':<36}{'PSNR Y dB':>11}{'vs base':>9}{'params M':>10}{'GMACs':>8}{'ms':>8}"]
    for name, row in results["variants"].items():
        lines.append(
            f"{name:<36}{row['psnr_y']:>11.3f}{row['psnr_y'] - base:>+9.3f}{row['params_deploy'] / 1e6:>10.3f}"
            f"{row['gmacs_deploy']:>8.1f}{row.get('step_ms', float('nan')):>8.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--flow", type=Path, required=True, help="pretrained flow weights, the same for all")
    parser.add_argument("--output", type=result_path, required=True)
    parser.add_argument("--size", default="lite")
    parser.add_argument("--stage", default="400:8x5x32")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=positive)
    parser.add_argument("--set", choices=list(SETS), default="choices")
    parser.add_argument("--only", nargs="*", help="names of variants (default: all of the set)")
    options = parser.parse_args()
    base, settings = SETS[options.set]
    if unknown := set(options.only or ()) - set(settings):
        parser.error(f"--only: {', '.join(sorted(unknown))}: not in the set; it has {', '.join(settings)}")
    variants = {name: base + settings[name] for name in (settings if options.only is None else options.only)}

    named = ("set", "size", "stage", "learning_rate", "precision")
    budget: dict[str, Any] = {name: getattr(options, name) for name in named}
    budget["data"] = clips_identity([clip for path in options.data for clip in find_clips(path)])["data"]
    budget["validation"] = clips_identity(list(find_clips(options.validation)))["data"]
    budget["flow_sha256"] = sha256_of(options.flow)
    results: dict[str, Any] = {"budget": budget, "torch": torch.__version__, "device": options.device, "variants": {}}
    if options.output.exists():
        results = json.loads(options.output.read_text())
        if {"set": "choices"} | results["budget"] != budget:  # a file of before there were several
            raise SystemExit(f"Error: {options.output} holds results of another budget; choose another file.")
    for name, changed in variants.items():
        if name in results["variants"]:
            continue
        results["variants"][name] = measure(changed, options, seed=int(name.endswith("seed 1")))
        write_json(options.output, results)
        print(table(results), flush=True)
    if options.set == "lighter":
        for name, step_ms in step_times(variants, options.size).items():
            results["variants"][name]["step_ms"] = step_ms
        write_json(options.output, results)
        print(table(results))


if __name__ == "__main__":
    main()
