"""What int8 in the last piece of a network is worth on a CPU, by turns in one run: processor time and PSNR.

    OMP_NUM_THREADS=1 python benchmarks/int8.py [--models uni lite] [--size 180x320] [--rounds 5] [--seconds 20]
                                                [--output FILE.json]

Rows are PyTorch eager on the folded network in float32, ONNX Runtime in float32 and int8 and, where it is installed,
OpenVINO in its usual precision and int8. Ratios are to PyTorch's processor time, each the median of the rounds'. PSNR
is the least of the frames against PyTorch in float32. With ``OMP_NUM_THREADS=1`` every runtime has one thread. The
result goes to benchmarks/results/.
"""

from __future__ import annotations

import argparse
import re
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from writing import write_json

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.machine import cpu_name, threads_told
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.base.version import package_version
from ksnet_deploy.export.cache import cached_onnx
from ksnet_deploy.measure.speed.child import Child
from ksnet_deploy.measure.speed.timing import spread
from ksnet_deploy.measure.speed.worker import Footage
from ksnet_deploy.network.bundled import checkpoint_path
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.open import open_runner
from ksnet_deploy.runtime.openvino import is_installed
from ksnet_deploy.upscale.precision import CpuPrecision, exported_precision, precision_in_words

RESULTS = Path(__file__).parent / "results"
FIRST = "PyTorch eager, float32"
TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
PRECISIONS: tuple[CpuPrecision, ...] = ("auto", "int8")


def rows_of(checkpoint: Path, size: FrameSize) -> dict[str, partial[Runner]]:
    """What opens each row's runner in its process."""
    rows = {FIRST: partial(open_runner, checkpoint, size)}
    for backend in ("onnxruntime", "openvino") if is_installed() else ("onnxruntime",):
        for wanted in PRECISIONS:
            path = cached_onnx(checkpoint, size, "uint8", exported_precision(backend, wanted))
            name = f"{TITLES[backend]}, {precision_in_words(backend, wanted)}"
            rows[name] = partial(open_runner, path, size, backend=backend)
    return rows


def measure(model: str, size: FrameSize, rounds: int, seconds: float, frames: int) -> list[dict[str, Any]]:
    with ExitStack() as stack:
        children = {}
        for name, opener in rows_of(checkpoint_path(model), size).items():
            children[name] = stack.enter_context(Child(name, opener, Footage(size)))
            children[name].call("warm_up", 1.0)
        wall: dict[str, list[float]] = {name: [] for name in children}
        processor: dict[str, list[float]] = {name: [] for name in children}
        for index in range(rounds):
            names = list(children)
            for name in names[index % len(names) :] + names[: index % len(names)]:
                before = children[name].call("processor_s")
                times = children[name].call("engine", seconds / rounds)
                spent = children[name].call("processor_s") - before
                wall[name].append(median(times))
                processor[name].append(1e3 * spent / len(times))
        reference = children[FIRST].call("pictures", frames)
        rows = []
        for name, child in children.items():
            least = min(psnr(a, b) for a, b in zip(child.call("pictures", frames), reference, strict=True))
            row = {
                "model": model,
                "row": name,
                "wall_ms": median(wall[name]),
                "processor_ms": median(processor[name]),
                "noise": spread(processor[name]),
                "of_pytorch": median(a / b for a, b in zip(processor[name], processor[FIRST], strict=True)),
                "least_psnr_db": None if least == float("inf") else least,
                "frames": len(reference),
            }
            rows.append(row)
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["uni", "lite"], help="names or checkpoints")
    parser.add_argument("--size", type=FrameSize.parse, default=FrameSize(180, 320))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each row (default: 20)")
    parser.add_argument("--frames", type=int, default=30, help="compared (default: 30)")
    parser.add_argument("--output", type=Path, help="(default: a file in benchmarks/results/)")
    options = parser.parse_args()
    asked = options.size, options.rounds, options.seconds, options.frames
    rows = [row for model in options.models for row in measure(model, *asked)]
    machine = f"{cpu_name()}, {threads_told() or 'all'} threads"
    print(f"{machine}, {options.size}; ratios of processor time to '{FIRST}'")
    for row in rows:
        quality = "equal" if row["least_psnr_db"] is None else f"{row['least_psnr_db']:.1f} dB"
        print(
            f"{row['model']:<8}{row['row']:<34}{row['processor_ms']:>9.1f} processor ms{row['noise']:>6.0%}"
            f"{row['wall_ms']:>9.1f} ms{row['of_pytorch']:>7.3f} x{quality:>10}"
        )
    versions = {name: package_version(name) for name in ("torch", "onnxruntime", "openvino")}
    name = re.sub(r"[^a-z0-9]+", "-", f"int8-{machine}".lower())
    path = options.output or RESULTS / f"{name}.json"
    write_json(path, {"machine": machine, "size": str(options.size), "versions": versions, "rows": rows})
    print(f"Written to {path}")


if __name__ == "__main__":
    main()
