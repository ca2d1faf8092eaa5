"""Evaluation protocols: the clips, the degradation, the official lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import SCALE
from ksnet_deploy.base.metrics import SSIM_WINDOW
from ksnet_deploy.video.clips.clip import Clip, FrameFolder
from ksnet_deploy.video.clips.find import REDS4, check_unique, find_clips, read_listing

__all__ = ["PROTOCOLS", "EvaluationProtocol", "pairs"]


@dataclass(frozen=True)
class EvaluationProtocol:
    """Rules by which a benchmark measures."""

    space: Literal["y", "rgb"] = "y"
    """``y``: unrounded BT.601 luma. ``rgb``: all three channels; SSIM is their mean."""
    centre_only: bool = False
    """Count only the middle frame of each clip."""
    clips: Mapping[str, int] = field(default_factory=dict)
    """Names of the clips that count, with their numbers of frames; empty for all."""
    listing: str = ""
    """File in the data set's folder that lists the clips that count."""
    listed: int = 0
    """Number of clips in the official list."""
    frames: int = 0
    """Number of frames of each clip in that list."""

    def is_whole(self, counted: Mapping[str, int]) -> bool:
        """Whether the clips with their counted frames are the whole data set, as its published figures are of."""
        if self.listing:
            return len(counted) == self.listed and set(counted.values()) == {1}
        return bool(self.clips) and dict(counted) == dict(self.clips)


PROTOCOLS = {
    "vid4": EvaluationProtocol(clips={"calendar": 41, "city": 34, "foliage": 49, "walk": 47}),
    "reds4": EvaluationProtocol(space="rgb", clips=dict.fromkeys(REDS4, 100)),
    "vimeo90k": EvaluationProtocol(centre_only=True, listing="sep_testlist.txt", listed=7824, frames=7),
    "folder": EvaluationProtocol(),
}
"""Protocols by the name the command line takes. No border is cropped, and no frame at the ends left out: so the
published bicubic figures come out."""
HR_FOLDERS = ("GT", "HR")
"""Folders in which data sets keep their HR clips, beside those of LR."""


def pairs(
    hr: Path,
    lr: Path | None,
    protocol: EvaluationProtocol,
    *,
    mod_crop: bool = False,
    on_note: Callable[[str], None] = lambda _sentence: None,
) -> list[tuple[Clip, Clip | None]]:
    """HR clips of a data set, each with its LR clip if those are given, checked against each other.

    Args:
        hr: the clips, or a folder with them in ``GT``.
        mod_crop: cut off the rows and columns that 4 does not divide, at the bottom and on the right.
        on_note: told which folder was taken, which clips of different names were paired or number their frames
            otherwise, which LR clips have no HR, and which clips of a benchmark are shorter or longer than it.

    Raises:
        InputError: a clip is missing, or its names, sizes or frame counts do not fit.
    """
    listed = _listed(hr, protocol)
    inside = next((hr / name for name in HR_FOLDERS if (hr / name).is_dir()), None)
    if inside is not None:
        on_note(f"Measured are the clips in {inside}.")
        hr = inside
    found = [clip for clip in find_clips(hr) if not listed or clip.name in listed]
    missing = sorted(listed - {clip.name for clip in found})
    if missing:
        raise InputError(
            f"{hr} lacks {len(missing)} of the {len(listed)} clips of this benchmark, {_some(missing)}; expected is a "
            "folder of frames or a video for each, so complete the data set, or measure what is there with --protocol "
            "folder"
        )
    for clip in found:
        if (clip.height % SCALE or clip.width % SCALE) and not mod_crop:
            raise InputError(
                f"{clip} is {clip.height}x{clip.width} (height x width), which {SCALE} does not divide; "
                "pass --crop to leave out the remainder at the bottom and on the right"
            )
        if min(clip.height, clip.width) // SCALE * SCALE < SSIM_WINDOW:
            raise InputError(
                f"{clip} is {clip.height}x{clip.width} (height x width), too small for SSIM, whose window has "
                f"{SSIM_WINDOW} pixels; leave it out, and measure frames of 12x12 and more"
            )
    check_unique(found)
    known = ((clip, protocol.clips.get(clip.name, protocol.frames)) for clip in found)
    lengths = [f"{clip.name} {clip.frames} frames, not {own}" for clip, own in known if own and clip.frames != own]
    if lengths:
        on_note(f"These are not the benchmark's figures, because its clips have other lengths: {_some(lengths)}.")
    if lr is None:
        return [(clip, None) for clip in found]
    candidates = list(find_clips(lr))
    check_unique(candidates)
    low = {clip.name: clip for clip in candidates}
    named = [clip for clips, path in ((found, hr), (candidates, lr)) for clip in clips if clip.path == path]
    if len(found) == len(candidates) == 1 and len(named) == 2 and found[0].name not in low:  # the user has paired them
        on_note(f"The HR clip '{found[0].name}' is compared with the LR clip '{candidates[0].name}'.")
        low = {found[0].name: candidates[0]}
    for clip in found:
        _check_pair(clip, low.get(clip.name), lr)
    numbers = {clip.name: (_first_number(clip), _first_number(low[clip.name])) for clip in found}
    shifted = [name for name, (first, other) in numbers.items() if None not in (first, other) and first != other]
    if shifted:
        on_note(
            f"HR and LR frames are numbered from different numbers, and go together in their order: {_some(shifted)}."
        )
    if not listed and (spare := sorted(low.keys() - {clip.name for clip in found})):
        on_note(f"Left out, because {hr} has no HR clip of that name: {_some(spare)}.")
    return [(clip, low[clip.name]) for clip in found]


def _some(names: list[str]) -> str:
    """The first four names and how many follow."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _first_number(clip: Clip) -> int | None:
    """Number of the first frame, by its file's name; None where frames have no files."""
    if not isinstance(clip, FrameFolder) or clip.frames == 1:
        return None
    stem = clip.pictures[0].stem
    return int(stem[len(stem.rstrip("0123456789")) :])


def _listed(folder: Path, protocol: EvaluationProtocol) -> set[str]:
    """Names of the clips that count, from the protocol or from the data set's own list; empty for all.

    Raises:
        InputError: the list is not there, or empty.
    """
    if not protocol.listing:
        return set(protocol.clips)
    listing = folder / protocol.listing
    if not listing.is_file():
        raise InputError(
            f"{folder} has no {protocol.listing}, which says what counts in this benchmark; give the data set's folder "
            "with the list and 'sequences', or measure any clips with --protocol folder"
        )
    names = read_listing(listing)
    if not names:
        raise InputError(f"{listing} names no clip; restore it from the data set")
    return names


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
