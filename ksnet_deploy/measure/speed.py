"""Timing of every backend of this machine, side by side in one run.

Each backend is measured in a process of its own, so that its peak memory is its own. The figures of one report are
comparable with each other; figures of two reports only when the machine was idle for both.
"""

from __future__ import annotations

import itertools
import multiprocessing
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.errors import BackendError, KSNetError
from ksnet_deploy.base.frames import FrameSize, values_of
from ksnet_deploy.base.machine import cores, cpu_name, peak_memory
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.base.version import __version__
from ksnet_deploy.export.cache import cached_onnx
from ksnet_deploy.export.memory import check_memory
from ksnet_deploy.measure.memory import benchmark_bytes
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.runtime.open import open_runner
from ksnet_deploy.runtime.step_file import exported_metadata, exported_size, frame_type, load_step

__all__ = ["BENCH_CLIP", "BackendResult", "BenchmarkReport", "Latency", "measure_step", "run_benchmark"]

BENCH_CLIP = Path(__file__).parents[1] / "bundled" / "city_lr.mp4"
"""The bundled 72x128 clip."""
REFERENCE_BACKEND = "torch"
COMPARED_FRAMES = 3
CLIP_FRAMES = 20
WARM_UP_STEPS = 2


@dataclass(frozen=True)
class Latency:
    """Wall-clock times of repeated calls."""

    samples: int
    p50_ms: float
    p90_ms: float
    p99_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        p50, p90, p99 = (float(np.percentile(seconds, q)) * 1e3 for q in (50, 90, 99))
        return cls(len(seconds), p50, p90, p99)

    @property
    def fps(self) -> float:
        return 1e3 / self.p50_ms


@dataclass(frozen=True)
class BackendResult:
    """Measurements of one backend."""

    backend: str
    step: Latency
    clip_fps: float | None
    """Frames per second from file to file: decode, network, encode. None where an exported file takes frames of
    another size than the clip's."""
    peak_memory_mb: float
    """Largest resident memory of the process, in 1e6 bytes."""
    psnr_db: float | None
    """PSNR in dB of the first frames against the reference backend; infinite when equal. None for the reference itself,
    where there is none, and where the network is untrained, so that its output is the bicubic base whatever the layers
    before it compute."""


@dataclass(frozen=True)
class BenchmarkReport:
    """Measurements of all backends at one size."""

    size: FrameSize
    clip_size: FrameSize
    machine: str
    threads: int
    results: list[BackendResult]
    memory_estimate_bytes: int
    """Estimate for the whole benchmark, from before it."""
    network: str = "float32 network, uint8 frames"
    """Precision of the convolutions, and type of the frames, in words."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: sizes as text, an infinite PSNR as None with ``equal_to_reference`` set."""
        rows = []
        for result in self.results:
            row = asdict(result)
            row["step"]["fps"] = result.step.fps
            row["equal_to_reference"] = result.psnr_db == float("inf")
            row["psnr_db"] = None if row["equal_to_reference"] else result.psnr_db
            rows.append(row)
        return {
            "version": __version__,
            "size": str(self.size),
            "clip_size": str(self.clip_size),
            "machine": self.machine,
            "threads": self.threads,
            "memory_estimate_bytes": self.memory_estimate_bytes,
            "results": rows,
            "network": self.network,
            "published": {"source": "KSNet, MM '23, Table 1", "machine": "RTX 3080", "ms": 31, "fps": 32.3},
        }

    def as_text(self) -> str:
        """Plain text for people."""
        clip = f"clip fps ({self.clip_size})"
        head = f"{'backend':<13}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}{'n':>5}{'step fps':>10}{clip:>20}"
        lines = [
            f"One recurrent step at {self.size} (height x width), {self.network}, on {self.machine} "
            f"with {self.threads} threads",
            head + f"{'peak MB':>9}{'PSNR dB':>10}",
        ]
        for result in self.results:
            step = result.step
            compared = self.results[0].backend == REFERENCE_BACKEND
            quality = "untrained" if compared else "-"
            quality = quality if result.psnr_db is None else f"{result.psnr_db:.1f}"
            clip_fps = "-" if result.clip_fps is None else f"{result.clip_fps:.2f}"
            quality = "reference" if result.backend == REFERENCE_BACKEND else quality
            lines.append(
                f"{result.backend:<13}{step.p50_ms:>9.1f}{step.p90_ms:>9.1f}{step.p99_ms:>9.1f}{step.samples:>5}"
                f"{step.fps:>10.2f}{clip_fps:>20}{result.peak_memory_mb:>9.0f}{quality:>10}"
            )
        lines.append(f"{'paper':<13}{31.0:>9.1f}{'':>23}{32.3:>10.2f}   as published, at 180x320 on an RTX 3080")
        return "\n".join(lines)


def measure_step(
    runner: Runner, frames: Sequence[NDArray[Any]], seconds: float, *, warm_up: int = WARM_UP_STEPS
) -> Latency:
    """Time single steps for so many seconds, and at least three of them, over the frames again and again."""
    for index in range(warm_up):
        runner.step(frames[index % len(frames)])
    runner.reset()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        started = time.perf_counter()
        runner.step(frames[len(times) % len(frames)])
        times.append(time.perf_counter() - started)
    return Latency.of(times)


def run_benchmark(
    network: Path,
    size: FrameSize,
    *,
    clip: Path | None = None,
    seconds: float = 15.0,
    on_phase: Callable[[str, int | None], None] = lambda _what, _total: None,
    on_memory: Callable[[int], None] = lambda _bytes: None,
) -> BenchmarkReport:
    """Measure PyTorch on a checkpoint and ONNX Runtime on its export, or ONNX Runtime on an exported file.

    Args:
        network: a checkpoint or an ``.onnx``.
        size: of the frames of the step.
        clip: video of the end-to-end figure; the bundled one unless given. Its first 20 frames are used.
        seconds: to measure each step for.
        on_phase: told what is going on.
        on_memory: told the bytes of memory that this takes, as estimated, before any work.

    Raises:
        KSNetError: the size, network or clip cannot be used, or the memory is too small.
    """
    from ksnet_deploy.video.reading.reader import VideoReader
    from ksnet_deploy.video.writing.containers import fitting_suffixes
    from ksnet_deploy.video.writing.presets import choose_encoder
    from ksnet_deploy.video.writing.tracks import TrackPlanner

    clip = clip or BENCH_CLIP
    with VideoReader(clip) as reader:
        clip_size = reader.size
        end_s = CLIP_FRAMES / reader.rate
        suffix = fitting_suffixes(TrackPlanner(reader), choose_encoder("h264"))[0]
    is_exported = network.suffix.lower() == ".onnx"
    fixed, said = None, BenchmarkReport.network
    if is_exported:
        model = load_step(network, size.padded)
        fixed = exported_size(model)
        precision = {"fp32": "float32", "fp16": "half-precision"}[exported_metadata(model)["ksnet.precision"]]
        said = f"{precision} network, {frame_type(network, model)} frames"
    fits = fixed in (None, clip_size.padded)
    needed = benchmark_bytes(network, size.padded, clip_size.padded if fits else None)
    check_memory(f"to measure frames of {size}", needed, "choose a smaller --size or --clip")
    on_memory(needed)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for backend in ("onnxruntime",) if is_exported else (REFERENCE_BACKEND, "onnxruntime"):
            on_phase(f"{backend}, which takes about {seconds * 2:.0f} s or more", None)
            step = of_clip = network
            if backend == "onnxruntime" and not is_exported:
                step, of_clip = (cached_onnx(network, s.padded) for s in (size, clip_size))
            artifacts = step, of_clip if fits else None
            job = _Job(backend, *artifacts, size.padded, clip, Path(folder), suffix, end_s, seconds)
            results.append(_in_child(job))
    return BenchmarkReport(size.padded, clip_size, cpu_name(), cores(), results, needed, said)


@dataclass(frozen=True)
class _Job:
    backend: str
    artifact: Path
    clip_artifact: Path | None
    """None where the clip is not run."""
    size: FrameSize
    clip: Path
    folder: Path
    suffix: str
    clip_end_s: Fraction
    seconds: float


def _in_child(job: _Job) -> BackendResult:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(job, sender))
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        raise BackendError(
            f"the {job.backend} benchmark died with exit code {process.exitcode}; if the machine ran out of memory, "
            "choose a smaller --size"
        ) from None
    finally:
        process.terminate()  # has no effect on one that has sent its answer and ended
        process.join()
    if isinstance(answer, KSNetError):
        raise answer
    assert isinstance(answer, BackendResult)
    return answer


def _child(job: _Job, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends this process
    try:
        sender.send(_measure(job))
    except KSNetError as error:
        sender.send(error)
    except MemoryError:
        sender.send(BackendError(f"the {job.backend} benchmark ran out of memory; choose a smaller --size"))


def _is_trained(checkpoint: Path) -> bool:
    from torch.nn import Conv2d

    from ksnet_deploy.network.checkpoints import load_checkpoint

    head = load_checkpoint(checkpoint).model.reconstruct.head
    *_, last = (layer for layer in head if isinstance(layer, Conv2d))  # which is zero in a new network
    return any(bool(values.any()) for values in last.parameters())


def _measure(job: _Job) -> BackendResult:
    from ksnet_deploy.upscale.run import upscale_video
    from ksnet_deploy.upscale.upscaler import Upscaler

    with open_runner(job.artifact, job.size) as runner:
        frames = [values_of(frame, runner.io) for frame in moving_frames(job.size)]
        step = measure_step(runner, frames, job.seconds)
        runner.reset()
        pictures = np.stack([runner.step(frame) for frame in frames[:COMPARED_FRAMES]])
    reference = job.folder / "reference.npy"
    quality = None
    if job.backend == REFERENCE_BACKEND:
        if _is_trained(job.artifact):
            np.save(reference, pictures)
    elif reference.exists():
        quality = psnr(pictures, np.load(reference))
    peak = peak_memory() / 1e6
    clip_fps = None
    if (artifact := job.clip_artifact) is not None:
        upscaler = Upscaler(open_runner=lambda size, _io: open_runner(artifact, size))
        target = job.folder / f"{job.backend}{job.suffix}"
        clip_fps = upscale_video(job.clip, target, upscaler, end_s=job.clip_end_s).fps
    return BackendResult(job.backend, step, clip_fps, peak, quality)


def moving_frames(size: FrameSize, count: int = 8) -> list[NDArray[np.uint8]]:
    """Natural-looking uint8 frames in motion: the bundled clip, tiled to the size."""
    from ksnet_deploy.video.reading.reader import VideoReader

    frames: list[NDArray[np.uint8]] = []
    with VideoReader(BENCH_CLIP) as reader:
        repeat = (-(-size.height // reader.size.height), -(-size.width // reader.size.width), 1)
        for frame in itertools.islice(reader.frames(), count):
            frames.append(np.ascontiguousarray(np.tile(frame.rgb, repeat)[: size.height, : size.width]))
    return frames
