"""What `upscale` costs beside the network, and how well its stages overlap; ratios from one run.

    python benchmarks/pipeline.py [VIDEO] --output benchmarks/results/pipeline-NAME.json

Two rows, over the video played forwards and backwards twice. With the bundled lite network: the wall time against the
time spent in the network's steps. With a network that takes no time: the wall time against the slowest stage, which is
all that it could be, and against the sum of the stages, which it would be without overlap.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np
from arguments import result_path
from numpy.typing import NDArray
from writing import write_json

from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.base.machine import cores
from ksnet_deploy.measure.speed.frames import BENCH_CLIP
from ksnet_deploy.runtime.base import StatelessRunner
from ksnet_deploy.upscale.result import UpscaleResult
from ksnet_deploy.upscale.run import upscale_video
from ksnet_deploy.upscale.upscaler import Upscaler
from ksnet_deploy.video.reading.reader import VideoReader


class InstantRunner(StatelessRunner):
    """Gives the same picture for every frame at once."""

    backend = "none"

    def __init__(self, size: FrameSize, io: FrameType = "uint8") -> None:
        super().__init__(size, io)
        # Noise would be all that the encoder works for; a smooth picture is nearer to what it gets.
        y, x = np.mgrid[: size.upscaled.height, : size.upscaled.width]
        self._hr = np.stack([(x + y) % 256, x % 256, y % 256], axis=-1).astype(io)

    def _step(self, _lr: NDArray[Any]) -> NDArray[Any]:
        return self._hr


def longer(source: Path, target: Path) -> Path:
    """The video forwards and backwards, twice, so that its beginning and its end do not weigh much."""
    with VideoReader(source) as reader:
        frames = [frame.rgb for frame in reader.frames(eight_bits=True)]
    with av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "16"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for rgb in (*frames, *frames[-2:0:-1]) * 2:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb)))
        container.mux(stream.encode(None))
    return target


def row(result: UpscaleResult) -> dict[str, Any]:
    busy = result.times.busy_s
    return {
        "frames": result.frames,
        "wall_s": round(result.times.wall_s, 2),
        "stages_s": {name: round(seconds, 2) for name, seconds in busy.items()},
        "bottleneck": result.times.bottleneck,
        "wall_over_network_steps": round(result.times.wall_s / result.step_s, 3) if result.step_s > 1 else None,
        "slowest_stage_over_wall": round(max(busy.values()) / result.times.wall_s, 3),
        "sum_of_stages_over_wall": round(sum(busy.values()) / result.times.wall_s, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?", default=BENCH_CLIP)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--output", type=result_path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = longer(options.video, Path(folder) / "long.mkv")
        real = upscale_video(video, Path(folder) / "real.mkv", Upscaler(options.model))
        instant = upscale_video(video, Path(folder) / "instant.mkv", Upscaler(open_runner=InstantRunner))
    report = {
        "video": options.video.name,
        "size": str(real.size),
        "cores": cores(),
        "weights": Upscaler(options.model).network.identity()["network"],
        options.model: row(real),
        "network that takes no time": row(instant),
    }
    print(json.dumps(report, indent=2))
    if options.output:
        write_json(options.output, report)


if __name__ == "__main__":
    main()
