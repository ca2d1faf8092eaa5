"""Frames on their way to a worker: planned, packed, and cut so that a chunk never holds frames of two segments."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.upscale.plan import Planned
from ksnet_deploy.video.reading.reader import Frame

__all__ = ["CHUNK_BYTES", "CHUNK_FRAMES", "Chunk", "ChunkPacker", "check_of"]

CHUNK_BYTES, CHUNK_FRAMES = 8 << 20, 24
"""A chunk ends at so many, whichever comes first: large enough that a call to a worker weighs little beside the work,
small enough that a worker begins at once and that two on their way take little memory."""


@dataclass(frozen=True)
class Chunk:
    """Consecutive frames of one segment."""

    first: int
    """Number of its first frame in the source, counted from 0."""
    rgb: NDArray[Any] = field(repr=False)
    """(N, H, W, 3): pictures of the frames, but for those that repeat the one before."""
    frames: tuple[tuple[int, int, bool, bool, bool, bool], ...]
    """Each frame's time, duration, whether it starts a scene, a window, a segment, and whether it repeats another."""

    checks: tuple[int, ...] = ()
    """CRC-32 of every frame, where the worker reads the source itself and no pictures are sent."""
    start_s: Fraction = Fraction(0)
    """Seconds from the beginning of the file to its first frame, for such a worker."""

    @property
    def bytes(self) -> int:
        """Bytes of its pictures."""
        return self.rgb.nbytes

    def planned(self) -> Iterator[Planned]:
        """The frames, as they were planned."""
        place = -1
        for number, (pts, duration, scene, window, segment, duplicate) in enumerate(self.frames):
            place += not duplicate
            yield Planned(
                Frame(self.rgb[max(place, 0)] if len(self.rgb) else self.rgb, pts, duration),
                self.first + number,
                scene,
                window,
                segment,
                duplicate,
            )


class ChunkPacker:
    """Packs planned frames, in order."""

    def __init__(self, seconds_of: Callable[[Frame], Fraction] | None = None) -> None:
        """``seconds_of``, where workers read the source themselves: a frame's seconds from the file's beginning."""
        self._seconds_of = seconds_of
        self._checks: list[int] = []
        self._held: list[Planned] = []
        self._pictures: list[NDArray[Any]] = []

    @property
    def is_full(self) -> bool:
        """Whether the frames that are held are to be taken now."""
        return len(self._held) >= CHUNK_FRAMES or sum(p.nbytes for p in self._pictures) >= CHUNK_BYTES

    def add(self, planned: Planned) -> None:
        """Hold another frame, of the same segment as those that are held."""
        self._held.append(planned)
        if self._seconds_of is not None:
            self._checks.append(check_of(planned.frame))
        elif not planned.duplicate:
            self._pictures.append(planned.frame.rgb)

    def take(self) -> Chunk | None:
        """The frames that are held, which are then no more; None where there are none."""
        if not self._held:
            return None
        rgb = np.stack(self._pictures) if self._pictures else np.empty((0, 0, 0, 3), np.uint8)
        frames = tuple(
            (p.frame.pts, p.frame.duration, p.starts_scene, p.starts_window, p.starts_segment, p.duplicate)
            for p in self._held
        )
        start_s = Fraction(0) if self._seconds_of is None else self._seconds_of(self._held[0].frame)
        chunk = Chunk(self._held[0].index, rgb, frames, tuple(self._checks), start_s)
        self._held, self._pictures, self._checks = [], [], []
        return chunk


def check_of(frame: Frame) -> int:
    """CRC-32 of a frame's picture."""
    return zlib.crc32(np.ascontiguousarray(frame.rgb).data)
