"""Clips and stills to training shards with OpenCV, where there is no PyAV for `ksnet-deploy pack`.

    python benchmarks/shards_with_opencv.py FROM TO [--hold-out 4] [--least-side 176]

FROM holds videos (.mp4) and stills (.jpg, .png), in folders too; TO/training receives shards, and TO/validation
those of the videos held out, the first ones by name. What OpenCV cannot read is left out, and said; so is what to train
on has a side below the least, in which no patch of the training would fit.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

SHARD_BYTES = 200_000_000
SIDE_MULTIPLE = 4


def decoded(path: Path) -> tuple[str, NDArray[np.uint8] | None]:
    """Name and frames, (T, H, W, 3) RGB with sides that the scale divides; None for what cannot be read."""
    cv2.setNumThreads(1)
    if path.suffix == ".mp4":
        video, frames = cv2.VideoCapture(str(path)), []
        while (read := video.read())[0]:
            frames.append(read[1])
    else:
        still = cv2.imread(str(path))
        frames = [] if still is None else [still]
    if not frames:
        return path.stem, None
    clip = np.stack(frames)
    height, width = (side // SIDE_MULTIPLE * SIDE_MULTIPLE for side in clip.shape[1:3])
    return path.stem, np.ascontiguousarray(clip[:, :height, :width, ::-1])


class Shards:
    """Files of clips in a folder, each written when it is full."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._clips, self.count = folder, {}, 0  # type: tuple[Path, dict[str, NDArray[np.uint8]], int]
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, clip: NDArray[np.uint8]) -> None:
        self._clips[name] = clip
        self.count += 1
        if sum(clip.nbytes for clip in self._clips.values()) > SHARD_BYTES:
            self.write()

    def write(self) -> None:
        if self._clips:
            number = len(list(self._folder.glob("*.safetensors")))
            save_file(self._clips, self._folder / f"{number:05d}.safetensors", {"format": "ksnet-clips"})
            self._clips = {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--hold-out", type=int, default=4, help="videos for validation")
    parser.add_argument("--least-side", type=int, default=1, help="of what to train on, in pixels")
    options = parser.parse_args()
    paths = sorted(path for path in options.source.rglob("*") if path.suffix in (".mp4", ".jpg", ".png"))
    training, validation = Shards(options.target / "training"), Shards(options.target / "validation")
    small = 0
    with ProcessPoolExecutor() as pool:
        for path, (name, clip) in zip(paths, pool.map(decoded, paths, chunksize=4), strict=True):
            if clip is None:
                print(f"{path} cannot be read and is left out", file=sys.stderr)
            else:
                held_out = path.suffix == ".mp4" and validation.count < options.hold_out
                if held_out or min(clip.shape[1:3]) >= options.least_side:
                    (validation if held_out else training).add(name, clip)
                else:
                    small += 1
    for shards in (training, validation):
        shards.write()
    if small:
        print(f"{small} smaller than {options.least_side} pixels are left out")
    print(f"{training.count} clips and stills to train on, {validation.count} to validate with")
    if not training.count:
        raise SystemExit(f"Error: {options.source} holds no video or still that OpenCV reads and that is large enough.")


if __name__ == "__main__":
    main()
