"""The step on a CPU as a waterfall: one technique a row, wall time, processor time and PSNR, by turns in one run.

    python benchmarks/waterfall.py [--models lite uni] [--size 180x320] [--rounds 5] [--seconds 8] [--load 0]
                                   [--output FILE.json]

The rows are PyTorch with the network as it was trained and folded; ONNX Runtime with threads that sleep while they
wait, with the operators of the file, with those that it is fastest at, and with sums, gradients and rounding in the
layout of its convolutions, then with threads that spin and with those of the default, which spin for a little while;
OpenVINO in float32 and, where the processor has it, bfloat16; each of the last three with the alignment's native kernel
(where ``build-plugins --cpu`` built it), and with it and int8 (on processors with VNNI, in OpenVINO beside bfloat16
where there is that).
Each is in a process of its own; medians of the rounds, and the medians of each round's ratio to the folded network in
PyTorch. PSNR is the least of the frames, against that network. ``--load 2`` keeps two cores busy with other work
meanwhile. The result goes to benchmarks/results/. On a GPU ``gpu.py`` has the waterfall.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import onnx
from arguments import count, duration, frame_size, positive, result_path
from writing import machine_in_words, write_json

from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.machine import has_bfloat16, has_vnni
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.base.version import package_version
from ksnet_deploy.export.cache import cached_onnx
from ksnet_deploy.measure.speed.child import Child
from ksnet_deploy.measure.speed.timing import spread
from ksnet_deploy.measure.speed.worker import Footage
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.ops.align_library import AlignRuntime, align_kernel
from ksnet_deploy.ops.rewriting import use_fast_operators
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.onnx import WAITING, OnnxRunner
from ksnet_deploy.runtime.open import open_runner
from ksnet_deploy.runtime.openvino import is_installed
from ksnet_deploy.runtime.rewrites import phases_of_last_convolution, shuffles_by_block
from ksnet_deploy.upscale.precision import exported_precision

RESULTS = Path(__file__).parent / "results"
FIRST = "PyTorch, folded"
"""What the others are compared with, and their pictures too."""
FRAMES = 30
KERNEL = "KSNET_ALIGN_LIBRARY"
SPIN = "session.intra_op.allow_spinning"
SLEEPING = {SPIN: "0"}


def open_onnx(
    path: Path,
    size: FrameSize,
    options: Mapping[str, str] = WAITING,
    rewrite: Callable[[onnx.ModelProto], None] | None = None,
) -> Runner:
    os.environ[KERNEL] = "off"
    return OnnxRunner(path, size, options=options, rewrite=rewrite)


def leave(_model: onnx.ModelProto) -> None:
    """Change nothing."""


def use_own_operators(model: onnx.ModelProto) -> None:
    phases_of_last_convolution(model)
    shuffles_by_block(model)
    use_fast_operators(model)


def open_as_trained(path: Path, size: FrameSize) -> Runner:
    from ksnet_deploy.network.checkpoints import load_checkpoint
    from ksnet_deploy.runtime.torch import TorchRunner

    return TorchRunner(load_checkpoint(path).model, size, fold=False)


def open_exported(path: Path, size: FrameSize, backend: str, *, kernel: bool) -> Runner:
    if not kernel:
        os.environ[KERNEL] = "off"
    return open_runner(path, size, backend=backend)


def rows_of(model: str, size: FrameSize) -> dict[str, partial[Runner]]:
    """What opens each row's runner in its process."""
    checkpoint = bundled_checkpoint(model)
    single = cached_onnx(checkpoint, size)
    rows = {
        "PyTorch, as trained": partial(open_as_trained, checkpoint, size),
        FIRST: partial(open_runner, checkpoint, size),
        "ONNX Runtime, sleeping, the file's operators": partial(open_onnx, single, size, SLEEPING, leave),
        "ONNX Runtime, sleeping, its own operators": partial(open_onnx, single, size, SLEEPING, use_own_operators),
        "ONNX Runtime, sleeping, in registers": partial(open_onnx, single, size, SLEEPING),
        "ONNX Runtime, spinning, in registers": partial(open_onnx, single, size, {SPIN: "1"}),
        "ONNX Runtime": partial(open_onnx, single, size),
    }
    rows |= with_kernel("onnxruntime", "ONNX Runtime", single, checkpoint, size, in_8_bits=has_vnni())
    if is_installed():
        rows["OpenVINO, float32"] = partial(open_exported, single, size, "openvino", kernel=False)
        # Beside int8 OpenVINO computes in bfloat16 where the processor has that.
        in_8_bits = has_vnni() and not has_bfloat16()
        rows |= with_kernel("openvino", "OpenVINO, float32", single, checkpoint, size, in_8_bits=in_8_bits)
    if is_installed() and has_bfloat16():
        half = cached_onnx(checkpoint, size, "uint8", "fp16")
        rows["OpenVINO, bfloat16"] = partial(open_exported, half, size, "openvino", kernel=False)
        rows |= with_kernel("openvino", "OpenVINO, bfloat16", half, checkpoint, size, in_8_bits=has_vnni())
    return rows


def with_kernel(
    backend: AlignRuntime, title: str, path: Path, checkpoint: Path, size: FrameSize, *, in_8_bits: bool
) -> dict[str, partial[Runner]]:
    """A runtime's rows with the native kernel, and with int8 besides; without what is not here."""
    rows: dict[str, partial[Runner]] = {}
    if align_kernel(backend).library:
        rows[f"{title}, kernel"] = partial(open_exported, path, size, backend, kernel=True)
    if in_8_bits:
        eighth = cached_onnx(checkpoint, size, "uint8", exported_precision(backend, "int8"))
        rows[f"{', '.join(rows) or title}, int8"] = partial(open_exported, eighth, size, backend, kernel=True)
    return rows


def spin() -> None:
    while True:
        pass


def measure(model: str, size: FrameSize, rounds: int, seconds: float, frames: int) -> list[dict[str, Any]]:
    with ExitStack() as stack:
        children = {}
        for name, opener in rows_of(model, size).items():
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
            pictures = child.call("pictures", frames)
            least = min(psnr(a, b) for a, b in zip(pictures, reference, strict=True))
            ratios = {
                kind: median(now / first for now, first in zip(times[name], times[FIRST], strict=True))
                for kind, times in (("wall", wall), ("processor", processor))
            }
            rows.append(
                {
                    "model": model,
                    "row": name,
                    "wall_ms": median(wall[name]),
                    "noise": spread(wall[name]),
                    "processor_ms": median(processor[name]),
                    "wall_over_folded": ratios["wall"],
                    "processor_over_folded": ratios["processor"],
                    "least_psnr_db": None if least == float("inf") else least,
                    "frames": len(pictures),
                }
            )
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=("lite", "lite-video", "uni"), default=["lite", "uni"])
    parser.add_argument("--size", type=frame_size, default=FrameSize(180, 320))
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--seconds", type=duration, default=8.0, help="for each row (default: 8)")
    parser.add_argument("--frames", type=positive, default=FRAMES, help="compared (default: 30)")
    parser.add_argument("--load", type=count, default=0, help="processes that keep the machine busy (default: 0)")
    parser.add_argument("--output", type=result_path, help="(default: a file in benchmarks/results/)")
    options = parser.parse_args()
    others = [multiprocessing.Process(target=spin, daemon=True) for _ in range(options.load)]
    for other in others:
        other.start()
    rows = [
        row
        for model in options.models
        for row in measure(model, options.size, options.rounds, options.seconds, options.frames)
    ]
    for other in others:
        other.terminate()
    machine = machine_in_words()
    print(f"{machine}, {options.size}, {options.load} other processes; ratios to '{FIRST}'")
    for row in rows:
        quality = "equal" if row["least_psnr_db"] is None else f"{row['least_psnr_db']:.1f} dB"
        print(
            f"{row['model']:<6}{row['row']:<46}{row['wall_ms']:>9.1f} ms{row['noise']:>6.0%}"
            f"{row['wall_over_folded']:>7.2f} x"
            f"{row['processor_ms']:>9.1f} processor ms{row['processor_over_folded']:>7.2f} x{quality:>10}"
        )
    versions = {name: package_version(name) for name in ("torch", "onnxruntime", "openvino")}
    facts = {
        "size": str(options.size),
        "load": options.load,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "weights_sha256": {model: sha256_of(bundled_checkpoint(model)) for model in options.models},
        "versions": versions,
    }
    name = re.sub(r"[^a-z0-9]+", "-", f"waterfall-{machine}-load-{options.load}".lower())
    path = options.output or RESULTS / f"{name}.json"
    write_json(path, {**facts, "rows": rows})
    print(f"Written to {path}")


if __name__ == "__main__":
    main()
