"""Orientation: how a decoded picture is to be turned and mirrored before it is shown."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ksnet_deploy.base.frames import FrameSize

__all__ = ["DisplayMatrix"]

UNIT = 1 << 16


class DisplayMatrix(NamedTuple):
    """The matrix ``[a b u; c d v; x y w]`` of ISO/IEC 14496-12: (p, q) is shown at (ap + cq + x, bp + dq + y).

    Integers as in files: units of 1/65536, ``u``, ``v`` and ``w`` of 1/2**30.
    """

    values: tuple[int, ...]
    """Numbers of the matrix, row by row."""

    @classmethod
    def parse(cls, data: bytes) -> DisplayMatrix | None:
        """Matrix in FFmpeg's AV_FRAME_DATA_DISPLAYMATRIX; None for the one that changes nothing."""
        found = cls(struct.unpack("9i", data))
        return None if found.turns == (1, 0, 0, 1) else found

    @property
    def turns(self) -> tuple[int, int, int, int] | None:
        """``a``, ``b``, ``c`` and ``d`` in whole units, of quarter turns and mirrors; None for other matrices."""
        a, b, _, c, d, _, _, _, _ = (value / UNIT for value in self.values)
        whole = round(a), round(b), round(c), round(d)
        exact = max(abs(x - y) for x, y in zip(whole, (a, b, c, d), strict=True)) < 0.001
        return whole if exact and sorted(map(abs, whole)) == [0, 0, 1, 1] and abs(whole[0]) == abs(whole[3]) else None

    def scaled(self, before: FrameSize, after: FrameSize) -> DisplayMatrix:
        """Matrix for a resized picture: its offsets, in pixels, grow with it."""
        a, b, u, c, d, v, x, y, w = self.values
        turned = self.turns is not None and self.turns[0] == 0
        shown = [(s.width, s.height) if turned else (s.height, s.width) for s in (before, after)]
        down, right = (Fraction(new, old) for old, new in zip(*shown, strict=True))
        return DisplayMatrix((a, b, u, c, d, v, round(x * right), round(y * down), w))

    def upright_size(self, size: FrameSize) -> FrameSize:
        """Size of a picture, turned as it is to be shown."""
        return FrameSize(size.width, size.height) if self.turns is not None and self.turns[0] == 0 else size

    def upright(self, rgb: NDArray[Any]) -> NDArray[Any]:
        """An (H, W, 3) picture, turned and mirrored as it is to be shown; by quarter turns only, else as it is."""
        if self.turns is None:
            return rgb
        a, b, c, d = self.turns
        if a == 0:  # columns become rows
            rgb, a, d = np.swapaxes(rgb, 0, 1), c, b
        return np.ascontiguousarray(rgb[::d, ::a])
