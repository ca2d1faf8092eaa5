"""Evaluation protocols: which clips, which degradation, which official lists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import SCALE
from ksnet_deploy.video.clips.clip import Clip
from ksnet_deploy.video.clips.find import REDS4, check_unique, find_clips, read_listing

__all__ = ["PROTOCOLS", "EvaluationProtocol", "pairs"]


@dataclass(frozen=True)
class EvaluationProtocol:
    """What a benchmark measures."""

    space: Literal["y", "rgb"] = "y"
    """``y``: unrounded BT.601 luma. ``rgb``: all three channels; SSIM is their mean."""
    centre_only: bool = False
    """Count only the middle frame of each clip."""
    clips: tuple[str, ...] = ()
    """Names of the clips that count; empty for all."""
    listing: str = ""
    """File in the data set's folder that lists the clips that count, where it is there."""


PROTOCOLS = {
    "vid4": EvaluationProtocol(clips=("calendar", "city", "foliage", "walk")),
    "reds4": EvaluationProtocol(space="rgb", clips=REDS4),
    "vimeo90k": EvaluationProtocol(centre_only=True, listing="sep_testlist.txt"),
    "folder": EvaluationProtocol(),
}
"""By the name the command line takes. Frames are not cropped at the border, and none are left out at the ends: so the
published bicubic figures come out."""


def pairs(
    hr: Path, lr: Path | None, protocol: EvaluationProtocol, *, mod_crop: bool = False
) -> list[tuple[Clip, Clip | None]]:
    """HR clips of a data set, each with its LR clip if those are given, checked against each other.

    Args:
        mod_crop: cut off the rows and columns that 4 does not divide, at the bottom and on the right.

    Raises:
        InputError: a clip is missing, or its sizes or frame counts do not fit.
    """
    listed = _listed(hr, protocol)
    found = [clip for clip in find_clips(hr) if not listed or clip.name in listed]
    if not found and not protocol.clips:
        raise InputError(f"{hr} holds none of the clips that {hr / protocol.listing} names; give the data set's folder")
    missing = sorted(set(protocol.clips) - {clip.name for clip in found})
    if missing:
        raise InputError(
            f"{hr} lacks the clip {', '.join(missing)} of this benchmark; expected are a folder of frames or a video "
            f"for each of {', '.join(protocol.clips)}"
        )
    for clip in found:
        if (clip.height % SCALE or clip.width % SCALE) and not mod_crop:
            raise InputError(
                f"{clip} is {clip.height}x{clip.width} (height x width), which {SCALE} does not divide; "
                "pass --crop to leave out the remainder at the bottom and on the right"
            )
    check_unique(found)
    if lr is None:
        return [(clip, None) for clip in found]
    candidates = list(find_clips(lr))
    check_unique(candidates)
    low = {clip.name: clip for clip in candidates}
    if len(found) == 1 and len(low) == 1:
        low = {found[0].name: next(iter(low.values()))}
    for clip in found:
        _check_pair(clip, low.get(clip.name), lr)
    return [(clip, low[clip.name]) for clip in found]


def _listed(folder: Path, protocol: EvaluationProtocol) -> set[str]:
    """Names of the clips that count, from the protocol or from the data set's own list; empty for all."""
    listing = folder / protocol.listing if protocol.listing else None
    if listing is None or not listing.is_file():
        return set(protocol.clips)
    return read_listing(listing)


def _check_pair(hr: Clip, lr: Clip | None, folder: Path) -> None:
    if lr is None:
        raise InputError(f"{folder} has no LR clip named '{hr.name}'; LR and HR clips go together by their names")
    if lr.frames != hr.frames:
        raise InputError(
            f"'{hr.name}' has {hr.frames} HR frames and {lr.frames} LR frames; both must have the same number"
        )
    if (lr.height, lr.width) != (hr.height // SCALE, hr.width // SCALE):
        raise InputError(
            f"'{hr.name}' is {hr.height}x{hr.width} in HR and {lr.height}x{lr.width} in LR (height x width); "
            f"LR must be a quarter, {hr.height // SCALE}x{hr.width // SCALE}"
        )
