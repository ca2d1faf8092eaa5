"""The channels of a static split, chosen on a clip, and what they cost there in quality."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ksnet_deploy.base.files import sha256_of
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import psnr
from ksnet_deploy.base.words import counted
from ksnet_deploy.export.calibration import clip_frames
from ksnet_deploy.network.model import KSNet
from ksnet_deploy.network.pixels import decode_frame, encode_frame
from ksnet_deploy.network.static_split import (
    Channels,
    check_freezable,
    chosen_channels,
    count_selections,
    force_selection,
    forced_channels,
)
from ksnet_deploy.runtime.torch import TorchRunner

__all__ = ["FRAMES", "StartsScene", "StaticSplit", "choose_split", "split_of_clip"]

FRAMES = 100
"""Most frames of the clip that are looked at, from its beginning."""

StartsScene = Callable[[NDArray[np.uint8]], bool]
"""Whether a scene starts with the next frame (H, W, 3); called once for each, in order."""


@dataclass(frozen=True)
class StaticSplit:
    """A network whose splits keep the channels that a clip chose."""

    model: KSNet
    """The network as it was trained, its selection forced to these channels."""
    clip_sha256: str
    frames: int
    """Frames that they were chosen over."""
    scenes: int
    """Scenes among these, each of which began with a fresh state."""
    agreement: float
    """Share of all that the network selected in these frames which is among the channels chosen, above 0 to 1."""
    psnr_db: float
    """PSNR against the network that selects anew for every frame, over the same frames together, RGB; infinite where
    all values are equal."""

    @property
    def channels(self) -> Channels:
        """Channels that each split keeps, by its name in the network."""
        return forced_channels(self.model)

    def as_metadata(self) -> str:
        """Clip and channels as an exported file names them."""
        return json.dumps({"clip_sha256": self.clip_sha256, "channels": self.channels}, sort_keys=True)

    def as_dict(self) -> dict[str, Any]:
        return {
            "clip_sha256": self.clip_sha256,
            "frames": self.frames,
            "scenes": self.scenes,
            "agreement": round(self.agreement, 4),
            "psnr_db": None if self.psnr_db == float("inf") else round(self.psnr_db, 2),
            "channels": self.channels,
        }

    def summary(self) -> str:
        quality = "equal frames" if self.psnr_db == float("inf") else f"{self.psnr_db:.1f} dB"
        return (
            f"chosen on {counted(self.frames, 'frame')} of {counted(self.scenes, 'scene')}, where the network selects "
            f"the same channels {self.agreement:.1%} of the time; {quality} against the network that selects for every "
            "frame, over the same frames"
        )


def split_of_clip(
    model: KSNet,
    clip: Path,
    starts_scene: StartsScene = lambda _frame: False,
    *,
    on_begin: Callable[[int], None] = lambda _frames: None,
    on_frame: Callable[[], None] = lambda: None,
) -> StaticSplit:
    """:func:`choose_split` on the first frames of a clip of LR frames, of the middle of each.

    Args:
        on_begin: told how many frames will be run in all, those of both runs.

    Raises:
        ConfigError: the network has no splits that can be frozen.
        InputError: the clip cannot be read, or has less than two frames.
    """
    check_freezable(model.config)
    frames = clip_frames(clip, FRAMES)
    on_begin(2 * len(frames))
    return choose_split(model, frames, [starts_scene(frame) for frame in frames], sha256_of(clip), on_frame=on_frame)


def choose_split(
    model: KSNet,
    frames: Sequence[NDArray[np.uint8]],
    starts: Sequence[bool],
    clip_sha256: str,
    *,
    on_frame: Callable[[], None] = lambda: None,
) -> StaticSplit:
    """Freeze the channels that a network selects most often over frames, and compare it with itself.

    Args:
        frames: (H, W, 3) each, of one size.
        starts: whether each begins a scene; the first does in any case.
        on_frame: called after each frame of the two runs.

    Raises:
        ConfigError: the network has no splits that can be frozen.
    """
    dynamic: list[NDArray[np.uint8]] = []

    def keep(hr: torch.Tensor) -> None:
        dynamic.append(encode_frame(hr, torch.uint8)[0].numpy())
        on_frame()

    planes = ((decode_frame(torch.from_numpy(frame)[None]), fresh) for frame, fresh in zip(frames, starts, strict=True))
    counts = count_selections(model, planes, keep)
    chosen = chosen_channels(model, counts)
    forced = force_selection(model, chosen)
    static = []
    with TorchRunner(forced, FrameSize(*frames[0].shape[:2])) as runner:
        for frame, fresh in zip(frames, starts, strict=True):
            if fresh:
                runner.reset()
            static.append(runner.step(frame))
            on_frame()
    agreed = sum(int(counts[name][channels].sum()) for name, channels in chosen.items())
    return StaticSplit(
        forced,
        clip_sha256,
        len(frames),
        1 + sum(starts[1:]),
        agreed / (len(frames) * sum(map(len, chosen.values()))),
        psnr(np.stack(static), np.stack(dynamic)),
    )
