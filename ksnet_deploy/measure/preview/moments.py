"""Frames of a film worth looking at: spread over it, and unlike each other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.errors import InputError
from ksnet_deploy.base.frames import values_of
from ksnet_deploy.measure.degradation import apply_matrices, bicubic_matrix
from ksnet_deploy.upscale.scenes import SceneDetector
from ksnet_deploy.video.kinds import Source
from ksnet_deploy.video.orientation import DisplayMatrix
from ksnet_deploy.video.reading.reader import VideoReader

__all__ = ["Moment", "Stretch", "choose_moments", "read_stretch"]

CANDIDATES = 2
"""Frames that are looked at for each that is chosen."""
UNKNOWN_S = (0, 2, 5, 10, 20, 40, 80, 160)
"""Seconds that are looked at where the film does not say how long it is."""
THUMBNAIL = 24, 32
FULL_CONTRAST = 20.0
"""Levels: standard deviation of a thumbnail from which a picture counts as much as any other."""


@dataclass(frozen=True)
class Moment:
    """A moment of a source, and what is seen then."""

    start_s: Fraction | None
    """Moment where reading begins: :func:`read_stretch` finds the frame some frames later."""
    thumbnail: NDArray[np.uint8]


@dataclass(frozen=True)
class Stretch:
    """A frame and those before it, of one scene."""

    frames: list[NDArray[Any]]
    """(H, W, 3) RGB, uint8 or uint16; the last is the one to look at."""
    time_s: float
    """Time of that frame in seconds from the beginning of the film."""
    display: DisplayMatrix | None = None
    """Turns and mirrors that a player applies."""
    ahead: list[NDArray[Any]] = field(default_factory=list)
    """Frames of the scene that follow the one to look at, for networks that see later frames too."""


def choose_moments(source: Source, count: int, before: int) -> list[Moment]:
    """Up to ``count`` moments in the order of time, fewer where the film has no more.

    Of twice as many, evenly spread, those are taken that are farthest from each other in small pictures: so one is of
    every scene that is long, and dark or empty ones come last.

    Raises:
        InputError: not a single frame can be read.
    """
    with VideoReader(source) as reader:
        frames, rate = reader.estimated_frames, reader.rate
    begin_s = source.start_s
    if frames is None:
        starts = [begin_s if not second else (begin_s or Fraction(0)) + second for second in UNKNOWN_S]
    else:
        # The first of the frames before; the one looked at is later by them.
        room = max(frames - before - 1, 0)
        number = max(min(CANDIDATES * count, room + 1), 1)
        firsts = [room * (2 * i + 1) // (2 * number) for i in range(number)]
        starts = [begin_s if not first else (begin_s or 0) + first / rate for first in sorted(set(firsts))]
    found: list[Moment] = []
    for start_s in starts:
        try:
            found.append(Moment(start_s, thumbnail_of(read_stretch(source, start_s, before).frames[-1])))
        except InputError:  # the film is damaged there, or ends before it says
            if start_s == starts[-1] and not found:
                raise
    return sorted(_unlike(found, count), key=lambda moment: moment.start_s or 0)


def read_stretch(source: Source, start_s: Fraction | None, before: int, ahead: int = 0) -> Stretch:
    """The frame after ``before`` others of its scene, counted from a moment, or the last that can be had; and up to
    ``ahead`` that follow it.

    Where the scene changes on the way, counting begins again with the new one, as the network does.

    Raises:
        InputError: there is no frame to read there.
    """
    kept: list[NDArray[Any]] = []
    later: list[NDArray[Any]] = []
    time_s = Fraction(0)
    detector = SceneDetector()
    with VideoReader(replace(source, start_s=start_s)) as reader:
        for frame in itertools.islice(reader.frames(), 3 * (before + 1) + ahead):
            cut = detector.starts_scene(frame.rgb)
            if len(kept) > before:
                if cut or len(later) == ahead:
                    break
                later.append(frame.rgb)
                continue
            kept = [*([] if cut else kept), frame.rgb]
            time_s = frame.pts * reader.time_base
        display = reader.display
    if not kept:
        raise InputError(f"not a single frame of {source.path} could be decoded; the file is damaged or empty")
    return Stretch(kept, float((start_s or 0) + time_s), display, later)


def thumbnail_of(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """A frame at 24x32 pixels, whatever its shape."""
    rows, columns = (bicubic_matrix(side, new) for side, new in zip(frame.shape[:2], THUMBNAIL, strict=True))
    return apply_matrices(rows, columns, values_of(frame, "uint8"))


def _unlike(moments: list[Moment], count: int) -> Iterator[Moment]:
    """The one with most contrast, then again and again the one farthest from those that were taken."""
    pictures = [moment.thumbnail.astype(np.float32) for moment in moments]
    weight = [min(float(picture.std()) / FULL_CONTRAST, 1.0) + 1e-6 for picture in pictures]
    distance = np.array([float(picture.std()) + 1e6 for picture in pictures])
    for _ in range(min(count, len(moments))):
        taken = int((distance * weight).argmax())
        yield moments[taken]
        apart = [float(np.abs(picture - pictures[taken]).mean()) + 1e-3 for picture in pictures]
        distance = np.minimum(distance, apart)
        distance[taken] = -1.0
