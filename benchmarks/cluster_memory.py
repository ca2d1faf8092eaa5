"""Memory of a cluster's driver and workers, for a short film and for a long one.

    python benchmarks/cluster_memory.py --output benchmarks/results/cluster-memory.json

Films of 48x64 with scenes of 50 frames are made by two workers of one thread each; for each film a process of its own.
The driver holds up to 32 MB of frames that wait, for each worker, so it grows until the film has as many.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
from arguments import positive, result_path
from cluster import SIZE, make_film, measured
from writing import write_json

SCENE_FRAMES = 50


class Watch(threading.Thread):
    """Looks every 50 ms at the memory of this process and of Ray's workers."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.driver_mb = self.worker_mb = 0.0
        self._end = threading.Event()

    def run(self) -> None:
        process = psutil.Process()
        while not self._end.wait(0.05):
            self.driver_mb = max(self.driver_mb, process.memory_info().rss / 1e6)
            for child in process.children(recursive=True):
                with suppress(psutil.NoSuchProcess):  # it has just ended
                    if "ray::Worker" in " ".join(child.cmdline()):
                        self.worker_mb = max(self.worker_mb, child.memory_info().rss / 1e6)

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()


def watched(frames: int, folder: Path, model: str) -> dict[str, float]:
    """Peaks of the driver, which is this process, and of the larger of two workers."""
    scenes = [SCENE_FRAMES] * (frames // SCENE_FRAMES)
    film = folder / f"{frames}.mkv"
    make_film(film, scenes, np.random.default_rng(7))
    cuts = frozenset(range(0, frames, SCENE_FRAMES))
    with Watch() as watch:
        run = measured(film, cuts, 2, folder, model)
    return {"frames": run.frames, "driver_mb": round(watch.driver_mb, 1), "worker_mb": round(watch.worker_mb, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--frames", type=positive, nargs="+", default=[200, 2000, 200, 2000])
    parser.add_argument("--output", type=result_path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for frames in options.frames:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                rows.append(pool.apply(watched, (frames, Path(folder), options.model)))
    report = {"size": str(SIZE), "model": options.model, "workers": 2, "films": rows}
    print(json.dumps(report, indent=2))
    if options.output:
        write_json(options.output, report)


if __name__ == "__main__":
    main()
