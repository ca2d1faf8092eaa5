"""Which cuts are found, and which are imagined: our detector and PySceneDetect's two, on the same frames.

    python benchmarks/scene_cuts.py FOLDER [FOLDER ...] --output benchmarks/results/scene-cuts.json

A folder holds videos or folders of frames, each a single shot. Two questions are asked of each folder. How many cuts
are reported within the shots? And how many splices are found where pieces of different videos, cropped at random and
brought to one size, follow each other? What the three cost is measured on the spliced frames.

PySceneDetect runs with its own thresholds, and without its minimum length of a scene, which would hide cuts that it
finds. Its AdaptiveDetector looks two frames ahead; the others look back only.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from arguments import frame_size, positive, result_path
from numpy.typing import NDArray
from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode
from writing import write_json

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.version import __version__
from ksnet_deploy.upscale.scenes import SceneDetector
from ksnet_deploy.video.clips.clip import Clip
from ksnet_deploy.video.clips.find import find_clips, source_video

SHORTEST, LONGEST = 12, 60
"""Frames of a piece, where the video has so many."""
PIECES = 8
"""In a spliced sequence."""

Frames = Sequence[NDArray[np.uint8]]
Find = Callable[[Frames], tuple[set[int], list[float]]]
"""First frames of the scenes after the first, and the milliseconds each frame took."""


def find_ours(frames: Frames) -> tuple[set[int], list[float]]:
    detector, cuts, times = SceneDetector(), set(), []
    for index, frame in enumerate(frames):
        started = perf_counter()
        if detector.starts_scene(frame) and index:
            cuts.add(index)
        times.append(1e3 * (perf_counter() - started))
    return cuts, times


def with_pyscenedetect(kind: Callable[..., ContentDetector]) -> Find:
    def find(frames: Frames) -> tuple[set[int], list[float]]:
        detector, cuts, times = kind(min_scene_len=1), set(), []
        for index, frame in enumerate(frames):
            bgr = np.ascontiguousarray(frame[..., ::-1])
            started = perf_counter()
            cuts |= {cut.frame_num for cut in detector.process_frame(FrameTimecode(index, 25.0), bgr)}
            times.append(1e3 * (perf_counter() - started))
        cuts |= {cut.frame_num for cut in detector.post_process(FrameTimecode(len(frames) - 1, 25.0))}
        return cuts, times

    return find


DETECTORS: dict[str, Find] = {
    "ours": find_ours,
    "ContentDetector": with_pyscenedetect(ContentDetector),
    "AdaptiveDetector": with_pyscenedetect(AdaptiveDetector),
}


@dataclass
class Tally:
    """Cuts found against those that are there."""

    hits: int = 0
    missed: int = 0
    false: int = 0
    frames: int = 0

    def add(self, found: set[int], true: set[int], frames: int) -> None:
        self.hits += len(found & true)
        self.missed += len(true - found)
        self.false += len(found - true)
        self.frames += frames

    @property
    def f1(self) -> float:
        return 2 * self.hits / max(2 * self.hits + self.missed + self.false, 1)


@dataclass
class Spliced:
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    cuts: set[int] = field(default_factory=set)
    names: list[str] = field(default_factory=list)


def spliced(clips: Sequence[Clip], size: FrameSize, rng: np.random.Generator) -> Spliced:
    """Pieces of random clips, neighbours from different videos."""
    result, before = Spliced(), ""
    for _ in range(PIECES):
        others = [clip for clip in clips if source_video(clip.name) != before]
        clip = others[rng.integers(len(others))]
        length = int(rng.integers(SHORTEST, min(clip.frames, LONGEST) + 1))
        start = int(rng.integers(clip.frames - length + 1))
        # A crop of the size's shape, from 70 % of the largest that fits.
        scale = rng.uniform(0.7, 1.0) * min(clip.height / size.height, clip.width / size.width)
        height, width = round(size.height * scale), round(size.width * scale)
        top, left = int(rng.integers(clip.height - height + 1)), int(rng.integers(clip.width - width + 1))
        piece = clip.read(start, length, (top, left, height, width))
        if result.frames:
            result.cuts.add(len(result.frames))
        method = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
        result.frames += [cv2.resize(frame, (size.width, size.height), interpolation=method) for frame in piece]
        result.names.append(clip.name)
        before = source_video(clip.name)
    return result


def usable(folder: Path) -> Iterator[Clip]:
    for clip in find_clips(folder):
        if clip.frames >= SHORTEST:
            yield clip


def measure(folder: Path, size: FrameSize, sequences: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    clips = list(usable(folder))
    within = {name: Tally() for name in DETECTORS}
    at_splices = {name: Tally() for name in DETECTORS}
    agreement = {name: Tally() for name in DETECTORS if name != "ours"}
    times: dict[str, list[float]] = {name: [] for name in DETECTORS}
    imagined, overlooked = [], []
    for clip in clips:
        frames = clip.read(0, clip.frames)
        for name, find in DETECTORS.items():
            cuts, _ = find(frames)
            within[name].add(cuts, set(), len(frames))
            if name == "ours":
                imagined += [f"{clip.name}, frame {cut}" for cut in sorted(cuts)]
    for _ in range(sequences):
        sequence = spliced(clips, size, rng)
        found = {}
        for name, find in DETECTORS.items():
            found[name], spent = find(sequence.frames)
            at_splices[name].add(found[name], sequence.cuts, len(sequence.frames))
            times[name] += spent
        for name, tally in agreement.items():
            tally.add(found["ours"], found[name], len(sequence.frames))
        order = sorted(sequence.cuts)
        overlooked += [
            f"{sequence.names[order.index(cut)]} to {sequence.names[order.index(cut) + 1]}"
            for cut in sorted(sequence.cuts - found["ours"])
        ]
    return {
        "clips": len(clips),
        "clip_frames": within["ours"].frames,
        "splices": at_splices["ours"].hits + at_splices["ours"].missed,
        "spliced_frames": at_splices["ours"].frames,
        "detectors": {
            name: {
                "splices_missed": at_splices[name].missed,
                "recall": at_splices[name].hits / max(at_splices[name].hits + at_splices[name].missed, 1),
                "false_between_splices": at_splices[name].false,
                "f1": at_splices[name].f1,
                "false_in_single_shots": within[name].false,
                "false_per_1000_frames": 1000 * within[name].false / max(within[name].frames, 1),
                "median_ms_per_frame": median(times[name]),
            }
            for name in DETECTORS
        },
        "our_f1_against": {name: tally.f1 for name, tally in agreement.items()},
        "imagined_by_ours": imagined,
        "overlooked_by_ours": overlooked,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--size", type=frame_size, default=FrameSize(270, 480), help="of the spliced frames")
    parser.add_argument("--sequences", type=positive, default=200, help=f"spliced, of {PIECES} pieces each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=result_path, help="JSON file for the figures")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    report: dict[str, Any] = {
        "version": __version__,
        "size": str(arguments.size),
        "seed": arguments.seed,
        "processors": os.cpu_count(),
        "load_average_before": os.getloadavg()[0],
        "folders": {},
    }
    for folder in arguments.folders:
        row = measure(folder, arguments.size, arguments.sequences, arguments.seed)
        report["folders"][folder.name] = row
        print(f"{folder.name}: {row['clips']} clips, {row['clip_frames']} frames, {row['splices']} splices")
        for name, found in row["detectors"].items():
            print(
                f"  {name:<18}recall {found['recall']:.4f}   F1 {found['f1']:.4f}   "
                f"{found['false_per_1000_frames']:.2f} false cuts in 1,000 frames   "
                f"{found['median_ms_per_frame']:.2f} ms per frame"
            )
        for name, f1 in row["our_f1_against"].items():
            print(f"  ours against {name}: F1 {f1:.4f}", flush=True)
    if arguments.output:
        write_json(arguments.output, report)


if __name__ == "__main__":
    main()
