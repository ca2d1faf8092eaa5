"""Films over many workers: one against two workers here, and what follows for many more, by a simulation.

    python benchmarks/cluster.py --output benchmarks/results/cluster.json

Measured, in one run: a film of 20 scenes, made by this script, by one and by two workers of one thread each, by turns,
with the bundled lite network. From the costs of the run with one worker (seconds of a worker for a frame, of the driver
for reading one and for putting one into the file, bytes of a frame on its way) the same schedule is simulated: for
these two runs, which checks it; then for up to 1,000 GPUs and 10,000 films. What a GPU does a second is not measured
here: it is the paper's figure for an RTX 3080 at 180x320.
"""

from __future__ import annotations

import argparse
import heapq
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
from arguments import positive, result_path
from writing import write_json

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.machine import cores
from ksnet_deploy.cluster.chunks import ChunkPacker
from ksnet_deploy.cluster.front import Cluster
from ksnet_deploy.upscale.destination import Destination
from ksnet_deploy.upscale.ladder import Choices
from ksnet_deploy.upscale.plan import FramePlan
from ksnet_deploy.upscale.result import Events, UpscaleResult
from ksnet_deploy.upscale.scenes import GivenCuts, SceneDetector
from ksnet_deploy.upscale.work import Work
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.reading.reader import VideoReader
from ksnet_deploy.video.writing.presets import choose_encoder

SIZE = FrameSize(48, 64)
SCENES, SHORTEST, LONGEST = 20, 30, 60
"""Scenes of the measured film, and frames of each."""
GPU_FPS, GPU_SIZE = 32.3, FrameSize(180, 320)
"""As published for an RTX 3080."""
FILM_FRAMES, SCENE_FRAMES = 150_000, 120
"""Frames of a film of 100 minutes, and of a scene of it, on average; lengths are exponential, 24 frames at least."""
NETWORK_BYTES_PER_S = 1.25e9
"""10 gigabits a second."""
DRIVER_CORES = 16


def lengths(rng: np.random.Generator, scenes: int) -> list[int]:
    return [int(n) for n in rng.integers(SHORTEST, LONGEST + 1, scenes)]


def make_film(path: Path, scenes: list[int], rng: np.random.Generator, frame_size: FrameSize = SIZE) -> None:
    """Textures that move, another for each scene."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "16"})
        stream.height, stream.width, stream.pix_fmt = frame_size.height, frame_size.width, "yuv420p"
        pts = 0
        for count in scenes:
            side = (frame_size.height + count) // 4 + 2, (frame_size.width + 2 * count) // 4 + 2
            texture = rng.integers(0, 256, (*side, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
            for index in range(count):
                picture = texture[index : index + frame_size.height, 2 * index : 2 * index + frame_size.width]
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frame.pts, frame.time_base = pts, Fraction(1, 25)
                container.mux(stream.encode(frame))
                pts += 1
        container.mux(stream.encode(None))


@dataclass(frozen=True)
class Run:
    """One measured run."""

    workers: int
    wall_s: float
    frames: int
    read_s: float
    """Seconds that the driver read and planned frames."""
    worker_s: float
    """Seconds that workers computed and encoded, of all of them."""
    around_s: float
    """Seconds before the first frame is asked for and after the last segment is there, whatever the film's length."""
    put_together_s: float
    """Seconds in which the segments become the file."""
    driver_cpu_s: float
    sent_bytes: int
    received_bytes: int
    driver_mb: float
    worker_mb: float

    @property
    def fps(self) -> float:
        return self.frames / self.wall_s


@dataclass(frozen=True)
class Timed:
    result: UpscaleResult
    wall_s: float

    @property
    def around_s(self) -> float:
        """Seconds in which no frame was read, upscaled or encoded."""
        return self.wall_s - self.result.times.wall_s


def timed(upscale: Callable[[], UpscaleResult]) -> Timed:
    began = time.perf_counter()
    result = upscale()
    return Timed(result, time.perf_counter() - began)


def per_frame(short: Timed, full: Timed) -> float:
    """Seconds in which a frame is put into the file: what more frames cost around the work."""
    return max(full.around_s - short.around_s, 0) / (full.result.frames - short.result.frames)


def measured(film: Path, cuts: frozenset[int], workers: int, folder: Path, model: str) -> Run:
    encoder = choose_encoder("h264")
    with Cluster(workers=workers, threads=1, choices=Choices("onnxruntime", "cpu")) as cluster:

        def upscale(source: Source, name: str) -> UpscaleResult:
            destination = Destination(folder / name, "video")
            work = Work(
                source=source, destination=destination, encoder=encoder, detector=GivenCuts(cuts), overwrite=True
            )
            return cluster.upscale(work, model, Events())

        upscale(Source(film, end_s=Fraction(5)), "warm.mkv")  # every worker loads the network
        short = timed(lambda: upscale(Source(film, end_s=Fraction(5)), "short.mkv"))
        process = psutil.Process()
        sent, received, cpu = cluster.sent_bytes, cluster.received_bytes, sum(process.cpu_times()[:2])
        full = timed(lambda: upscale(Source(film), f"{workers}.mkv"))
        result, put_together_s = full.result, per_frame(short, full) * full.result.frames
        children = [c for c in process.children(recursive=True) if "ray::Worker" in " ".join(c.cmdline())]
        return Run(
            workers=workers,
            wall_s=full.wall_s,
            frames=result.frames,
            read_s=result.times.busy_s["decode"],
            worker_s=sum(result.times.busy_s[name] for name in ("network", "encode")) * workers,
            around_s=full.around_s - put_together_s,
            put_together_s=put_together_s,
            driver_cpu_s=sum(process.cpu_times()[:2]) - cpu,
            sent_bytes=cluster.sent_bytes - sent,
            received_bytes=cluster.received_bytes - received,
            driver_mb=process.memory_info().rss / 1e6,
            worker_mb=max(child.memory_info().rss for child in children) / 1e6,
        )


def reading_costs(film: Path) -> tuple[float, float]:
    """Seconds, and seconds of processors, in which a frame of a film is decoded, looked at for cuts, and packed."""
    process, frames, packer = psutil.Process(), 0, ChunkPacker()
    began, cpu = time.perf_counter(), sum(process.cpu_times()[:2])
    with VideoReader(film) as reader:
        for planned in FramePlan(SceneDetector(), reader.time_base).of(reader.frames()):
            if planned.starts_segment or packer.is_full:
                packer.take()
            packer.add(planned)
            frames += 1
    return (time.perf_counter() - began) / frames, (sum(process.cpu_times()[:2]) - cpu) / frames


@dataclass(frozen=True)
class Costs:
    """Costs of a frame."""

    worker_s: float
    """Seconds of a worker."""
    read_s: float
    """Seconds in which the driver can read, plan and send another frame, whatever is the slowest of it."""
    around_s: float
    """Seconds before the first frame of the first film and after the last segment of the last."""


def simulated(scenes: Iterator[int], workers: int, costs: Costs, waiting: int) -> tuple[float, float]:
    """Seconds that all scenes take, and that their frames alone take the workers.

    Scenes come in the order of the film, as fast as they are read, but no more than ``waiting`` are ahead of the
    workers; each goes to the worker that is free first.
    """
    free = [0.0] * workers
    started: list[float] = [0.0] * waiting
    read, work, place = 0.0, 0.0, 0
    for count in scenes:
        read = max(read + count * costs.read_s, started[place])
        seconds = count * costs.worker_s
        # A scene is taken while it is still being read, and ends no sooner than its last frame is there.
        start = max(free[0], read - count * costs.read_s)
        heapq.heapreplace(free, max(start + seconds, read + costs.worker_s))
        started[place] = start
        place = (place + 1) % waiting
        work += seconds
    return max(free) + costs.around_s, work


def film_scenes(films: int, rng: np.random.Generator) -> Iterator[int]:
    per_film = FILM_FRAMES // SCENE_FRAMES
    for _ in range(films):
        yield from (24 + rng.exponential(SCENE_FRAMES - 24, per_film)).astype(int).tolist()


def driver_limits(run: Run, reading: tuple[float, float]) -> dict[str, float]:
    """Frames a second that a driver of 16 cores serves at 180x320, by what limits it; ``reading`` is of that size."""
    pixels = GPU_SIZE.height * GPU_SIZE.width / (SIZE.height * SIZE.width)
    sent = run.sent_bytes / run.frames * pixels
    received = run.received_bytes / run.frames * pixels
    wall_s, cpu_s = reading
    return {
        "processor": DRIVER_CORES / cpu_s,
        "network": NETWORK_BYTES_PER_S / (sent + received),
        "one film's reading": 1 / wall_s,
    }


def scale_up(run: Run, limits: dict[str, float]) -> list[dict[str, Any]]:
    """Rows of the simulation for GPUs."""
    pixels = GPU_SIZE.height * GPU_SIZE.width / (SIZE.height * SIZE.width)
    together = run.around_s + run.put_together_s / run.frames * pixels * FILM_FRAMES
    rows = []
    for films in (1, 100, 10_000):
        alone = limits["one film's reading"] * min(films, DRIVER_CORES)
        fps = min(limits["processor"], limits["network"], alone)
        for gpus in (1, 10, 30, 100, 300, 1000):
            kept = min(films, 100)  # more films only make the same schedule longer
            wall, work = simulated(
                film_scenes(kept, np.random.default_rng(0)),
                gpus,
                Costs(1 / GPU_FPS, 1 / fps, together),
                max(2 * gpus, 4),
            )
            ideal = work / gpus
            rows.append(
                {
                    "films": films,
                    "gpus": gpus,
                    "hours": round(wall / 3600 * films / kept, 2),
                    "of_ideal": round(ideal / wall, 3),
                    "driver_fps": round(fps, 1),
                }
            )
    return rows


def plot(rows: list[dict[str, Any]], saturation: dict[str, float], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for films in dict.fromkeys(row["films"] for row in rows):
        of_films = [row for row in rows if row["films"] == films]
        axes.plot(
            [row["gpus"] for row in of_films],
            [row["of_ideal"] for row in of_films],
            marker="o",
            label=f"{films:,} films",
        )
    for name, gpus in saturation.items():
        axes.axvline(gpus, color="grey", linestyle=":")
        axes.text(gpus, 0.02, f" {name}", rotation=90, fontsize=7, va="bottom")
    axes.set_xscale("log")
    axes.set_ylim(0, 1.05)
    axes.set_xlabel(f"GPUs of {GPU_FPS} fps at {GPU_SIZE} each")
    axes.set_ylabel("share of the ideal speed")
    axes.set_title("Simulated: one driver, frames sent to the workers")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--scenes", type=positive, default=SCENES)
    parser.add_argument("--rounds", type=positive, default=2, help="runs with one and with two workers, by turns")
    parser.add_argument("--output", type=result_path)
    options = parser.parse_args()
    rng = np.random.default_rng(7)
    scenes = lengths(rng, options.scenes)
    cuts = frozenset(int(n) for n in np.cumsum([0, *scenes[:-1]]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_film(folder / "film.mkv", scenes, rng)
        runs = [
            measured(folder / "film.mkv", cuts, workers, folder, options.model)
            for _ in range(options.rounds)
            for workers in (1, 2)
        ]
        make_film(folder / "larger.mkv", scenes, rng, GPU_SIZE)
        reading = reading_costs(folder / "larger.mkv")
        same = (folder / "1.mkv").read_bytes() == (folder / "2.mkv").read_bytes()
    best = {workers: min((r for r in runs if r.workers == workers), key=lambda r: r.wall_s) for workers in (1, 2)}
    one, two = best[1], best[2]
    costs = Costs(one.worker_s / one.frames, one.read_s / one.frames, one.around_s + one.put_together_s)
    checks = {}
    for workers, run in best.items():
        wall, _ = simulated(iter(scenes), workers, costs, 2 * workers + 2)
        checks[f"{workers} workers"] = {
            "measured_s": round(run.wall_s, 2),
            "simulated_s": round(wall, 2),
            "simulated_over_measured": round(wall / run.wall_s, 3),
        }
    limits = driver_limits(one, reading)
    saturation = {name: round(fps / GPU_FPS, 1) for name, fps in limits.items()}
    rows = scale_up(one, limits)
    report = {
        "cores": cores(),
        "film": {"scenes": scenes, "size": str(SIZE), "frames": one.frames},
        "model": options.model,
        "runs": [{k: round(v, 3) for k, v in asdict(run).items()} for run in runs],
        "same_bytes": same,
        "two_over_one": round(two.wall_s / one.wall_s, 3),
        "efficiency": round(one.wall_s / two.wall_s / 2, 3),
        "driver_s_per_frame_at_180x320": {"wall": round(reading[0], 5), "processors": round(reading[1], 5)},
        "driver_cpu_share": round(one.driver_cpu_s / (one.driver_cpu_s + one.worker_s), 4),
        "bytes_per_frame": {
            "sent": round(one.sent_bytes / one.frames),
            "received": round(one.received_bytes / one.frames),
        },
        "simulation_checked": checks,
        "gpu": {"fps": GPU_FPS, "size": str(GPU_SIZE), "source": "as published, RTX 3080"},
        "driver_frames_per_s_at_that_size": {name: round(fps, 1) for name, fps in limits.items()},
        "gpus_that_saturate_the_driver": saturation,
        "simulated": rows,
    }
    print(json.dumps(report, indent=2))
    if options.output:
        write_json(options.output, report)
        plot(rows, saturation, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
