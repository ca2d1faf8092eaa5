"""Decisions about every frame, made from the frames alone, so that a second run decides alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ksnet_deploy.runtime.base import SavedState
from ksnet_deploy.upscale.scenes import CutDetector
from ksnet_deploy.video.reading.reader import Frame

__all__ = ["LONGEST_SEGMENT", "SHORTEST_SEGMENT", "FramePlan", "Planned", "longest_segment"]

SHORTEST_SEGMENT, LONGEST_SEGMENT = 24, 120
"""Frames. A scene cut ends a segment that is no shorter; without one it ends at the longest. A segment costs a
keyframe, and is what is lost at most when the process is killed."""
LEAST_SEGMENT = 4
"""Frames that are encoded together however heavy the network is."""
SEGMENT_MACS = 1.2e12
"""Multiply-adds of a segment: about 20 seconds of two cores."""


def longest_segment(macs_per_frame: int | None) -> int:
    """Frames of a segment without a cut, fewer for a heavier network.

    They follow from the work, never from the clock, so that every run cuts alike. None is work that is not known.
    """
    if not macs_per_frame:
        return LONGEST_SEGMENT
    return min(max(int(SEGMENT_MACS / macs_per_frame), LEAST_SEGMENT), LONGEST_SEGMENT)


@dataclass(frozen=True)
class Planned:
    """A decoded frame and what is to be done with it."""

    frame: Frame
    index: int
    """Number of the frame in the source, counted from 0."""
    starts_scene: bool
    starts_window: bool
    starts_segment: bool
    duplicate: bool
    state: SavedState | None = None
    """State that the network takes before the frame, where a job goes on in mid-scene; else None."""

    @property
    def starts_chain(self) -> bool:
        """Whether nothing before it is needed for what follows: neither the network's state nor coded frames."""
        return self.starts_scene and self.starts_segment


class FramePlan:
    """Plan of a video: where scenes, windows and segments begin, and which frames repeat the one before.

    A scene begins a window, and a window every so many frames after. A segment begins with a window.
    """

    def __init__(
        self, detector: CutDetector, time_base: Fraction, longest: int | None = None, *, window: int = 1
    ) -> None:
        """``longest`` is the number of frames of a segment without a cut (default: :data:`LONGEST_SEGMENT`), rounded up
        to whole windows; ``window`` those of a window."""
        self._detector, self._time_base, self._window = detector, time_base, window
        self._longest = longest or LONGEST_SEGMENT
        self._shortest = min(SHORTEST_SEGMENT, self._longest)
        self.frames = self.duplicates = 0
        self.cuts: list[float] = []

    def of(self, frames: Iterator[Frame]) -> Iterator[Planned]:
        """The frames of the video, each with its plan."""
        in_segment = in_window = 0
        before: Any = None
        for frame in frames:
            scene = self._detector.starts_scene(frame.rgb)
            window = before is None or scene or in_window >= self._window
            enough = in_segment >= (self._shortest if scene else self._longest)
            segment = before is None or (window and enough)
            duplicate = not scene and not segment and np.array_equal(frame.rgb, before)
            if scene and before is not None:
                self.cuts.append(float(frame.pts * self._time_base))
            in_segment = 1 if segment else in_segment + 1
            in_window = 1 if window else in_window + 1
            before = frame.rgb
            self.frames += 1
            self.duplicates += duplicate
            yield Planned(frame, self.frames - 1, scene, window, segment, duplicate)

    def summary(self) -> dict[str, Any]:
        """Values for the result."""
        return {"frames": self.frames, "duplicates": self.duplicates, "cuts": self.cuts}
