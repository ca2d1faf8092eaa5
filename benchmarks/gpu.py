"""What each technique is worth on a CUDA GPU: kernels against PyTorch and the memory's speed, the step as a waterfall.

    python benchmarks/gpu.py [--size 180x320] [--model uni] [--engine uni.engine ...] [--seconds 2] [--output folder]

Needs PyTorch with CUDA; takes the native kernels where `ksnet-deploy build-plugins --kernels-only` has built them,
torchvision's deformable convolution where it is installed, and engines where some are given, of any --batch. The step
is measured for 1, 2, 4 and 8 scenes side by side too, and whether each comes out as it does alone; the alignment beside
its parts; an engine with one frame in flight and with two. All rows are measured in one run, medians of CUDA events; a
row that fails says why and costs no other. The result is written after every row, to benchmarks/results/ or the folder
of `--output`. `--device cpu` tries the script where there is no GPU; it measures nothing worth keeping, and writes only
where `--output` is given.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arguments import duration, frame_size
from gpu_kernels import Attempt, kernel_rows, milliseconds
from torch import Tensor
from writing import write_json

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.network.checkpoints import load_checkpoint
from ksnet_deploy.network.folding import fold
from ksnet_deploy.network.model import KSNet, State
from ksnet_deploy.network.pixels import decode_frame, encode_frame
from ksnet_deploy.network.precision import with_precision
from ksnet_deploy.ops import native
from ksnet_deploy.runtime.base import Runner, pipelined
from ksnet_deploy.runtime.lanes import Lanes
from ksnet_deploy.runtime.torch import TorchRunner
from ksnet_deploy.runtime.torch_kernels import (
    extract_beside_flow,
    fuse_convolutions,
    fuse_head,
    use_native_kernels,
)
from ksnet_deploy.runtime.torch_padding import pad_selection
from ksnet_deploy.runtime.torch_recorded import RecordedStep, exact_and_tuned

RESULTS = Path(__file__).parent / "results"
FRAMES = 30
LANES, LANE_STEPS = (1, 2, 4, 8), 3
"""Scenes side by side, the most last; frames of each that are compared with those of the scene alone."""

Advance = Callable[[Tensor, State], tuple[Tensor, State]]


def bandwidth_gb_s(device: str, seconds: float) -> float:
    """Of a copy within the device's memory: bytes read and written."""
    source = torch.empty(1 << (28 if device == "cuda" else 24), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / milliseconds(lambda: target.copy_(source), device, seconds) / 1e6


def ceiling_rows(attempt: Attempt, model: KSNet, size: FrameSize, device: str, seconds: float) -> None:
    """What the card reaches at its best: a large product of matrices, and the network's commonest convolution."""
    dtype = torch.float16 if device == "cuda" else torch.float32
    side, c = 8192 if device == "cuda" else 512, model.config.channels

    def product() -> dict[str, Any]:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        return {"tflop_s": 2 * side**3 / milliseconds(lambda: a @ b, device, seconds) / 1e9}

    def convolution() -> dict[str, Any]:
        shape = (1, c, 2 * size.height, 2 * size.width)
        x = torch.randn(shape, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
        conv = torch.nn.Conv2d(c, 4 * c, 3, padding=1, device=device, dtype=dtype).to(memory_format=torch.channels_last)
        work = 2 * 9 * c * 4 * c * x[0, 0].numel()
        return {"tflop_s": work / milliseconds(lambda: conv(x), device, seconds) / 1e9}

    attempt("ceilings", {"ceiling": f"{side} x {side} matrices, {dtype}"}, product)
    attempt("ceilings", {"ceiling": f"3x3 convolution {c} -> {4 * c} at twice {size}, {dtype}"}, convolution)


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


def step_rows(attempt: Attempt, size: FrameSize, model: KSNet, device: str, seconds: float) -> None:
    """The step in PyTorch, one technique more in each row; PSNR of the worst frame is against the first row."""
    frames = frames_of(size, device)
    plain = fold(model).to(device)
    expected: list[np.ndarray] = []
    first_ms: list[float] = []

    def add(name: str, prepare: Callable[[], tuple[KSNet, Advance, Callable[[], object]]]) -> None:
        def measure() -> dict[str, Any]:
            network, advance, work = prepare()
            pictures = run(advance, network, frames)
            if not expected:
                expected.extend(pictures)
            least = min(psnr(found, wanted) for found, wanted in zip(pictures, expected, strict=True))
            ms = milliseconds(work, device, seconds)
            first_ms.append(ms)
            row = {"ms": ms, "fps": 1e3 / ms, "least_psnr_db": None if np.isinf(least) else least}
            return row | {"speed_up": first_ms[0] / ms}

        attempt("steps", {"step": name}, measure)

    def add_eager(name: str, network: Callable[[], KSNet]) -> None:
        def prepare() -> tuple[KSNet, Advance, Callable[[], object]]:
            here = network()
            advance, state = eager(here), here.initial_state(decode_frame(frames[0]))
            return here, advance, lambda: advance(frames[0], state)

        add(name, prepare)

    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
        add_eager("float32, eager", lambda: plain)
    if device == "cpu":
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
        add_eager("TF32 in its convolutions", lambda: plain)
    with exact_and_tuned():
        half = with_precision(plain, "fp16")
        add_eager("half", lambda: half)
        channels_last = with_precision(plain, "fp16").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        add_eager("+ channels last", lambda: channels_last)
        with_kernels = with_precision(plain, "fp16").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        native_kernels = use_native_kernels(with_kernels)
        if native_kernels:
            add_eager("+ native operators, warps, pictures", lambda: with_kernels)

    def prepare_recorded() -> tuple[KSNet, Advance, Callable[[], object]]:
        recorded = RecordedStep(eager(with_kernels), with_kernels, size, torch.uint8)
        fresh = [True]

        def replay(frame: Tensor, state: State) -> tuple[Tensor, State]:
            hr = recorded(frame, fresh=fresh[0])
            fresh[0] = False
            return hr.clone(), state

        return with_kernels, replay, lambda: recorded(frames[0], fresh=False)

    add("+ CUDA graph, with the copies", prepare_recorded)
    techniques: list[tuple[str, bool, Callable[[], object]]] = [
        (
            "+ last layers in one kernel",
            native_kernels and native.kernel_library().narrow_conv_runs(),
            lambda: fuse_head(with_kernels, native.narrow_conv),
        ),
        ("+ pictures as bytes", native_kernels, lambda: use_native_kernels(with_kernels, torch.uint8)),
        (
            "+ channels in whole vectors",
            native_kernels,
            lambda: pad_selection(with_kernels, native.topk_split),
        ),
        ("+ fused epilogues", native_kernels, lambda: fuse_convolutions(with_kernels, native.epilogue)),
        ("+ features beside the flow", with_kernels.flow is not None, lambda: extract_beside_flow(with_kernels)),
    ]
    for name, possible, apply in techniques:
        if possible:
            apply()
            add(name, prepare_recorded)


def lane_rows(attempt: Attempt, size: FrameSize, model: KSNet, device: str, seconds: float) -> None:
    """Scenes side by side, as ``upscale --scenes-in-flight`` runs them, with the copies, on the host's clock; each is
    held to itself alone, in the first row."""
    frames = [frame[0].numpy() for frame in frames_of(size, "cpu")]
    scenes = [[frames[(7 * lane + step) % FRAMES] for step in range(LANE_STEPS)] for lane in range(LANES[-1])]
    alone: list[list[np.ndarray]] = []
    one_ms: list[float] = []

    def measure(lanes: int) -> dict[str, Any]:
        with TorchRunner(model, size, device=device, lanes=lanes) as runner:
            side_by_side, found = Lanes(runner), list[list[np.ndarray]]()
            for first in range(0, LANES[-1], lanes):
                for lane in range(lanes):
                    side_by_side.reset(lane)
                steps = zip(*scenes[first : first + lanes], strict=True)
                results = [side_by_side.step(dict(enumerate(pictures))) for pictures in steps]
                found += [[result[lane].copy() for result in results] for lane in range(lanes)]
            ms = milliseconds(lambda: side_by_side.step({n: frames[n] for n in range(lanes)}), "cpu", seconds)
        alone[:], one_ms[:] = alone or found, one_ms or [ms]
        pairs = [pair for each in zip(found, alone, strict=True) for pair in zip(*each, strict=True)]
        least = min(psnr(*pair) for pair in pairs)
        row = {"ms": ms, "fps": lanes * 1e3 / ms, "least_psnr_db": None if np.isinf(least) else least}
        return row | {"speed_up": lanes * one_ms[0] / ms, "same_bits": all(np.array_equal(*pair) for pair in pairs)}

    for lanes in LANES:
        attempt("lanes", {"scenes side by side": lanes}, lambda lanes=lanes: measure(lanes))  # type: ignore[misc]


def engine_row(path: Path, size: FrameSize, seconds: float) -> dict[str, Any]:
    """An engine from frame to frame, copies to and from the device included, on the host's clock."""
    frame = frames_of(size, "cpu")[0][0].numpy()
    with opened(path, size) as runner:
        side_by_side, lanes = Lanes(runner), runner.lanes
        ms = milliseconds(lambda: side_by_side.step(dict.fromkeys(range(lanes), frame)), "cpu", seconds)
        row = {"backend": runner.backend, "scenes side by side": lanes, "ms": ms}
        return row | {"fps": lanes * 1e3 / ms, "least_psnr_db": None}


def opened(path: Path, size: FrameSize) -> Runner:
    """The runner of an engine."""
    from ksnet_deploy.runtime.open import open_runner
    from ksnet_deploy.runtime.tensorrt.sidecar import Sidecar

    return open_runner(path, size, lanes=Sidecar.read(path).spec.batch)


def overlap_rows(attempt: Attempt, name: str, opened: Callable[[], Runner], size: FrameSize, seconds: float) -> None:
    """A runner with one frame in flight, and with two: the next is uploaded while this one is computed. With the
    copies, on the host's clock; the second row is held to the first one's pictures."""
    frames = [frame[0].numpy() for frame in frames_of(size, "cpu")]
    expected: list[np.ndarray] = []
    first_ms: list[float] = []

    def measure(depth: int) -> dict[str, Any]:
        with opened() as runner:
            if depth > runner.most_in_flight:
                raise ValueError(f"the runner takes {runner.most_in_flight} at once")

            def work(count: int = FRAMES) -> list[np.ndarray]:
                given = [np.repeat(frame[None], runner.lanes, 0) if runner.lanes > 1 else frame for frame in frames]
                if depth == 1:
                    return [runner.step(frame) for frame in given[:count]]
                return list(pipelined(runner, ((frame,) for frame in given[:count])))

            pictures = work(LANE_STEPS)
            ms = milliseconds(work, "cpu", seconds) / FRAMES
        expected[:], first_ms[:] = expected or pictures, first_ms or [ms]
        same = all(np.array_equal(found, wanted) for found, wanted in zip(pictures, expected, strict=True))
        return {"ms": ms, "fps": runner.lanes * 1e3 / ms, "speed_up": first_ms[0] / ms, "same_bits": same}

    for depth in (1, 2):
        attempt("overlap", {"step": name, "frames in flight": depth}, lambda depth=depth: measure(depth))  # type: ignore[misc]


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    figures = {
        "ms",
        "fps",
        "memory_floor_ms",
        "over_floor",
        "least_psnr_db",
        "speed_up",
        "tflop_s",
        "error",
        "same_bits",
    }
    names = {key: f"{key} {value}" if isinstance(value, int) else str(value) for key, value in row.items()}
    text = f"{' '.join(name for key, name in names.items() if key not in figures):<64}"
    if "error" in row:
        return f"{text} failed: {row['error']}"
    text += f"{row['ms']:>9.3f} ms" if "ms" in row else f"{row['tflop_s']:>9.1f} TFLOP/s"
    text += f"{row['over_floor']:>8.1f} x the memory floor" if "over_floor" in row else ""
    text += f"{row['fps']:>8.1f} fps" if "fps" in row else ""
    text += ", the same bits as before" if row.get("same_bits") else ""
    return text + (f"{row['least_psnr_db']:>8.1f} dB" if row.get("least_psnr_db") else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=frame_size, default=FrameSize(180, 320))
    parser.add_argument("--model", default="uni")
    parser.add_argument("--engine", type=Path, nargs="*", default=[])
    parser.add_argument("--seconds", type=duration, default=2.0, help="per row")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--output", type=Path, help="folder (default: benchmarks/results)")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("Error: PyTorch finds no CUDA device here; try the script with --device cpu.")

    checkpoint = load_checkpoint(bundled_checkpoint(options.model))
    model = checkpoint.model
    card = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    gb_s = bandwidth_gb_s(options.device, options.seconds)
    print(f"{card}, copy {gb_s:.0f} GB/s, {options.model} at {options.size}")
    report: dict[str, Any] = {
        "device": card,
        "torch": torch.__version__,
        "model": options.model,
        "weights_sha256": checkpoint.sha256,
        "size": str(options.size),
        "copy_gb_s": gb_s,
    }
    folder = options.output or (RESULTS if options.device == "cuda" else None)
    path = folder and folder / f"{re.sub(r'[^a-z0-9]+', '-', f'{card}-{options.model}'.lower())}.json"

    def attempt(part: str, names: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> None:
        try:
            with torch.inference_mode():
                row = names | measure()
        except Exception as error:  # whatever a card or a library raises must not cost the other rows
            row = names | {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        report.setdefault(part, []).append(row)
        print(line(row), flush=True)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, report)

    ceiling_rows(attempt, model, options.size, options.device, options.seconds)
    kernel_rows(attempt, options.size, model, options.device, gb_s, options.seconds)
    step_rows(attempt, options.size, model, options.device, options.seconds)
    lane_rows(attempt, options.size, model, options.device, options.seconds)
    in_torch = partial(TorchRunner, model, options.size, device=options.device)
    overlap_rows(attempt, "PyTorch", in_torch, options.size, options.seconds)
    for engine in options.engine:
        names = {"step": f"{engine.name}, with the copies"}
        attempt("steps", names, lambda engine=engine: engine_row(engine, options.size, options.seconds))  # type: ignore[misc]
        overlap_rows(attempt, engine.name, partial(opened, engine, options.size), options.size, options.seconds)
    if path is not None:
        print(f"Written to {path}")


if __name__ == "__main__":
    main()
