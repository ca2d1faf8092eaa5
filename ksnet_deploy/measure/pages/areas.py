"""Areas of a picture: where its versions differ most, where most detail is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize
from ksnet_deploy.video.writing.comparison import Picture

__all__ = ["Area", "busiest", "most_different"]


class Area(NamedTuple):
    """A rectangle in a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, picture: NDArray[Any]) -> NDArray[Any]:
        """Part of a picture (H, W, ...) within the rectangle."""
        return picture[self.top : self.top + self.height, self.left : self.left + self.width]


def most_different(versions: Sequence[Picture], size: FrameSize) -> Area:
    """The area of a size in which versions (H, W, 3) of one picture are farthest from their mean, by the squares.

    An area that is larger than the picture becomes as large as the picture.
    """
    stack = np.stack([version.astype(np.float32) for version in versions])
    return _heaviest(((stack - stack.mean(axis=0)) ** 2).sum(axis=(0, 3)), size)


def busiest(picture: NDArray[Any], size: FrameSize) -> Area:
    """The area of a size with most detail in a picture (H, W, 3): the largest squared differences of neighbours."""
    values = picture.astype(np.float32) / np.iinfo(picture.dtype).max
    detail = np.zeros(values.shape[:2], np.float32)
    detail[1:] += ((values[1:] - values[:-1]) ** 2).sum(axis=-1)
    detail[:, 1:] += ((values[:, 1:] - values[:, :-1]) ** 2).sum(axis=-1)
    return _heaviest(detail, size)


def _heaviest(weights: NDArray[np.float32], size: FrameSize) -> Area:
    """The area of a size with the largest sum of weights (H, W); among equals the one nearest to the middle."""
    rows, columns = weights.shape
    height, width = min(size.height, rows), min(size.width, columns)
    sums = np.zeros((rows + 1, columns + 1))
    sums[1:, 1:] = weights.astype(np.float64).cumsum(axis=0).cumsum(axis=1)
    totals = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    tops, lefts = np.nonzero(totals >= totals.max() * (1 - 1e-9))
    away = np.abs(tops - (rows - height) / 2) + np.abs(lefts - (columns - width) / 2)
    nearest = int(away.argmin())
    return Area(int(tops[nearest]), int(lefts[nearest]), height, width)
