"""The page of a comparison: its figures as curves over the frames, and those frames to look at that a curve dips for.

However long the videos are, what is kept is bounded: of each of at most :data:`MOST_VIEWS` stretches of them the frame
of the lowest PSNR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.measure.pages.areas import most_different
from ksnet_deploy.measure.pages.embedding import data_uri, webp
from ksnet_deploy.video.writing.comparison import Picture

__all__ = ["ComparisonPage"]

MOST_VIEWS = 48
"""Frames that are kept to be looked at."""
MOST_BYTES = 8_000_000
"""Bytes of their pictures as they stand in the page; beyond, every second frame is let go."""
MOST_POINTS = 2000
"""Points of a curve; of more frames each point is the lowest of some."""
LARGEST = FrameSize(720, 1280)
"""Pictures are shown up to that size; of larger ones the part in which they differ most."""
QUALITY = 92


@dataclass
class _View:
    frame: int
    """Number of the pair, from 0."""
    psnr_db: float
    at: str
    pictures: list[Picture]
    uris: list[str]

    @property
    def bytes(self) -> int:
        return sum(map(len, self.uris))


class ComparisonPage:
    """Collects pairs of frames one by one."""

    def __init__(self, names: Sequence[str]) -> None:
        """Names of the versions that :meth:`add` is given, the reference first."""
        self.names = list(names)
        self._views: list[_View] = []
        self._stretch = 1
        self._in_stretch = 0
        self._psnr: list[list[float]] = [[] for _ in names[1:]]
        self._ssim: list[list[float]] = [[] for _ in names[1:]]
        self._labels: list[str] = []
        self._cut = False

    def add(self, pictures: Sequence[Picture], figures: Sequence[tuple[float, float | None]], at: str) -> None:
        """A frame of every version, (H, W, 3) of one size; PSNR and SSIM of all but the first; when it is shown.

        The versions after the first two are yardsticks: which frames are kept is decided by the second alone.
        """
        view = _View(len(self._labels), figures[0][0], at, list(pictures), [])
        for (psnr_db, similarity), decibels, similarities in zip(figures, self._psnr, self._ssim, strict=True):
            decibels.append(psnr_db)
            similarities.append(math.nan if similarity is None else similarity)
        self._labels.append(at)
        if self._in_stretch == 0:
            if self._views:
                self._encode(self._views[-1])
                self._let_go()
            self._views.append(view)
        elif view.psnr_db < self._views[-1].psnr_db:
            self._views[-1] = view
        self._in_stretch = (self._in_stretch + 1) % self._stretch

    def data(self, title: str, subtitle: str, table: dict[str, Any], notes: Sequence[str]) -> dict[str, Any]:
        """Data of the template ``slider``."""
        self._encode(self._views[-1])
        frames = len(self._labels)
        step = -(-frames // MOST_POINTS)
        notes = list(notes)
        if len(self._views) < frames:
            notes.append(
                f"{len(self._views)} of {frames} frames can be looked at: of each stretch of {self._stretch} the one "
                "of the lowest PSNR."
            )
        if step > 1:
            notes.append(f"Each point of the curves is the lowest of {step} frames.")
        if self._cut:
            notes.append(f"Pictures larger than {LARGEST} are shown in part, where the versions differ most.")
        notes.append(f"Pictures are kept as WebP of quality {QUALITY}; figures were measured before.")
        plots = [self._plot("PSNR (RGB), dB", self._psnr, step, digits=2, least=0.05)]
        if not any(math.isnan(value) for values in self._ssim for value in values):
            plots.append(self._plot("SSIM (Y)", self._ssim, step, digits=4, least=0.0005))
        return {
            "title": title,
            "subtitle": subtitle,
            "versions": self.names,
            "start": [len(self.names) - 1, 1] if len(self.names) > 2 else [0, 1],
            "views": [self._shown(view, step) for view in self._views],
            "curve": {"labels": self._labels[::step], "plots": plots} if frames > 1 else None,
            "table": table,
            "notes": notes,
        }

    def _plot(
        self, title: str, series: Sequence[Sequence[float]], step: int, *, digits: int, least: float
    ) -> dict[str, Any]:
        return {
            "title": title,
            "digits": digits,
            "least": least,
            "series": [
                {"name": name, "values": [_finite(min(values[i : i + step])) for i in range(0, len(values), step)]}
                for name, values in zip(self.names[1:], series, strict=True)
            ],
        }

    def _shown(self, view: _View, step: int) -> dict[str, Any]:
        number, figures = view.frame, []
        for name, decibels, similarities in zip(self.names[1:], self._psnr, self._ssim, strict=True):
            psnr_db = "identical" if decibels[number] == math.inf else f"{decibels[number]:.2f} dB"
            similarity = "" if math.isnan(similarities[number]) else f", SSIM {similarities[number]:.4f}"
            figures.append(f"{name} {psnr_db}{similarity}")
        height, width = view.pictures[0].shape[:2]
        third = FrameSize(max(height // 3, 1), max(width // 3, 1))
        return {
            "label": view.at,
            "caption": f"Frame {number}, {view.at}: {'; '.join(figures)}",
            "width": width,
            "height": height,
            "focus": most_different(view.pictures, third)._asdict(),
            "pictures": view.uris,
            "point": number // step,
        }

    def _encode(self, view: _View) -> None:
        if view.uris:
            return
        size = FrameSize(*view.pictures[0].shape[:2])
        if size.height > LARGEST.height or size.width > LARGEST.width:
            area = most_different(view.pictures, LARGEST)
            view.pictures = [area.of(picture) for picture in view.pictures]
            self._cut = True
        view.pictures = [np.ascontiguousarray(picture) for picture in view.pictures]
        view.uris = [data_uri(webp(picture, QUALITY)) for picture in view.pictures]

    def _let_go(self) -> None:
        """Join stretches in twos while there are too many."""
        while len(self._views) >= MOST_VIEWS or (
            len(self._views) > 2 and sum(view.bytes for view in self._views) > MOST_BYTES
        ):
            twos = [self._views[i : i + 2] for i in range(0, len(self._views), 2)]
            self._views = [min(two, key=lambda view: view.psnr_db) for two in twos]
            self._stretch *= 2


def _finite(value: float) -> float | None:
    """A figure as JSON has it; null for infinity."""
    return None if math.isinf(value) else round(value, 5)
