"""What each technique is worth on a CUDA GPU: kernels against PyTorch and the memory's speed, the step as a waterfall.

    python benchmarks/gpu.py [--size 180x320] [--model uni] [--engine uni.engine] [--seconds 2]

Needs PyTorch with CUDA; takes the native kernels where `ksnet-deploy build-plugins --kernels-only` has built them,
torchvision's deformable convolution where it is installed, and an engine where one is given. All rows are measured in
one run, medians of CUDA events. The result goes to benchmarks/results/. `--device cpu` tries the script where there is
no GPU; it measures nothing worth keeping and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.network.folding import fold
from ksnet_deploy.network.model import KSNet, State
from ksnet_deploy.network.precision import with_precision
from ksnet_deploy.ops import reference
from ksnet_deploy.ops.library import find_kernel_library
from ksnet_deploy.runtime.torch import RecordedStep, decode_frame, encode_frame, use_native_kernels

RESULTS = Path(__file__).parent / "results"
WARM_UP, FRAMES = 5, 30

Advance = Callable[[Tensor, State], tuple[Tensor, State]]


def milliseconds(work: Callable[[], object], device: str, seconds: float) -> float:
    """Median time of a call, on the device's own clock."""
    for _ in range(WARM_UP if device == "cuda" else 1):
        work()
    times: list[float] = []
    started = time.perf_counter()
    while time.perf_counter() - started < seconds or len(times) < 3:
        if device == "cuda":
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            work()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end))
        else:
            before = time.perf_counter()
            work()
            times.append((time.perf_counter() - before) * 1e3)
    return statistics.median(times)


def bandwidth_gb_s(device: str, seconds: float) -> float:
    """Of a copy within the device's memory: bytes read and written."""
    source = torch.empty(1 << (28 if device == "cuda" else 24), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / milliseconds(lambda: target.copy_(source), device, seconds) / 1e6


def kernel_rows(size: FrameSize, model: KSNet, device: str, gb_s: float, seconds: float) -> list[dict[str, Any]]:
    """Both operators at the network's shapes. The floor is the time to read the inputs and write the outputs once."""
    c, groups, k = model.config.channels, model.config.deform_groups, model.config.level_channels[1]
    h, w = size.height, size.width
    rows = []
    for dtype in (torch.float32, torch.float16):
        if device == "cpu" and dtype == torch.float16:
            continue
        torch.manual_seed(0)
        x = torch.randn(1, c, h, w, device=device).to(dtype)
        weight, bias = torch.randn(c, c, 3, 3, device=device).to(dtype) / 24, torch.zeros(c, device=device, dtype=dtype)
        offset = torch.randn(1, 18 * groups, h, w, device=device) * 3
        mask = torch.rand(1, 9 * groups, h, w, device=device).to(dtype)
        o, lam = torch.rand(1, 1, h, w, device=device), torch.tensor([0.5], device=device)
        deform, split = (x, weight, offset, bias, mask), (x, o, lam, k)
        candidates: dict[str, dict[str, Callable[[], object]]] = {
            "deform_conv2d": {"PyTorch, grid_sample": lambda d=deform: reference.deform_conv2d(*d)},
            "topk_split": {"PyTorch": lambda s=split: reference.topk_split(*s)},
        }
        if device == "cuda" and find_kernel_library() is not None:
            from ksnet_deploy.ops import native

            candidates["deform_conv2d"]["native"] = lambda d=deform: native.deform_conv2d(*d)
            candidates["topk_split"]["native"] = lambda s=split: native.topk_split(*s)
        try:
            from torchvision.ops import deform_conv2d as torchvision_deform_conv2d

            same = (x, offset.to(dtype), weight, bias, 1, 1, 1, mask)
            candidates["deform_conv2d"]["torchvision"] = lambda a=same: torchvision_deform_conv2d(*a[:7], mask=a[7])
        except ImportError:
            pass
        moved = {
            "deform_conv2d": sum(t.numel() * t.element_size() for t in (*deform, x)),
            "topk_split": 3 * x.numel() * x.element_size() + o.numel() * o.element_size(),  # read twice, written once
        }
        with torch.inference_mode():
            for operator, implementations in candidates.items():
                floor = moved[operator] / gb_s / 1e6
                for name, work in implementations.items():
                    ms = milliseconds(work, device, seconds)
                    rows.append(
                        {
                            "operator": operator,
                            "dtype": str(dtype).removeprefix("torch."),
                            "implementation": name,
                            "ms": ms,
                            "memory_floor_ms": floor,
                            "over_floor": ms / floor,
                        }
                    )
    return rows


def frames_of(size: FrameSize, device: str) -> list[Tensor]:
    """Random texture that moves by a pixel each frame, (1, H, W, 3) uint8."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(
        rng.integers(0, 256, (1, 3, size.height // 4 + FRAMES, size.width // 4 + FRAMES)).astype("f4")
    )
    scene = torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bicubic").clamp(0, 255).byte()
    views = (scene[..., i : i + size.height, i : i + size.width] for i in range(FRAMES))
    return [view.permute(0, 2, 3, 1).contiguous().to(device) for view in views]


def run(advance: Advance, network: KSNet, frames: list[Tensor]) -> list[np.ndarray]:
    state, pictures = network.initial_state(decode_frame(frames[0])), []
    for frame in frames:
        hr, state = advance(frame, state)
        pictures.append(hr[0].cpu().numpy())
    return pictures


def eager(network: KSNet) -> Advance:
    def advance(frame: Tensor, state: State) -> tuple[Tensor, State]:
        hr, following = network(decode_frame(frame), state)
        return encode_frame(hr, torch.uint8), following

    return advance


def step_rows(size: FrameSize, model: KSNet, device: str, seconds: float) -> list[dict[str, Any]]:
    """The step in PyTorch, one technique more in each row; PSNR of the worst frame is against the first row."""
    frames = frames_of(size, device)
    plain = fold(model).to(device)
    rows: list[dict[str, Any]] = []
    expected: list[np.ndarray] = []

    def add(name: str, network: KSNet, advance: Advance, work: Callable[[], object]) -> None:
        pictures = run(advance, network, frames)
        if not expected:
            expected.extend(pictures)
        least = min(psnr(found, wanted) for found, wanted in zip(pictures, expected, strict=True))
        ms = milliseconds(work, device, seconds)
        row = {"step": name, "ms": ms, "fps": 1e3 / ms, "least_psnr_db": None if np.isinf(least) else least}
        rows.append(row | {"speed_up": rows[0]["ms"] / ms if rows else 1.0})

    def add_eager(name: str, network: KSNet) -> None:
        advance, state = eager(network), network.initial_state(decode_frame(frames[0]))
        add(name, network, advance, lambda: advance(frames[0], state))

    with torch.inference_mode():
        add_eager("float32, eager", plain)
        if device == "cpu":
            return rows
        half = with_precision(plain, "fp16")
        add_eager("+ half", half)
        half = half.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        add_eager("+ channels last", half)
        if use_native_kernels(half):
            add_eager("+ native kernels", half)
        recorded = RecordedStep(eager(half), half.initial_state, size, torch.uint8)
        fresh = [True]

        def replay(frame: Tensor, state: State) -> tuple[Tensor, State]:
            hr = recorded(frame, fresh=fresh[0])
            fresh[0] = False
            return hr, state

        add("+ CUDA graph", half, replay, lambda: recorded(frames[0], fresh=False))
    return rows


def engine_row(path: Path, size: FrameSize, seconds: float) -> dict[str, Any]:
    """An engine from frame to frame, copies to and from the device included, on the host's clock."""
    from ksnet_deploy.runtime.open import open_runner

    frame = frames_of(size, "cpu")[0][0].numpy()
    with open_runner(path, size) as runner:
        ms = milliseconds(lambda: runner.step(frame), "cpu", seconds)
        return {"step": f"{runner.backend} engine, with the copies", "ms": ms, "fps": 1e3 / ms, "least_psnr_db": None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=FrameSize.parse, default=FrameSize(180, 320))
    parser.add_argument("--model", default="uni")
    parser.add_argument("--engine", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0, help="per row")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("Error: PyTorch finds no CUDA device here; try the script with --device cpu.")

    model = load_checkpoint(bundled_checkpoint(options.model)).model
    machine = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    gb_s = bandwidth_gb_s(options.device, options.seconds)
    report: dict[str, Any] = {
        "machine": machine,
        "torch": torch.__version__,
        "model": options.model,
        "size": str(options.size),
        "copy_gb_s": gb_s,
        "kernels": kernel_rows(options.size, model, options.device, gb_s, options.seconds),
        "steps": step_rows(options.size, model, options.device, options.seconds),
    }
    if options.engine:
        report["steps"].append(engine_row(options.engine, options.size, options.seconds))
    print(f"{machine}, copy {gb_s:.0f} GB/s, {options.model} at {options.size}")
    for row in report["kernels"]:
        name = f"{row['operator']} {row['dtype']} {row['implementation']}"
        print(f"{name:<48}{row['ms']:>9.3f} ms{row['over_floor']:>8.1f} x the memory floor")
    for row in report["steps"]:
        quality = "" if row["least_psnr_db"] is None else f"{row['least_psnr_db']:>8.1f} dB"
        print(f"{row['step']:<48}{row['ms']:>9.3f} ms{row['fps']:>8.1f} fps{quality}")
    if options.device == "cuda":
        path = RESULTS / f"{re.sub(r'[^a-z0-9]+', '-', f'{machine}-{options.model}'.lower())}.json"
        path.write_text(json.dumps(report, indent=1) + "\n")
        print(f"Written to {path}")


if __name__ == "__main__":
    main()
