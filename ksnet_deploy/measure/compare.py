"""Two versions of a video, a picture or a folder of frames against each other: PSNR and SSIM, and both in one picture.

The first is the reference, the second is measured against it. The figures are those of ``evaluation.py``: nothing is
cropped, Y is unrounded BT.601 luma, and a frame that equals the reference counts 100 dB in a mean. Frames are uint8 RGB
(H, W, 3), turned upright.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.files import replacing
from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import PSNR_LIMIT, SSIM_WINDOW, luma, psnr, ssim
from ksnet_deploy.measure.layout import Layout, check_output, save_picture
from ksnet_deploy.measure.pairing import Pair, Pairs, check_kinds, open_version
from ksnet_deploy.video.writing.comparison import ComparisonWriter, Picture

__all__ = ["Comparison", "Figures", "compare"]


@dataclass(frozen=True)
class Figures:
    """Quality of one frame, or the mean over frames."""

    psnr_rgb_db: float
    """PSNR in dB over all three channels; infinite for a frame that equals the reference."""
    psnr_y_db: float
    ssim_y: float | None
    """SSIM of luma; None for frames of less than 11 pixels in height or width."""

    @classmethod
    def of(cls, found: Picture, reference: Picture) -> Figures:
        y_found, y_reference = luma(found), luma(reference)
        similarity = ssim(y_found, y_reference) if min(y_found.shape) >= SSIM_WINDOW else None
        return cls(psnr(found, reference), psnr(y_found, y_reference), similarity)


@dataclass(frozen=True)
class Comparison:
    """Result of a comparison."""

    reference: Path
    found: Path
    target: Path | None
    size: FrameSize
    """Size that both were compared at."""
    frames: int
    """Number of frames that were compared."""
    identical_frames: int
    mean: Figures
    """Mean over the frames; identical ones count 100 dB, unless all are: then PSNR is infinite."""
    worst: Figures
    """Figures of the frame with the lowest PSNR in RGB."""
    worst_frame: int
    """Number of that frame in the reference, from 0."""
    worst_at: float | str
    """Time of that frame in seconds, or the name of the picture."""
    unmatched: tuple[int, int]
    """Frames of the reference and of the other that have no counterpart at their time."""
    notes: list[str]
    """Notes for a user, one sentence each."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values. JSON knows no infinity: the PSNR of what is identical becomes null."""

        def figures(of: Figures) -> dict[str, float | None]:
            return {name: None if value == math.inf else value for name, value in vars(of).items()}

        return {
            "reference": str(self.reference),
            "found": str(self.found),
            "output": None if self.target is None else str(self.target),
            "height": self.size.height,
            "width": self.size.width,
            "frames": self.frames,
            "identical": self.identical_frames == self.frames,
            "identical_frames": self.identical_frames,
            "mean": figures(self.mean),
            "worst": {
                "frame": self.worst_frame,
                "time_s": self.worst_at if isinstance(self.worst_at, float) else None,
                "picture": self.worst_at if isinstance(self.worst_at, str) else None,
                **figures(self.worst),
            },
            "unmatched": {"reference": self.unmatched[0], "found": self.unmatched[1]},
            "notes": self.notes,
        }

    def as_text(self) -> str:
        """A table for people."""
        single = self.frames == 1
        what = f"{self.size} (height x width)" if single else f"{self.frames} frames of {self.size} (height x width)"
        lines = [
            f"{self.found} against {self.reference}, {what}",
            f"{'':<12}{'PSNR RGB':>12}{'PSNR Y':>12}{'SSIM Y':>10}",
        ]
        for name, figures in [("", self.mean)] if single else [("mean", self.mean), ("worst frame", self.worst)]:
            similarity = "-" if figures.ssim_y is None else f"{figures.ssim_y:.4f}"
            lines.append(f"{name:<12}{_decibels(figures.psnr_rgb_db)}{_decibels(figures.psnr_y_db)}{similarity:>10}")
        if not single:
            at = f"at {self.worst_at:.3f} s" if isinstance(self.worst_at, float) else self.worst_at
            lines.append(f"The worst is frame {self.worst_frame} of the original, counted from 0: {at}.")
            lines.append(
                f"{self.identical_frames} of {self.frames} frames are identical; in a mean each counts 100 dB."
            )
        return "\n".join(lines)


class _Score:
    """Figures of the pairs so far."""

    def __init__(self) -> None:
        self.frames = self.identical = 0
        self._sums = np.zeros(3)
        self.worst: tuple[Figures, Pair] | None = None

    def add(self, pair: Pair) -> None:
        figures = Figures.of(pair.found, pair.reference)
        self.frames += 1
        self.identical += figures.psnr_rgb_db == math.inf
        limited = min(figures.psnr_rgb_db, PSNR_LIMIT), min(figures.psnr_y_db, PSNR_LIMIT)
        self._sums += (*limited, figures.ssim_y or 0.0)
        if self.worst is None or figures.psnr_rgb_db < self.worst[0].psnr_rgb_db:
            self.worst = figures, pair

    def mean(self) -> Figures:
        assert self.worst is not None
        rgb, y, similarity = (float(total / self.frames) for total in self._sums)
        if self.identical == self.frames:
            rgb = y = math.inf
        return Figures(rgb, y, None if self.worst[0].ssim_y is None else similarity)


def compare(
    reference: Path | str,
    found: Path | str,
    target: Path | str | None = None,
    layout: Layout | None = None,
    *,
    overwrite: bool = False,
    on_start: Callable[[FrameSize, int | None], None] = lambda _size, _frames: None,
    on_frame: Callable[[], None] = lambda: None,
) -> Comparison:
    """Measure one version against another, and show both.

    Frames of videos belong together by their times, those of folders by their order. Where one version is smaller by a
    whole factor it is enlarged by bicubic. Frames are read one by one: memory does not grow with their number.

    Args:
        reference: a video, a picture or a folder of frames.
        found: another of the same kind.
        target: None for the figures alone; a video, for videos, with the sound of ``found``; or .png, which shows the
            frame of the lowest PSNR.
        layout: how both are shown; the boundary of a wipe moves in a video and stands in the middle of a picture.
        overwrite: replace an existing target.
        on_start: called once with the size and the number of frames (None when unknown), ``on_frame`` after each.

    Raises:
        InputError: one cannot be read, or they do not fit each other.
        OutputError: the target cannot be written, exists, or is one of the two.
    """
    layout, reference, found = layout or Layout(), Path(reference), Path(found)
    target = None if target is None else Path(target)
    with ExitStack() as stack:
        a, b = open_version(reference, stack), open_version(found, stack)
        check_kinds(a, b)
        if target is not None:
            check_output(target, (reference, found), video=b.reader is not None, overwrite=overwrite)
        pairs, score, writer, notes = Pairs(a, b), _Score(), None, []
        on_start(pairs.size, min((s.frames for s in (a, b) if s.frames is not None), default=None))
        if target is not None:
            notes.append(layout.legend(reference, found))
            temporary = stack.enter_context(replacing(target))
            if b.reader is not None and target.suffix.lower() != ".png":
                writer = ComparisonWriter(temporary, target.suffix, b.reader, layout.size(pairs.size))
                stack.enter_context(writer)
        began_s: Fraction | None = None
        for pair in pairs:
            score.add(pair)
            if writer is not None:
                shown_s = pair.shown[1].time_s
                began_s = shown_s if began_s is None else began_s
                boundary = layout.boundary(float(shown_s - began_s))
                writer.write(layout.compose(pair.reference, pair.found, boundary), shown_s)
            on_frame()
        if score.worst is None:
            raise InputError(
                f"no frame of {reference} is shown at the time of one of {found}; the first begins at "
                f"{pairs.first[0].at}, the second at {pairs.first[1].at}; give two videos with the same clock"
            )
        figures, worst = score.worst
        if writer is not None:
            writer.finish()
            notes += writer.notes
        elif target is not None:
            save_picture(temporary, layout.compose(worst.reference, worst.found))
            if a.kind != "picture":
                notes.append(f"Shown is the frame of the lowest PSNR, {worst.shown[0].at}.")
        return Comparison(
            reference,
            found,
            target,
            pairs.size,
            score.frames,
            score.identical,
            score.mean(),
            figures,
            worst.shown[0].number,
            worst.shown[0].at if a.reader is None else float(worst.shown[0].time_s),
            (pairs.unmatched[0], pairs.unmatched[1]),
            notes + pairs.notes(),
        )


def _decibels(value: float) -> str:
    return f"{'infinite' if value == math.inf else f'{value:.2f} dB':>12}"
