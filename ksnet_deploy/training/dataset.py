"""Training windows: aligned LR and HR crops of consecutive frames, drawn at random but reproducibly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import SCALE
from ksnet_deploy.base.words import counted
from ksnet_deploy.measure.degradation import MARGIN, ClipDegradation, degrade
from ksnet_deploy.training.motion import camera_window
from ksnet_deploy.training.recipe import Stage
from ksnet_deploy.video.clips.clip import Clip, check_divisible

__all__ = [
    "DATA_VERSION",
    "Draw",
    "DrawSampler",
    "WindowDataset",
    "check_clips",
    "check_variants",
    "clips_identity",
    "clips_in_words",
]

DATA_VERSION = "version of the data (sizes and modification times of its files; 'cp -p' and 'rsync -a' keep them)"
"""Name of a part of a run's identity."""
STILL_VIEW_PX = 640
"""Largest side of the part of a still that a camera moves over."""
ENCODED_MARGIN = 4
"""LR pixels around a window of a still that is encoded by itself: what the kernels see, and some more for the codec."""
PLAIN_SHARE = 0.25
"""Share of the windows of the degradation "video" that are reduced by bicubic and nothing else, beside the clean ones
among the versions: with those alone lite-video lost 0.57 dB on clean clips."""
FLAT_STD = 3.0
"""Crops whose standard deviation is below this, of 255, teach nothing: black bars, sky."""
TRIES = 8


class Window(NamedTuple):
    """Window of consecutive frames."""

    lr: NDArray[np.uint8]
    """(T, P, P, 3)."""
    hr: NDArray[np.uint8]
    """(T, 4 P, 4 P, 3)."""
    encoded: bool
    """Whether LR went through an encoder."""


@dataclass(frozen=True)
class Draw:
    """Draw of a sample: everything that it depends on besides the data."""

    iteration: int
    index: int
    """Number of the sample among all samples of the iteration, over all processes."""
    frames: int
    patch_px: int


class DrawSampler(Sampler[list[Draw]]):
    """The draws of every iteration from ``start`` on: this process's share of each batch."""

    def __init__(self, stages: Sequence[Stage], start: int, rank: int, world: int) -> None:
        self.stages, self.start, self.rank, self.world = tuple(stages), start, rank, world

    def __iter__(self) -> Iterator[list[Draw]]:
        iteration = 0
        for stage in self.stages:
            for i in range(max(iteration, self.start), iteration + stage.iterations):
                yield [Draw(i, j, stage.frames, stage.patch_px) for j in range(self.rank, stage.batch, self.world)]
            iteration += stage.iterations


class WindowDataset(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Random windows of clips, and of stills under a moving camera.

    An item is LR (T, 3, P, P) and HR (T, 3, 4 P, 4 P), uint8, and () bool, whether LR went through an encoder. It
    depends only on the seed and the draw, so that a resumed run sees the batches it would have seen. The LR crop equals
    the same crop of the degraded frame: it is degraded with a margin. With the degradation "video" it is cut from a
    version that was packed with the clip, any of them, and windows of stills are encoded by themselves; PLAIN_SHARE of
    the windows are "BI" ones.
    """

    def __init__(self, clips: Sequence[Clip], *, degradation: ClipDegradation, still_share: float, seed: int) -> None:
        self.clips = [clip for clip in clips if clip.frames > 1]
        self.stills = [clip for clip in clips if clip.frames == 1]
        self.still_share = 1.0 if not self.clips else still_share if self.stills else 0.0
        self.degradation: ClipDegradation = degradation
        self.seed = seed

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, draw.iteration, draw.index))
        degradation = self.degradation
        if degradation == "video" and rng.random() < PLAIN_SHARE:
            degradation = "BI"
        for _ in range(TRIES):
            source = self._from_still if rng.random() < self.still_share else self._from_clip
            window = source(draw, degradation, rng)
            if window.hr.std() >= FLAT_STD:
                break
        return *_augmented(window.lr, window.hr, rng), torch.tensor(window.encoded)

    def _from_clip(self, draw: Draw, degradation: ClipDegradation, rng: np.random.Generator) -> Window:
        clip = self.clips[rng.integers(len(self.clips))]
        height, width, patch = clip.height // SCALE, clip.width // SCALE, draw.patch_px
        top, left = int(rng.integers(height - patch + 1)), int(rng.integers(width - patch + 1))
        count = min(draw.frames, clip.frames)
        start = int(rng.integers(clip.frames - count + 1))
        order = _back_and_forth(count, draw.frames)
        if degradation == "video":
            variant = int(rng.integers(len(clip.variants)))
            lr = clip.read_variant(variant, start, count, (top, left, patch, patch))
            hr = clip.read(start, count, (SCALE * top, SCALE * left, SCALE * patch, SCALE * patch))
            return Window(lr[order], hr[order], json.loads(clip.variants[variant])["compression"] is not None)
        above, before = min(MARGIN, top), min(MARGIN, left)
        below, after = min(MARGIN, height - top - patch), min(MARGIN, width - left - patch)
        extent = (SCALE * (above + patch + below), SCALE * (before + patch + after))
        hr = clip.read(start, count, (SCALE * (top - above), SCALE * (left - before), *extent))
        lr = degrade(hr, degradation)
        lr = lr[:, above : above + patch, before : before + patch]
        hr = hr[:, SCALE * above : SCALE * (above + patch), SCALE * before : SCALE * (before + patch)]
        return Window(lr[order], hr[order], encoded=False)

    def _from_still(self, draw: Draw, degradation: ClipDegradation, rng: np.random.Generator) -> Window:
        still = self.stills[rng.integers(len(self.stills))]
        height, width = min(still.height, STILL_VIEW_PX), min(still.width, STILL_VIEW_PX)
        top, left = rng.integers(still.height - height + 1), rng.integers(still.width - width + 1)
        picture = still.read(0, 1, (int(top), int(left), height, width))[0]
        margin = ENCODED_MARGIN if degradation == "video" else MARGIN
        side = SCALE * (draw.patch_px + 2 * margin)
        hr = camera_window(picture, draw.frames, side, side, rng)
        if degradation == "video":
            from ksnet_deploy.measure.variants import Variant  # needs PyAV, which packed clips do without

            variant = Variant.draw(rng)
            lr, encoded = variant.apply(hr, rng), variant.compression is not None
        else:
            lr, encoded = degrade(hr, degradation), False
        inner = SCALE * margin
        return Window(lr[:, margin:-margin, margin:-margin], hr[:, inner:-inner, inner:-inner], encoded)


def check_clips(clips: Sequence[Clip], patch_px: int) -> None:
    """Raise InputError for a clip that cannot be cut into LR patches of a size, naming it."""
    for clip in clips:
        if clip.frames == 1:
            continue  # resampled by the camera, whatever its size
        check_divisible(clip)
        if min(clip.height, clip.width) < SCALE * patch_px:
            raise InputError(
                f"{clip} is {clip.height}x{clip.width} (height x width), smaller than an HR patch of "
                f"{SCALE * patch_px} pixels; leave it out or train on smaller patches"
            )


def check_variants(clips: Sequence[Clip]) -> None:
    """Raise InputError for a clip without LR versions to train the degradation "video" on, naming it."""
    for clip in clips:
        if clip.frames > 1 and not clip.variants:
            raise InputError(
                f"{clip} has no encoded LR versions, which the degradation 'video' trains on; make shards that have "
                "them with 'ksnet-deploy pack DATA -o FOLDER --degradation video'"
            )


def clips_in_words(clips: Sequence[Clip]) -> str:
    """Number of clips and stills, in words."""
    stills = sum(clip.frames == 1 for clip in clips)
    return f"{counted(len(clips) - stills, 'clip')} and {counted(stills, 'still')}"


def clips_identity(clips: Sequence[Clip], degradation: ClipDegradation = "BI") -> dict[str, str]:
    """Facts of the data that must stay the same when a run goes on, by names for messages.

    The clips' names and shapes, and what "video" makes of them; and the sizes and modification times of their files, so
    that pixels that were replaced under the same names are noticed without reading them.
    """
    lines = [f"{clip.name} {clip.frames}x{clip.height}x{clip.width}" for clip in clips]
    if degradation == "video":
        lines += [f"plain {PLAIN_SHARE}", *(facts for clip in clips for facts in clip.variants)]
        if any(clip.frames == 1 for clip in clips):  # encoded when they are drawn
            from ksnet_deploy.measure.variants import encoder_versions

            lines += encoder_versions()
    files = sorted({path for clip in clips for path in clip.files()})
    states = ((path, path.stat()) for path in files)
    versions = (f"{path.name} {state.st_size} {state.st_mtime_ns}" for path, state in states)
    return {"data": f"{clips_in_words(clips)} {_digest(lines)}", DATA_VERSION: _digest(versions)}


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _back_and_forth(count: int, frames: int) -> NDArray[np.int_]:
    """Indices of so many frames of a clip of ``count``, turning back at its ends."""
    period = max(2 * count - 2, 1)
    index = np.arange(frames) % period
    return np.minimum(index, period - index) if count > 1 else np.zeros(frames, dtype=int)


def _augmented(lr: NDArray[np.uint8], hr: NDArray[np.uint8], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Both flipped, rotated by quarters and reversed in time alike; (T, H, W, 3) -> (T, 3, H, W)."""
    flips = rng.random(4) < 0.5
    pair = []
    for frames in (lr, hr):
        x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
        x = x.flip([axis for axis, flip in zip((0, 2, 3), flips, strict=False) if flip])
        pair.append((x.transpose(2, 3) if flips[3] else x).contiguous())
    return pair[0], pair[1]
