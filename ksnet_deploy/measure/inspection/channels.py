"""Over several frames: how often each channel is high-value, how often that changes, and how the two kinds differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.measure.inspection.maps import maps_of
from ksnet_deploy.measure.inspection.recorder import FrameRecord

__all__ = ["LevelSummary", "summarise"]


@dataclass(frozen=True)
class LevelSummary:
    """One level of one branch over the frames."""

    branch: str
    level: int
    lam: float
    kept_share: NDArray[np.float64]
    """(C,) share of the frames in which a channel is high-value."""
    flips: list[int]
    """Channels that became high-value from one frame to the next (as many became low-value), a frame less than there
    are; the channels of the levels after the first are slots, which other channels may fill then."""
    gradient: tuple[float, float]
    """Mean of the gradient map G over high-value and over low-value channels: how much structure they have."""
    correlation: tuple[float, float]
    """Mean correlation over the picture of G with the temporal offset map, of high-value and of low-value channels:
    how far their structure is where something moves."""

    @property
    def name(self) -> str:
        """Name for people."""
        return f"{self.branch} {self.level}"

    @property
    def always(self) -> int:
        """Channels that are high-value in every frame."""
        return int((self.kept_share == 1).sum())

    @property
    def never(self) -> int:
        """Channels that are high-value in none."""
        return int((self.kept_share == 0).sum())

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "branch": self.branch,
            "level": self.level,
            "lambda": round(self.lam, 6),
            "kept_share": [round(float(share), 4) for share in self.kept_share],
            "flips": self.flips,
            "gradient": {"high": self.gradient[0], "low": self.gradient[1]},
            "correlation": {"high": self.correlation[0], "low": self.correlation[1]},
        }


def summarise(records: Sequence[FrameRecord]) -> list[LevelSummary]:
    """Every level of both branches over the frames, in the order of the network.

    The first frame after a reset has no motion, so it counts only where it is the only one.
    """
    frames = records[1:] or records
    summaries = []
    for index, first in enumerate(frames[0].levels):
        levels = [frame.levels[index] for frame in frames]
        kept = np.stack([level.kept for level in levels])
        figures = [_figures(frame, index) for frame in frames]
        mean = np.nanmean(np.array(figures), axis=0) if figures else np.zeros(4)
        summaries.append(
            LevelSummary(
                first.branch,
                first.level,
                first.lam,
                kept.mean(axis=0),
                [int((now & ~before).sum()) for before, now in pairwise(kept)],
                (float(mean[0]), float(mean[1])),
                (float(mean[2]), float(mean[3])),
            )
        )
    return summaries


def _figures(frame: FrameRecord, index: int) -> tuple[float, float, float, float]:
    """Mean gradient of high- and low-value channels, and mean correlation with the offset map of both."""
    level = frame.levels[index]
    gradient, _ = maps_of(level.features, level.lam)
    high, low = level.kept, level.active & ~level.kept
    strength = gradient.mean(axis=(1, 2))
    offset = np.zeros_like(gradient[0]) if frame.offset is None else frame.offset[0]
    related = np.array([_correlation(channel, offset) for channel in gradient])
    return (
        float(strength[high].mean()),
        float(strength[low].mean()),
        float(related[high].mean()),
        float(related[low].mean()),
    )


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Pearson's; 0 where one of the two is even."""
    x, y = a.astype(np.float64) - a.mean(), b.astype(np.float64) - b.mean()
    scale = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / scale) if scale > 0 else 0.0
