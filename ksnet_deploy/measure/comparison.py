"""Findings of a comparison: figures of frames, and all of it as values, as text and as a page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.base.metrics import SSIM_WINDOW, luma, psnr, ssim
from ksnet_deploy.base.words import counted
from ksnet_deploy.measure.comparison_page import ComparisonPage
from ksnet_deploy.video.writing.comparison import Picture

__all__ = ["Comparison", "Figures"]


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
    bicubic: Figures | None
    """Means of the source enlarged by bicubic, over the frames that it has; None where no source was given."""
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
            "bicubic": None if self.bicubic is None else figures(self.bicubic),
            "unmatched": {"reference": self.unmatched[0], "found": self.unmatched[1]},
            "notes": self.notes,
        }

    def page(self, page: ComparisonPage) -> dict[str, Any]:
        """Data of the template ``slider``, with these figures below the pictures."""
        rows = [("mean", self.mean), ("worst frame", self.worst)]
        if self.bicubic is not None:
            rows.append(("bicubic, mean", self.bicubic))
        table = {
            "title": f"{self.found.name} against {self.reference.name}",
            "head": ["", "PSNR RGB", "PSNR Y", "SSIM Y"],
            "rows": [
                [
                    name,
                    _decibels(figures.psnr_rgb_db).strip(),
                    _decibels(figures.psnr_y_db).strip(),
                    "-" if figures.ssim_y is None else f"{figures.ssim_y:.4f}",
                ]
                for name, figures in rows
            ],
        }
        frames = counted(self.frames, "frame")
        subtitle = f"Comparison of {frames} at {self.size} (height x width)"
        return page.data(f"{self.reference.name} and {self.found.name}", subtitle, table, self.notes)

    def as_text(self) -> str:
        """A table for people."""
        single = self.frames == 1
        what = "" if single else f"{counted(self.frames, 'frame')} of "
        lines = [
            f"{self.found} against {self.reference}, {what}{self.size} (height x width)",
            f"{'':<12}{'PSNR RGB':>12}{'PSNR Y':>12}{'SSIM Y':>10}",
        ]
        rows = [("", self.mean)] if single else [("mean", self.mean), ("worst frame", self.worst)]
        if self.bicubic is not None:
            rows.append(("bicubic", self.bicubic))
        for name, figures in rows:
            similarity = "-" if figures.ssim_y is None else f"{figures.ssim_y:.4f}"
            lines.append(f"{name:<12}{_decibels(figures.psnr_rgb_db)}{_decibels(figures.psnr_y_db)}{similarity:>10}")
        if not single:
            at = f"at {self.worst_at:.3f} s" if isinstance(self.worst_at, float) else self.worst_at
            lines.append(f"The worst is frame {self.worst_frame} of the original, counted from 0: {at}.")
            lines.append(
                f"{self.identical_frames} of {self.frames} frames are identical; in a mean each counts 100 dB."
            )
        return "\n".join(lines)


def _decibels(value: float) -> str:
    return f"{'infinite' if value == math.inf else f'{value:.2f} dB':>12}"
