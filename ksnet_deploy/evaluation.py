"""Evaluation by the field's protocols: PSNR, SSIM and temporal consistency of a method on HR clips.

HR frames are degraded to LR (or LR comes beside them), a method enlarges them, and the result is compared with the
original. Figures are means over the frames of a clip, then over clips; a frame that is equal counts as 100 dB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy import __version__
from ksnet_deploy.config import SCALE, FrameSize
from ksnet_deploy.errors import InputError
from ksnet_deploy.metrics import PSNR_LIMIT, luma, psnr, ssim
from ksnet_deploy.padding import crop, pad
from ksnet_deploy.published import PUBLISHED, PUBLISHED_SOURCE
from ksnet_deploy.resampling import Degradation, degrade, enlarge_bicubic
from ksnet_deploy.runtime.base import Runner
from ksnet_deploy.training.clips import REDS4, Clip, check_unique, find_clips, read_listing
from ksnet_deploy.warping import WarpingError

__all__ = [
    "PROTOCOLS",
    "BicubicMethod",
    "ClipScore",
    "EvaluationProtocol",
    "EvaluationReport",
    "Method",
    "RunnerMethod",
    "evaluate",
    "pairs",
]

Frames = NDArray[np.uint8]
CHUNK = 16
"""Frames that are degraded at a time."""


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


class Method(Protocol):
    """Something that enlarges frames, one after the other."""

    name: str

    def begin(self, size: FrameSize) -> None:
        """A new clip of LR frames of a size follows."""

    def enlarge(self, lr: Frames) -> Frames:
        """(H, W, 3) -> (4 H, 4 W, 3)."""


class BicubicMethod:
    """MATLAB's ``imresize(lr, 4)``, the yardstick of the field."""

    name = "bicubic"

    def begin(self, size: FrameSize) -> None:
        pass

    def enlarge(self, lr: Frames) -> Frames:
        return enlarge_bicubic(lr)


class RunnerMethod:
    """A network behind a runtime."""

    def __init__(self, name: str, open_runner: Callable[[FrameSize], Runner]) -> None:
        self.name = name
        self._open_runner = open_runner
        self._runner: Runner | None = None
        self._size: FrameSize | None = None

    def begin(self, size: FrameSize) -> None:
        if self._runner is not None and size == self._size:
            self._runner.reset()
            return
        self.close()
        self._runner, self._size = self._open_runner(size.padded), size

    def enlarge(self, lr: Frames) -> Frames:
        assert self._runner is not None
        assert self._size is not None
        return crop(self._runner.step(pad(lr)), self._size.upscaled)

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()
            self._runner = None


@dataclass(frozen=True)
class ClipScore:
    """Figures of one clip."""

    name: str
    frames: int
    """That were counted."""
    psnr_db: float
    ssim: float
    warping_error: float | None
    """See :class:`~ksnet_deploy.warping.WarpingError`, over all frames; None where it was not asked for or there is one
    frame only."""
    psnr_per_frame: list[float]


@dataclass(frozen=True)
class EvaluationReport:
    """Figures of a method on a data set."""

    protocol: str
    space: str
    degradation: str
    method: str
    clips: list[ClipScore]

    def mean(self, name: str) -> float | None:
        """Mean over clips of a figure, ``psnr_db``, ``ssim`` or ``warping_error``."""
        values = [getattr(clip, name) for clip in self.clips]
        return None if None in values else float(np.mean(values))

    def published(self) -> dict[str, tuple[float, float]]:
        """PSNR in dB and SSIM of the paper's Table 1, where this report was made by the same rules."""
        rules = PROTOCOLS.get(self.protocol)
        if rules is None or self.degradation != "BI" or self.space != rules.space:
            return {}
        return {name: row[self.protocol] for name, row in PUBLISHED.items() if self.protocol in row}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "version": __version__,
            "protocol": self.protocol,
            "space": self.space,
            "degradation": self.degradation,
            "method": self.method,
            "mean": {name: self.mean(name) for name in ("psnr_db", "ssim", "warping_error")},
            "clips": [asdict(clip) for clip in self.clips],
            "published": {"source": PUBLISHED_SOURCE, "rows": self.published()},
        }

    def as_table(self) -> str:
        """Plain text for people."""
        lines = [
            f"{self.method} on {self.protocol}, degradation {self.degradation}, {self.space.upper()}",
            f"{'clip':<32}{'frames':>8}{'PSNR dB':>10}{'SSIM':>9}{'warping':>9}",
        ]
        for clip in self.clips:
            lines.append(_row(clip.name, str(clip.frames), clip.psnr_db, clip.ssim, clip.warping_error))
        frames = str(sum(clip.frames for clip in self.clips))
        mean_psnr, mean_ssim = self.mean("psnr_db") or 0.0, self.mean("ssim") or 0.0
        lines.append(_row("mean", frames, mean_psnr, mean_ssim, self.mean("warping_error")))
        if published := self.published():
            lines.append(f"As published ({PUBLISHED_SOURCE}; trained elsewhere, not measured here):")
            lines += [_row(f"  {name}", "", *figures, None) for name, figures in published.items()]
        return "\n".join(lines)


def _row(name: str, frames: str, psnr_db: float, similarity: float, warping: float | None) -> str:
    shown = "" if warping is None else f"{warping:.3f}"
    return f"{name:<32}{frames:>8}{psnr_db:>10.3f}{similarity:>9.4f}{shown:>9}"


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


def evaluate(
    clips: Sequence[tuple[Clip, Clip | None]],
    method: Method,
    protocol: str,
    *,
    degradation: Degradation = "BI",
    space: Literal["y", "rgb"] | None = None,
    warping: WarpingError | None = None,
    on_frame: Callable[[], None] = lambda: None,
) -> EvaluationReport:
    """Score a method.

    Args:
        clips: from :func:`pairs`.
        protocol: a key of PROTOCOLS.
        space: another than the protocol's.
        warping: measures temporal consistency where given.

    Raises:
        InputError: a frame cannot be read.
    """
    rules = PROTOCOLS[protocol]
    space = space or rules.space
    scores = []
    for hr, lr in clips:
        counted = {hr.frames // 2} if rules.centre_only else set(range(hr.frames))
        size = FrameSize(hr.height // SCALE, hr.width // SCALE)
        method.begin(size)
        if warping is not None:
            warping.begin()
        psnrs, ssims, errors = [], [], []
        for index, (low, high) in enumerate(_frame_pairs(hr, lr, size, degradation)):
            found = method.enlarge(low)
            if index in counted:
                planes = [(luma(found), luma(high))] if space == "y" else list(_channels(found, high))
                psnrs.append(min(psnr(*planes[0]) if space == "y" else psnr(found, high), PSNR_LIMIT))
                ssims.append(float(np.mean([ssim(a, b) for a, b in planes])))
            error = None if warping is None else warping.add(found, high)
            if error is not None:
                errors.append(error)
            on_frame()
        hr.release()
        steadiness = float(np.mean(errors)) if errors else None
        scores.append(ClipScore(hr.name, len(psnrs), float(np.mean(psnrs)), float(np.mean(ssims)), steadiness, psnrs))
    name = degradation if all(lr is None for _, lr in clips) else "as given"
    return EvaluationReport(protocol, space, name, method.name, scores)


def _frame_pairs(
    hr: Clip, lr: Clip | None, size: FrameSize, degradation: Degradation
) -> Iterator[tuple[Frames, Frames]]:
    region = (0, 0, size.upscaled.height, size.upscaled.width)
    for start in range(0, hr.frames, CHUNK):
        count = min(CHUNK, hr.frames - start)
        high = hr.read(start, count, region)
        low = degrade(high, degradation) if lr is None else lr.read(start, count)
        yield from zip(low, high, strict=True)


def _channels(found: Frames, expected: Frames) -> Iterable[tuple[Frames, Frames]]:
    return ((found[..., c], expected[..., c]) for c in range(3))
